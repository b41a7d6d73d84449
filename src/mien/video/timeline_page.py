"""The timeline as one HTML file to hover over: nothing in it comes from another host."""

import base64
import json
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from mien.results import Image
from mien.video.summary import Summary
from mien.video.timeline import Timeline, TrackLine
from mien.video.timeline_picture import clock, colour_hex

TEMPLATE = "timeline.html"  # beside this file


def timeline_page(timeline: Timeline, summary: Summary, *, title: str) -> str:
    """The whole page: canvas drawings for the eye, a table of the summary for everybody else."""
    by_track = {one.track: one for one in summary.tracks}
    lines = timeline.lines()
    data = {
        "labels": list(timeline.labels),
        "colours": [colour_hex(label, timeline.labels) for label in timeline.labels],
        "start": round(timeline.origin_s or 0.0, 3),
        "end": round(timeline.end_s, 3),
        "bin": timeline.bin_s,
        "tracks": [_track_data(line, by_track[line.track].to_dict()) for line in lines],
    }
    script = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no "</script>" can be in it
    span = f"{clock(timeline.origin_s or 0.0)} to {clock(timeline.end_s)}"
    about = f"{timeline.known} track{'s' * (timeline.known != 1)}, {span}, {summary.frames:,} frames"
    if timeline.left_out:
        about += f"; the {timeline.left_out} shortest are not drawn"
    page = files("mien.video").joinpath(TEMPLATE).read_text(encoding="utf-8")
    for mark, text in (("@TITLE@", escape(title)), ("@ABOUT@", escape(about)), ("@DATA@", script)):
        page = page.replace(mark, text, 2)
    return page


def write_page(timeline: Timeline, summary: Summary, path: Path, *, title: str) -> None:
    """Write `timeline_page` to `path`."""
    path.write_text(timeline_page(timeline, summary, title=title), encoding="utf-8")


def _track_data(line: TrackLine, summary: dict[str, Any]) -> dict[str, Any]:
    """Per cent as whole numbers are as fine as a screen: a tenth of the size of floats."""
    return {
        **summary,
        "face": _data_address(line.thumbnail),
        "bins": line.bins.tolist(),
        "percent": np.rint(100 * line.probabilities).astype(int).tolist(),
        "shown": line.emotions.tolist(),
        "doubt": (line.uncertain > 0.5).astype(int).tolist(),
    }


def _data_address(image: Image) -> str:
    buffer = BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
