"""Pictures in: any source becomes one kind of array, `(H, W, 3)` RGB uint8, upright, and inside limits."""

import io
import os
import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.results import Image

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | PIL.Image.Image | NDArray[Any]
"""What `read_image` takes; an array is `(H, W)` grey, `(H, W, 3)` RGB or `(H, W, 4)` RGBA, uint8."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "AVIF", "TIFF", "JPEG2000", "QOI")
"""Pillow decoders in use; the first five are quick to import. The others stay off: EPS starts Ghostscript, ICO decodes
before its size can be looked at, several are old and little tested."""

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".qoi"),
        *(".heic", ".heif"),  # not read, but pictures: `read_image` names them and their cure
    }
)
"""Lower-case file name endings that count as pictures in a folder."""

BACKDROP_RGB = (255, 255, 255)  # under transparent pixels: what a browser or a viewer shows
ORIENTATION_TAG = 0x0112  # EXIF 2.32, section 4.6.4
UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
SHOWN_NAME = 200  # characters of a name that is no path, such as a picture in base64
REDUCTIONS = (8, 4, 2)  # what libjpeg-turbo's scaled inverse DCT can divide a picture by
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
MAX_SCANS = 100  # of a JPEG: usual ones have up to 10, and each is one more pass over the whole picture
SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # JPEG's markers (T.81, B.1.1) that have a length, and EOI
END, SCAN = b"\xd9", b"\xda"
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, MemoryError),
    *(RuntimeError, zlib.error, struct.error),
)
"""What Pillow's decoders raise on damaged files, found by overwriting bytes of each format."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture may cost. Checked on the file and its header, before a pixel is decoded."""

    max_bytes: int = 64 << 20  # of the file
    max_pixels: int = 80_000_000  # 240 MB decoded; under Pillow's own warning at 89 million
    min_side_px: int = 8  # a smaller picture cannot show a face


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A picture that may have been decoded at a fraction of its size, and can still be had whole.

    Coordinates of `image` times `scale_xy` are coordinates of the whole picture.
    """

    image: Image
    width: int  # of the whole picture, upright
    height: int
    _encoded: tuple[str, bytes, Limits] | None = field(default=None, repr=False)  # where `image` is reduced

    @property
    def is_reduced(self) -> bool:
        """Whether the file holds more detail than `image`."""
        return self._encoded is not None

    @property
    def scale_xy(self) -> NDArray[np.float32]:
        """`(2,)`, at least 1."""
        return np.array([self.width / self.image.shape[1], self.height / self.image.shape[0]], np.float32)

    def whole(self) -> Image:
        """The picture at its full size; decoded at each call.

        Raises:
            ImageError: the file is damaged in a way that its reduced form did not show.
        """
        if self._encoded is None:
            return self.image
        name, data, limits = self._encoded
        with _opened(name, data, limits) as picture:
            return _decode(picture, name, limits)


def read_photo(source: Source, *, limits: Limits = DEFAULT_LIMITS, side_px: int | None = None) -> Photo:
    """Read a picture as `read_image` does; a JPEG's longer side may come out shorter, but not under `side_px`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, where that divides both sides, by leaving out the fine
    coefficients of its 8 x 8 blocks, which saves most of the work; other formats, arrays and PIL images, and everything
    without `side_px`, stay whole.

    Raises:
        ImageError: as `read_image`.
    """
    if side_px is None or isinstance(source, (np.ndarray, PIL.Image.Image)):
        image = read_image(source, limits=limits)
        return Photo(image, image.shape[1], image.shape[0])
    name, data = _read_bytes(source, limits)
    with _opened(name, data, limits) as picture:
        _check_size(name, *picture.size, limits)
        width, height = picture.size
        for step in REDUCTIONS:
            # a last block that is not full would shift everything by a part of a pixel: up to `step` of the whole's
            if max(width, height) >= step * side_px and width % step == height % step == 0:
                picture.draft(None, (width // step, height // step))  # no-op unless it is a JPEG
                break
        reduced = picture.size != (width, height)
        if _orientation(picture) in SIDEWAYS:
            width, height = height, width
        image = _decode(picture, name, limits if not reduced else replace(limits, min_side_px=1))
    return Photo(image, width, height, (name, data, limits) if reduced else None)


def read_image(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Image:
    """Read a picture as `(H, W, 3)` RGB uint8, upright by its EXIF orientation.

    Transparent pixels are laid on white; 16-bit samples keep their upper half (0..65535 becomes 0..255); of an
    animation the first frame is taken; embedded colour profiles are not applied. An RGB array passes through
    without a copy.

    Raises:
        ImageError: the source is missing, no picture, damaged, cut short, of floats, or outside `limits`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, PIL.Image.Image):
        name = str(getattr(source, "filename", "")) or "the PIL image"
        return _decode(source, name, limits)
    name, data = _read_bytes(source, limits)
    with _opened(name, data, limits) as picture:
        return _decode(picture, name, limits)


def is_picture(path: str) -> bool:
    """Whether a file in a folder or archive counts as a picture, by its name; hidden ones do not."""
    name = PurePath(path).name
    return not name.startswith(".") and PurePath(name).suffix.lower() in SUFFIXES


def source_name(source: Source) -> str:
    """How messages and results call a source: its path, or its kind."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"picture of {len(source):,} bytes"
    if isinstance(source, np.ndarray):
        return f"array {source.dtype} {source.shape}"
    path = getattr(source, "name", None) or getattr(source, "filename", None)
    return path if isinstance(path, str) else type(source).__name__


def write_image(image: Image, path: Path) -> None:
    """Save `(H, W, 3)` RGB by the ending of `path` (.png, .jpg, .webp, ...); folders are made, JPEG is near lossless.

    Raises:
        ImageError: the ending is unknown or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(path, quality=95)
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"{path}: cannot write it: {error}") from error


def _read_bytes(source: str | os.PathLike[str] | bytes | BinaryIO, limits: Limits) -> tuple[str, bytes]:
    """Name and whole content of a path, bytes or file object; no more than the limit is ever read."""
    name = source_name(source)
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(name, limits)
    elif hasattr(source, "read"):
        data = _read_file(name, source, limits)
    else:
        raise ImageError(f"{name}: no picture source: give a path, bytes, a file, a PIL image or a uint8 array")
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes): copy or download it again")
    if len(data) > limits.max_bytes:
        raise ImageError(f"{name}: more than {_short(limits.max_bytes / 2**20)} MiB: save it smaller")
    return name, data


def _read_file(name: str, file: BinaryIO, limits: Limits) -> bytes:
    text = ImageError(f"{name}: is open in text mode: open it with mode 'rb'")
    if isinstance(file, io.TextIOBase):
        raise text
    try:
        data = file.read(limits.max_bytes + 1)
        at_its_end = not data and hasattr(file, "seekable") and file.seekable() and file.tell() > 0
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise ImageError(f"{name}: cannot be read ({error}): open it again") from error
    if not isinstance(data, bytes):
        raise text
    if at_its_end:
        raise ImageError(f"{name}: is at its end: go back with seek(0) before it is read")
    return data


def _read_path(name: str, limits: Limits) -> bytes:
    if name.startswith("data:"):
        raise ImageError("a data: address instead of a file: decode it (base64.b64decode) and pass the bytes")
    if name.startswith(("http://", "https://")):
        raise ImageError(f"{name}: mien reads files, it does not fetch addresses: download it first")
    try:
        with Path(name).open("rb") as file:
            return file.read(limits.max_bytes + 1)  # also bounds what has no size, like a pipe or /dev/zero
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file: check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: is a folder: name a picture inside it") from error
    except PermissionError as error:
        raise ImageError(f"{name}: may not be read: check its permissions") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        shown = name if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]}…"
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown!r}: cannot be read ({reason}): check the path") from error


def _opened(name: str, data: bytes, limits: Limits) -> PIL.Image.Image:
    """The picture in `data` with its header read; `name` stands for it in errors.

    Raises:
        ImageError: it is no picture that mien reads, its header is damaged, or it would take too long to decode.
    """
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {_too_large(limits)}") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{name}: {_not_a_picture(data)}") from error
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged ({error}): save or copy it again") from error
    if picture.format in ("JPEG", "MPO") and _has_too_many_scans(data):
        raise ImageError(f"{name}: a JPEG of more than {MAX_SCANS} scans: save it again")
    return picture


def _has_too_many_scans(jpeg: bytes) -> bool:
    """Whether the first picture in `jpeg` has more than `MAX_SCANS` scans; what only looks like one is not counted."""
    if jpeg.count(b"\xff" + SCAN) <= MAX_SCANS:
        return False
    place, scans = 0, 0
    while scans <= MAX_SCANS and (found := SEGMENT.search(jpeg, place)) and found[1] != END:
        scans += found[1] == SCAN
        place = found.end() + max(2, int.from_bytes(jpeg[found.end() : found.end() + 2], "big"))
    return scans > MAX_SCANS


def _not_a_picture(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "a HEIC picture, which mien does not read: save it as JPEG or PNG"
    return "no picture that mien knows: give a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file"


def _too_large(limits: Limits) -> str:
    return f"more than {_short(limits.max_pixels / 1e6)} million pixels: scale it down"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(f"{name}: {width:,} x {height:,} pixels, {_too_large(limits)}")
    if min(width, height) < limits.min_side_px:
        raise ImageError(
            f"{name}: {width} x {height} pixels is too small to show a face: "
            f"give a picture of {limits.min_side_px} or more on each side"
        )


def _from_array(array: NDArray[Any], limits: Limits) -> Image:
    name = source_name(array)
    array = np.asarray(array)  # no np.matrix or masked array: their operations are others
    if array.dtype != np.uint8:
        cure = "multiply 0..1 by 255 and convert to uint8" if array.dtype.kind == "f" else "scale it to uint8, 0..255"
        raise ImageError(f"{name}: arrays must be uint8: {cure}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{name}: an image is (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA: reshape it")
    _check_size(name, array.shape[1], array.shape[0], limits)
    if array.ndim == 2:
        return np.repeat(array[..., None], 3, axis=2)
    if array.shape[2] == 4:
        return np.array(_on_backdrop(PIL.Image.fromarray(np.ascontiguousarray(array))))
    return np.ascontiguousarray(array)


def _decode(picture: PIL.Image.Image, name: str, limits: Limits) -> Image:
    """Decode, turn upright and convert an opened picture, which stays as it is."""
    _check_size(name, *picture.size, limits)
    try:
        picture.load()
        rgb = _to_rgb(picture, name)
        turn = UPRIGHT.get(_orientation(picture))
        return np.array(rgb if turn is None else rgb.transpose(turn))
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged or cut short ({error}): copy or download it again") from error


def _orientation(picture: PIL.Image.Image) -> int:
    """EXIF orientation, 1..8; 1, as stored, where the EXIF block is missing or damaged."""
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Any Pillow mode as RGB."""
    if picture.mode.startswith("I"):  # 16-bit grey: I;16, or I where the file does not say
        samples = np.asarray(picture)
        # up to 255 they are hardly 16 bits, which would be all black; netpbm files say that they are
        unclear = picture.mode == "I" and picture.format != "PPM" and samples.max(initial=0) <= 0xFF
        if unclear or samples.min(initial=0) < 0 or samples.max(initial=0) > 0xFFFF:
            raise ImageError(f"{name}: 32-bit samples have no fixed white: convert it to 8 or 16 bits")
        return PIL.Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ImageError(f"{name}: floating-point samples have no fixed white: convert it to 8 or 16 bits")
    if picture.has_transparency_data:
        return _on_backdrop(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # convert() would copy it


def _on_backdrop(rgba: PIL.Image.Image) -> PIL.Image.Image:
    backdrop = PIL.Image.new("RGB", rgba.size, BACKDROP_RGB)
    backdrop.paste(rgba, mask=rgba)
    return backdrop
