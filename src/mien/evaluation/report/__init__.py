"""One page about one or several models: curves, confusions, calibration, ranking, the faces that they get wrong."""

from mien.evaluation.report.history import History, read_history
from mien.evaluation.report.subject import Subject
from mien.evaluation.report.writer import write_report

__all__ = ["History", "Subject", "read_history", "write_report"]
