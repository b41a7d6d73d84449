"""`read_image` against pictures made here, whose pixels are known."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images import FORMATS, MAX_SCANS, SUFFIXES, Limits, read_image, read_photo, source_name, write_image
from tests.bad_pictures import huge_png, jpeg_cut_in_half, jpeg_of_scans, one_pixel

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
BLOCK_PX = 16


def quarters() -> NDArray[np.uint8]:
    """(32, 48, 3): red and green above, blue and white below; no two ways up look the same."""
    picture = np.empty((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24], picture[16:, 24:] = RED, GREEN, BLUE, WHITE
    return picture


def encoded(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(orientation: Any) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encoded(PIL.Image.fromarray(quarters()), "PNG", exif=exif)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "QOI", "WEBP", "JPEG2000"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read_image(encoded(PIL.Image.fromarray(quarters()), kind, **options)), quarters())


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WEBP"])
def test_lossy_formats_keep_the_colours(kind: str) -> None:
    read = read_image(encoded(PIL.Image.fromarray(quarters()), kind, quality=95))
    for row, column in ((8, 12), (8, 36), (24, 12), (24, 36)):  # the middle of each quarter
        np.testing.assert_allclose(read[row, column].astype(int), quarters()[row, column], atol=12)


UPRIGHT_BY_HAND: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT_BY_HAND)
def test_exif_orientation(orientation: int) -> None:
    data = with_orientation(orientation)
    expected = UPRIGHT_BY_HAND[orientation](quarters())
    np.testing.assert_array_equal(read_image(data), expected)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(read_image(picture), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535], ids=["zero", "nine", "far out"])
def test_meaningless_orientation_is_upright(orientation: int) -> None:
    np.testing.assert_array_equal(read_image(with_orientation(orientation)), quarters())


def test_damaged_exif_is_upright() -> None:
    data = encoded(PIL.Image.fromarray(quarters()), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow tells of the damage
        np.testing.assert_array_equal(read_image(data), quarters())


def rgba_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    picture = PIL.Image.fromarray(quarters()).convert("RGBA")
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:16, :24], alpha[:16, 24:] = 0, 51  # red is gone, a fifth of green stays
    picture.putalpha(PIL.Image.fromarray(alpha))
    expected = quarters()
    expected[:16, :24], expected[:16, 24:] = WHITE, (204, 255, 204)
    return picture, expected


def palette_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    return PIL.Image.fromarray(quarters()).quantize(4), quarters()


def transparent_palette_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    picture = PIL.Image.new("P", (24, 16), 0)
    picture.putpalette([*RED, *BLUE])
    picture.paste(1, (0, 0, 12, 16))
    picture.info["transparency"] = 0
    expected = np.full((16, 24, 3), 255, np.uint8)
    expected[:, :12] = BLUE
    return picture, expected


def grey_alpha_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    picture = PIL.Image.new("LA", (16, 16), (0, 102))
    return picture, np.full((16, 16, 3), 255 - 102, np.uint8)


def bilevel_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    picture = PIL.Image.new("1", (16, 16), 1)
    return picture, np.full((16, 16, 3), 255, np.uint8)


def sixteen_bit_case() -> tuple[PIL.Image.Image, NDArray[np.uint8]]:
    samples = np.repeat(np.linspace(0, 65535, 32).astype(np.uint16)[None], 16, axis=0)
    return PIL.Image.fromarray(samples), np.repeat((samples // 256).astype(np.uint8)[..., None], 3, axis=2)


MODES = {
    "RGBA lies on white": (rgba_case, "PNG"),
    "palette": (palette_case, "PNG"),
    "palette with a transparent entry": (transparent_palette_case, "PNG"),
    "grey with alpha": (grey_alpha_case, "PNG"),
    "black and white": (bilevel_case, "PNG"),
    "16-bit grey PNG": (sixteen_bit_case, "PNG"),
    "16-bit grey TIFF": (sixteen_bit_case, "TIFF"),
}


@pytest.mark.parametrize(("case", "kind"), MODES.values(), ids=MODES)
def test_modes(case: Callable[[], tuple[PIL.Image.Image, NDArray[np.uint8]]], kind: str) -> None:
    picture, expected = case()
    np.testing.assert_array_equal(read_image(encoded(picture, kind)), expected)
    np.testing.assert_array_equal(read_image(picture), expected)


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_tiff_samples_without_a_fixed_white_are_refused(kind: str) -> None:
    """Up to 255 they would be black as 16 bits."""
    picture = PIL.Image.fromarray(np.tile(np.arange(64), (64, 1)).astype(kind))
    for source in (encoded(picture, "TIFF"), picture):
        with pytest.raises(ImageError, match="have no fixed white: convert it to 8 or 16 bits"):
            read_image(source)


def test_a_dark_16_bit_pgm_is_read() -> None:
    picture = PIL.Image.fromarray(np.full((16, 16), 255, np.int32))
    assert not read_image(encoded(picture, "PPM")).any()


def test_cmyk_tiff_and_adobe_inverted_jpeg_show_the_same_colours() -> None:
    """Adobe programs, and Pillow with them, store CMYK JPEGs inverted; TIFF stores the ink itself."""
    ink = np.zeros((16, 48, 4), np.uint8)
    ink[:, :16, 1:3] = 255  # magenta and yellow ink: red
    ink[:, 16:32, 0] = 255  # cyan ink
    ink[:, 32:, 3] = 255  # black ink
    picture = PIL.Image.frombytes("CMYK", (48, 16), ink.tobytes())
    jpeg = encoded(picture, "JPEG", quality=95)
    assert b"Adobe" in jpeg[:64]
    for data in (encoded(picture, "TIFF"), jpeg):
        read = read_image(data).astype(int)
        for column, colour in ((8, RED), (24, (0, 255, 255)), (40, (0, 0, 0))):
            np.testing.assert_allclose(read[8, column], colour, atol=12)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    first = PIL.Image.fromarray(quarters())
    options = {"lossless": True} if kind == "WEBP" else {}
    others = [PIL.Image.new("RGB", first.size, BLUE)]
    data = encoded(first, kind, save_all=True, append_images=others, **options)
    np.testing.assert_array_equal(read_image(data), quarters())


# --- where it comes from ----------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(quarters()).save(path)
    return path


def test_every_kind_of_source_reads_the_same(photo: Path) -> None:
    data = photo.read_bytes()
    with photo.open("rb") as file, PIL.Image.open(photo) as picture:
        for source in (photo, str(photo), data, io.BytesIO(data), file, picture, quarters()):
            np.testing.assert_array_equal(read_image(source), quarters())


@pytest.mark.parametrize("name", ["größe 写真 🙂.png", "émotion.png", "-dash.png", "a b'c\"d.png"])
def test_any_file_name(photo: Path, name: str) -> None:
    path = photo.rename(photo.with_name(name))
    np.testing.assert_array_equal(read_image(path), quarters())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no undecodable names")
def test_a_name_that_is_no_unicode(photo: Path) -> None:
    path = os.fsdecode(os.fsencode(photo.parent) + b"/\xff\xfe.png")
    photo.rename(path)
    np.testing.assert_array_equal(read_image(path), quarters())


class Matrix(np.ndarray):
    """As `np.matrix`, whose use warns: never of more than two dimensions."""

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("no array of another kind is worked on")


ARRAYS = {
    "grey (H, W)": (quarters()[..., 0], np.repeat(quarters()[..., :1], 3, axis=2)),
    "grey (H, W, 1)": (quarters()[..., :1], np.repeat(quarters()[..., :1], 3, axis=2)),
    "RGBA, half transparent": (np.full((16, 16, 4), (0, 0, 0, 51), np.uint8), np.full((16, 16, 3), 204, np.uint8)),
    "a matrix": (quarters()[..., 0].view(Matrix), np.repeat(quarters()[..., :1], 3, axis=2)),
    "a view with strides": (quarters()[::-1, ::-1], quarters()[::-1, ::-1].copy()),
}


@pytest.mark.parametrize(("array", "expected"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(array: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    read = read_image(array)
    np.testing.assert_array_equal(read, expected)
    assert read.flags.c_contiguous


def test_an_rgb_array_is_not_copied() -> None:
    picture = quarters()
    assert read_image(picture) is picture


def test_a_pil_image_stays_as_it_is(photo: Path) -> None:
    with PIL.Image.open(photo) as picture:
        picture.putalpha(0)
        read_image(picture)
        assert picture.mode == "RGBA"


# --- what is refused --------------------------------------------------------------------------------------------------


REFUSED_ARRAYS = {
    "floats in 0..1": (quarters() / 255, "multiply 0..1 by 255"),
    "16-bit": (quarters().astype(np.uint16), "scale it to uint8"),
    "a batch": (quarters()[None], r"\(H, W, 3\) RGB"),
    "channels first": (quarters().transpose(2, 0, 1), r"\(H, W, 3\) RGB"),
    "no pixels": (quarters()[:0], "too small"),
    "text": (np.array(["a"]), "uint8"),
}


@pytest.mark.parametrize(("array", "words"), REFUSED_ARRAYS.values(), ids=REFUSED_ARRAYS)
def test_refused_arrays(array: NDArray[Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_image(array)


def test_floating_point_and_32_bit_files_are_refused() -> None:
    for samples, words in ((np.ones((16, 16), np.float32), "floating"), (np.full((16, 16), 1 << 20, np.int32), "32")):
        with pytest.raises(ImageError, match=words):
            read_image(encoded(PIL.Image.fromarray(samples), "TIFF"))


REFUSED_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"this is no picture", "no picture that mien knows"),
    "HTML": (b"<!doctype html><title>Not found</title>", "no picture that mien knows"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n", "no picture that mien knows"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "truncated JPEG": (jpeg_cut_in_half(), "damaged or cut short"),
    "truncated PNG": (with_orientation(1)[:-40], "damaged or cut short"),
    "JPEG header alone": (jpeg_cut_in_half()[:20], "no picture that mien knows"),
    "1 x 1": (one_pixel(), "1 x 1 pixels is too small"),
    "a line": (encoded(PIL.Image.new("RGB", (500, 2)), "PNG"), "500 x 2 pixels is too small"),
    "20,000 x 20,000": (huge_png(20_000), "million pixels"),
    "10,000 x 10,000": (huge_png(10_000), "million pixels"),
}


@pytest.mark.parametrize(("data", "words"), REFUSED_FILES.values(), ids=REFUSED_FILES)
def test_refused_files(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=words) as refusal:
            read_image(path)
    message = str(refusal.value)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_the_bomb_is_a_valid_picture() -> None:
    with PIL.Image.open(io.BytesIO(huge_png(500))) as picture:
        assert not np.asarray(picture).any()
    with pytest.raises(ImageError, match="500 x 500"):
        read_image(huge_png(500), limits=Limits(max_pixels=249_999))


def test_a_bomb_is_refused_where_warnings_are_errors() -> None:
    with pytest.raises(ImageError, match="million pixels"):
        read_image(huge_png(10_000))


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: PIL.Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(ImageError, match=r"40 x 40 pixels, more than 0\.0016 million"):
        read_image(encoded(PIL.Image.new("RGB", (40, 40)), "PNG"), limits=Limits(max_pixels=1599))


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan goes over the whole picture: 474 kB of 6,001 scans held a core for 45 s."""
    assert read_image(jpeg_of_scans(MAX_SCANS)).shape == (64, 64, 3)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    for read in (read_image, read_photo):
        with pytest.raises(ImageError, match="more than 100 scans"):
            read(jpeg_of_scans(MAX_SCANS + 1))


def test_fill_bytes_and_lone_markers_hide_no_scan() -> None:
    """0xFF may precede any marker, and TEM has no length: taken as one, it would skip the scans behind it."""
    first, *others = jpeg_of_scans(MAX_SCANS + 1).split(b"\xff\xda")
    for marker in (b"\xff\xff\xda", b"\xff\x01\xff\xda"):
        with pytest.raises(ImageError, match="more than 100 scans"):
            read_image(marker.join([b"\xff\xda".join([first, others[0]]), *others[1:]]))


def test_what_only_looks_like_a_scan_is_not_counted() -> None:
    """A comment, an appended film and a second picture may hold the two bytes any number of times."""
    plain = encoded(PIL.Image.fromarray(quarters()), "JPEG", quality=95)
    fakes = b"\xff\xda" * (2 * MAX_SCANS)
    comment = b"\xff\xfe" + (len(fakes) + 2).to_bytes(2, "big") + fakes
    for read in (plain[:2] + comment + plain[2:], plain + fakes):
        np.testing.assert_array_equal(read_image(read), read_image(plain))


def test_limits_of_bytes() -> None:
    data = encoded(PIL.Image.fromarray(quarters()), "BMP")
    read_image(data, limits=Limits(max_bytes=len(data)))
    for source in (data, io.BytesIO(data)):
        with pytest.raises(ImageError, match=r"more than 0\.0044 MiB"):
            read_image(source, limits=Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize(("pixels", "words"), [(100, "0.0001"), (15_000_000, "15"), (1_500_000, "1.5")])
def test_limits_of_pixels_are_told(pixels: int, words: str) -> None:
    with pytest.raises(ImageError, match=f"more than {words} million pixels"):
        read_image(np.zeros((4000, 4000), np.uint8), limits=Limits(max_pixels=pixels))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_an_endless_file_ends_at_the_limit() -> None:
    with pytest.raises(ImageError, match="more than"):
        read_image("/dev/zero", limits=Limits(max_bytes=1 << 20))


PATHS = {
    "missing": ("missing.jpg", "no such file"),
    "folder": (".", "is a folder"),
    "address": ("https://example.org/a.jpg", "download it first"),
    "NUL in the name": ("a\0b.jpg", "cannot be read"),
    "too long a name": ("x" * 5000, "cannot be read"),
}


@pytest.mark.parametrize(("path", "words"), PATHS.values(), ids=PATHS)
def test_refused_paths(path: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=words):
        read_image(path)


def test_no_permission(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may read everything."""

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="check its permissions"):
        read_image(photo)


def test_a_file_in_text_mode(photo: Path) -> None:
    with pytest.raises(ImageError, match="mode 'rb'"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]


def test_a_photo_in_text_mode(photo: Path) -> None:
    """Its bytes are no text, and would fail to be read as such."""
    with photo.open(encoding="utf-8") as file, pytest.raises(ImageError, match="mode 'rb'"):
        read_image(file)  # type: ignore[arg-type]


def test_a_closed_file(photo: Path) -> None:
    with photo.open("rb") as file:
        pass
    with pytest.raises(ImageError, match="open it again"):
        read_image(file)


def test_a_file_at_its_end() -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(quarters()).save(buffer, "PNG")
    with pytest.raises(ImageError, match=r"seek\(0\)"):
        read_image(buffer)


@pytest.mark.parametrize("start", ["data:image/jpeg;base64,", ""])
def test_base64_makes_a_short_message(start: str) -> None:
    with pytest.raises(ImageError) as found:
        read_image(start + "/9j/4AAQ" * 100_000)
    assert len(str(found.value)) < 400


def test_no_source_at_all() -> None:
    with pytest.raises(ImageError, match="give a path"):
        read_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "QOI"])
def test_damage_is_an_image_error_or_a_picture(kind: str) -> None:
    """Random bytes overwritten: whatever a decoder raises comes out as `ImageError`."""
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(PIL.Image.fromarray(quarters()), kind), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about the damage
        for _ in range(60):
            damaged = whole.copy()
            places = rng.integers(0, min(len(damaged), 400), rng.integers(1, 8))
            damaged[places] = rng.integers(0, 256, len(places), np.uint8)
            try:
                read = read_image(damaged.tobytes(), limits=Limits(max_pixels=1_000_000))
            except ImageError:
                continue
            assert read.dtype == np.uint8
            assert read.shape[2] == 3


# --- names and writing ------------------------------------------------------------------------------------------------


def test_source_names(photo: Path) -> None:
    with photo.open("rb") as file:
        assert source_name(file) == str(photo)
    assert source_name(photo) == str(photo)
    assert source_name(b"12") == "picture of 2 bytes"
    assert source_name(io.BytesIO()) == "BytesIO"
    assert source_name(quarters()) == "array uint8 (32, 48, 3)"


def test_every_suffix_has_a_decoder_in_use() -> None:
    PIL.Image.init()
    unread = {".heic", ".heif"}  # counted as pictures, to be named
    assert {PIL.Image.registered_extensions()[suffix] for suffix in SUFFIXES - unread} <= {
        *FORMATS,
        "DIB",
        "MPO",
    }  # by other decoders


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "photo.png"
    write_image(quarters(), path)
    np.testing.assert_array_equal(read_image(path), quarters())


@pytest.mark.parametrize("name", ["photo.xyz", "photo"])
def test_write_to_an_unknown_kind(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot write"):
        write_image(quarters(), tmp_path / name)
