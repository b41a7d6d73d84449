"""What users name as SOURCE, as frames: a film, a folder or pattern of pictures, a stream, a camera's number."""

import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from pathlib import Path

import numpy as np

from mien.errors import ImageError, VideoError
from mien.images import is_picture, read_image
from mien.video.camera import Camera
from mien.video.film import Film, is_address
from mien.video.frames import ClosedAfterUse, Frame, FrameSource, SourceInfo, SourceOptions

DEFAULT_OPTIONS = SourceOptions()
NUMBERED = re.compile(r"%0?\d*d")  # frame-%05d.png, as FFmpeg and OpenCV name sequences


def open_source(
    source: str, *, options: SourceOptions = DEFAULT_OPTIONS, notify: Callable[[str], None] | None = None
) -> FrameSource:
    """Frames of a film, of pictures in a folder or by a pattern (`*.png`, `%05d.png`), of a stream or of a camera.

    `notify` takes sentences about a camera that is waited for.

    Raises:
        VideoError: there is no such thing, it cannot be opened, or holds no pictures.
        MissingExtraError: it is a film or a stream, and PyAV is not installed.
    """
    if source.isdecimal():
        return Camera(int(source), options=options, notify=notify)
    path = Path(source)
    is_pattern = NUMBERED.search(path.name) or any(sign in path.name for sign in "*?[")
    if not is_address(source) and (path.is_dir() or (is_pattern and not path.exists())):
        return PictureSequence(source, options)
    return Film(source, options)


class PictureSequence(ClosedAfterUse):
    """Pictures of a folder or pattern as a film: by the numbers in their names, at a frame rate of the options.

    Pictures that are damaged, or of another size than the first one, are skipped and counted; they keep their time.
    """

    def __init__(self, source: str, options: SourceOptions) -> None:
        """List the pictures; none is read yet.

        Raises:
            VideoError: there are none.
        """
        self._options = options
        self.broken = 0
        self.fault: str | None = None
        try:
            self._paths = _listed(Path(source))
        except OSError as error:
            raise VideoError(f"{source}: cannot be searched ({error.strerror}): check the folder") from error
        if not self._paths:
            raise VideoError(f"{source}: no pictures there: name a folder or pattern of JPEG or PNG files")
        rate_hz = options.sequence_hz
        self.info = SourceInfo(name=source, duration_s=len(self._paths) / rate_hz, rate_hz=rate_hz)

    def __iter__(self) -> Iterator[Frame]:
        rate_hz, end_s = self._options.sequence_hz, self._options.end_s
        first = int(np.ceil(round(self._options.start_s * rate_hz, 6)))
        shape: tuple[int, ...] | None = None
        for number in range(first, len(self._paths), self._options.every):
            if end_s is not None and number / rate_hz > end_s:
                return
            try:
                image = read_image(self._paths[number])
            except ImageError:
                self.broken += 1
                continue
            shape = shape or image.shape
            if image.shape != shape:
                self.broken += 1
                continue
            yield Frame(image, number / rate_hz, number - first - self.broken)


def _listed(source: Path) -> list[Path]:
    """Pictures of a folder, or those that a pattern in the last part of the path names, by their numbers."""
    if source.is_dir():
        names = [path.name for path in source.iterdir()]
        folder = source
    else:
        folder = source.parent
        pattern = re.escape(NUMBERED.sub("\0", source.name)).replace("\0", "[0-9]+")
        numbered = re.compile(pattern if NUMBERED.search(source.name) else translate(source.name))
        names = [path.name for path in folder.iterdir() if numbered.fullmatch(path.name)]
    return [folder / name for name in sorted(filter(is_picture, names), key=_by_number)]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts frame-2 before frame-10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
