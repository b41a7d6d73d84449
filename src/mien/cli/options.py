"""Options that several verbs share, so that they read the same everywhere; it imports typer alone."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What goes to stdout."""

    TABLE = "table"
    JSON = "json"


class DetectorName(StrEnum):
    """As `mien.faces.detect.NAMES`."""

    CENTERFACE = "centerface"
    YUNET = "yunet"
    NONE = "none"


class SplitName(StrEnum):
    """Which images; the test split is opened when it is asked for by name, and by nothing else."""

    VALIDATION = "validation"
    TEST = "test"


class TtaName(StrEnum):
    """As `mien.evaluation.tta.VIEWS`, which a test compares."""

    NONE = "none"
    FLIP = "flip"
    FULL = "full"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="Form of the result on stdout.")]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name of a model (`mien models` lists them) or an .onnx file.")
]
DetectorOption = Annotated[
    DetectorName, typer.Option("--detector", "-d", help="Finds the faces; none: each picture is one face crop.")
]
SplitOption = Annotated[SplitName, typer.Option(help="Which images.")]
TtaOption = Annotated[
    TtaName, typer.Option(help="Average over 1, 2 (mirrored) or 10 (also shifted) views of each face.")
]
ExcludeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Images to leave out, one name a line, as `mien data audit` lists them.",
        show_default=False,
    ),
]
DetectEveryOption = Annotated[
    int | None, typer.Option("--detect-every", metavar="N", help="Frames from one detection to the next.")
]
HalfLifeOption = Annotated[
    float | None, typer.Option("--half-life", metavar="SECONDS", help="Of the smoothing of probabilities.")
]
HysteresisOption = Annotated[
    float | None, typer.Option("--hysteresis", metavar="P", help="Lead that another emotion needs to be shown.")
]
