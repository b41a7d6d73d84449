"""Everything that is kept of a film: the marked copy, the table, the timeline, the summary."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import ConfigError, VideoError, require
from mien.files import check_writable, printable
from mien.pipeline import Analyzer
from mien.video import table, timeline_page, timeline_picture
from mien.video.analyze import FrameResult
from mien.video.draw import draw_faces
from mien.video.frames import SourceInfo
from mien.video.summary import Summary
from mien.video.timeline import Timeline
from mien.video.writer import CODECS, FilmWriter

PICTURES = (".png", ".svg", ".pdf")
PAGES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Which files to write."""

    film: Path | None = None
    table: Path | None = None
    timeline: Path | None = None

    def check(self, source: str) -> None:
        """Find what cannot be written before the first frame is read.

        Raises:
            ConfigError: an ending is unknown, or a file is the source itself.
            MissingExtraError: an optional package is missing.
        """
        _check_ending("--output", self.film, tuple(CODECS))
        _check_ending("--table", self.table, tuple(table.TABLES))
        _check_ending("--timeline", self.timeline, PICTURES + PAGES)
        for path in (self.film, self.table, self.timeline):
            if path is not None and path.exists() and Path(source).exists() and path.samefile(source):
                raise ConfigError(f"{path} is the source itself: choose another name")
        if self.film is not None:
            require("av", "video")
        if self.table is not None and self.table.suffix.lower() == ".parquet":
            require("pyarrow", "video")
        if self.timeline is not None and self.timeline.suffix.lower() in PICTURES:
            require("matplotlib", "video")


def _check_ending(option: str, path: Path | None, endings: tuple[str, ...]) -> None:
    if path is not None and path.suffix.lower() not in endings:
        raise ConfigError(f"{path}: {option} ends with {', '.join(endings)}")


class Outputs:
    """Takes results in order; closed at any moment, all files are valid and hold what came."""

    def __init__(self, paths: Paths, analyzer: Analyzer, info: SourceInfo, *, start_s: float = 0.0) -> None:
        """Open what is written as it goes; `start_s` of the source is where the film begins.

        Raises:
            VideoError: a file cannot be made.
            MissingExtraError: an optional package is missing.
        """
        self.summary = Summary(live=info.live)
        self._paths, self._info = paths, info
        self._film = self._table = None
        self._timeline = None if paths.timeline is None else Timeline(analyzer.labels)
        try:
            if paths.timeline is not None:
                check_writable(paths.timeline)
            if paths.film is not None:
                sound = info.audio_path
                self._film = FilmWriter(paths.film, rate_hz=info.rate_hz, audio_path=sound, start_s=start_s)
            if paths.table is not None:  # last: it is written over at once, for nothing where another file fails
                about = {"source": info.name, **analyzer.provenance}
                self._table = table.open_table(paths.table, analyzer.labels, about=about)
        except OSError as error:
            raise VideoError(f"{error.filename}: cannot be written ({error.strerror}): choose another name") from error

    @property
    def problem(self) -> str | None:
        """A sentence where something was left out, such as sound that cannot be read."""
        return None if self._film is None else self._film.problem

    def add(self, result: FrameResult) -> None:
        """One frame with its faces."""
        frame, faces = result.frame, result.faces
        self.summary.add(frame.time_s, faces)
        if self._table is not None and faces:
            self._table.write([table.row(frame, face) for face in faces])
        if self._timeline is not None:
            self._timeline.add(frame.image, frame.time_s, faces)
        if self._film is not None:
            self._film.write(draw_faces(frame.image, faces), frame.time_s)

    def close(self) -> None:
        """Finish every file; one that fails keeps none of the others from being finished.

        Raises:
            VideoError: the first fault.
        """
        self.summary.close()
        faults: list[Exception] = []
        for finish in (self._close_table, self._close_film, self._draw_timeline):
            try:
                finish()
            except (VideoError, OSError) as error:
                faults.append(error)
        if faults:
            raise faults[0]

    def _close_table(self) -> None:
        if self._table is not None:
            self._table.close()

    def _close_film(self) -> None:
        if self._film is not None:
            self._film.close()

    def _draw_timeline(self) -> None:
        path = self._paths.timeline
        if path is None or self._timeline is None:
            return
        title = printable(Path(self._info.name).name or self._info.name)
        if path.suffix.lower() in PAGES:
            timeline_page.write_page(self._timeline, self.summary, path, title=title)
        else:
            timeline_picture.write_picture(self._timeline, path, title=title)


def summary_dict(summary: Summary, about: dict[str, Any]) -> dict[str, Any]:
    """The summary of a film as JSON-safe entry, after what `about` says of it."""
    return {
        **about,
        "frames": summary.frames,
        "first_s": None if summary.first_s is None else round(summary.first_s, 3),
        "last_s": round(summary.last_s, 3),
        "tracks": [one.to_dict() for one in summary.tracks],
    }
