"""`mien predict`: forms, sources, exit codes, and every kind of bad input."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.bad_pictures import huge_png, jpeg_cut_in_half, one_pixel

from mien.cli import predict, progress
from mien.cli.sources import Found, expand, output_paths
from mien.files import printable
from mien.images import read_image
from mien.labels import FER7

Run = Callable[..., Any]


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """One 48 x 48 face crop, so that the detector can be `none`."""
    path = tmp_path / "crop.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def predict_crops(mien_command: Run, tiny_onnx: Path) -> Run:
    """`mien predict` with the tiny model and without detection."""
    return lambda *arguments: mien_command("predict", *arguments, "--model", tiny_onnx, "--detector", "none")


# --- forms ------------------------------------------------------------------------------------------------------------


def test_table_of_a_photo(mien_command: Run, tiny_onnx: Path, grace_hopper: Path) -> None:
    run = mien_command("predict", grace_hopper, "--model", tiny_onnx)
    assert run.code == 0
    assert run.err == ""
    head, row = run.out.splitlines()
    assert head.split() == ["face", "emotion", *FER7, "centre", "picture"]
    cells = row.split()
    assert cells[0] == "1"
    assert cells[1].rstrip("?") in FER7
    assert sum(int(cell) for cell in cells[4:11]) == pytest.approx(100, abs=4)
    assert cells[-1] == str(grace_hopper)


def test_json_is_stable(predict_crops: Run, crop: Path, tiny_onnx: Path) -> None:
    run = predict_crops(crop, "--format", "json")
    (entry,) = json.loads(run.out)
    assert list(entry) == ["source", "width", "height", "faces", "model"]
    assert (entry["source"], entry["width"], entry["height"]) == (str(crop), 48, 48)
    (face,) = entry["faces"]
    assert list(face) == [
        *("box_xyxy", "landmarks", "score", "emotion", "confidence", "probabilities", "uncertain", "quality")
    ]
    assert list(face["probabilities"]) == list(FER7)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert list(face["quality"]) == ["size_px", "blur", "tilt_deg", "turn_ratio"]
    assert list(entry["model"]) == [
        *("name", "sha256", "temperature", "threshold", "precision", "licence", "provider", "detector", "version")
    ]
    assert entry["model"]["detector"] == "none"


def structure(value: Any) -> Any:
    """Keys, nesting and types."""
    if isinstance(value, dict):
        return {key: structure(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [structure(entry) for entry in value]
    return type(value).__name__


def test_json_is_as_documented(mien_command: Run, tiny_onnx: Path, grace_hopper: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    documented = json.loads(text.partition("```json\n")[2].partition("```")[0])
    run = mien_command("predict", grace_hopper, "--model", tiny_onnx, "--format", "json")
    assert structure(json.loads(run.out)) == structure(documented)


def test_json_keeps_names_and_number_lists_short(predict_crops: Run, crop: Path) -> None:
    path = crop.rename(crop.with_name("größe [\n1,\n2\n] 写真.png"))
    run = predict_crops(path, "--format", "json")
    assert json.loads(run.out)[0]["source"] == str(path)
    assert "写真" in run.out
    assert '"box_xyxy": [0.0, 0.0, 48.0, 48.0],' in run.out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no undecodable names")
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_name_that_is_no_unicode(predict_crops: Run, crop: Path, form: str) -> None:
    path = os.fsdecode(os.fsencode(crop.parent) + b"/\xff.png")
    crop.rename(path)
    run = predict_crops(path, "--format", form)
    assert run.code == 0
    if form == "json":
        assert json.loads(run.out)[0]["source"] == path
    else:
        assert "\\udcff.png" in run.out


def test_csv(predict_crops: Run, crop: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(predict_crops(crop, "--format", "csv").out))
    assert row["source"] == str(crop)
    assert (row["face"], row["left"], row["bottom"]) == ("1", "0.0", "48.0")
    assert sum(float(row[label]) for label in FER7) == pytest.approx(1, abs=1e-3)
    assert row["emotion"] == max(FER7, key=lambda label: float(row[label]))
    assert row["model"] == "tiny"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_picture_without_a_face(mien_command: Run, tiny_onnx: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "wall.png"
    PIL.Image.new("RGB", (200, 150), (90, 90, 90)).save(path)
    run = mien_command("predict", path, "--model", tiny_onnx, "--format", form)
    assert run.code == 0
    assert str(path) in run.out
    if form == "json":
        assert json.loads(run.out)[0]["faces"] == []
    if form == "csv":
        (row,) = csv.DictReader(io.StringIO(run.out))
        assert (row["face"], row["emotion"], row["model"]) == ("", "", "tiny")
    strict = mien_command("predict", path, "--model", tiny_onnx, "--format", form, "--strict")
    assert strict.code == 2
    assert strict.out == ""
    assert f"{path}: no face found" in strict.err


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path, crop: Path) -> Path:
    """A folder with three pictures on two levels, and what else lies about in folders."""
    folder = tmp_path / "album"
    for name in ("a.png", "deep/er/b.PNG", "deep/c.png", ".hidden/d.png", "._e.png", ".DS_Store", "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(crop.read_bytes())
    return folder


def sources_of(run: Any) -> list[str]:
    return [entry["source"] for entry in json.loads(run.out)]


def test_folder(predict_crops: Run, album: Path) -> None:
    run = predict_crops(album, "--format", "json")
    assert run.code == 0
    assert sources_of(run) == [str(album / name) for name in ("a.png", "deep/c.png", "deep/er/b.PNG")]
    assert run.err == "mien: 3 pictures done, 3 other files skipped\n"


def test_heic_in_a_folder_is_named(predict_crops: Run, album: Path) -> None:
    (album / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    run = predict_crops(album)
    assert run.code == 1
    assert f"mien: {album}/phone.HEIC: a HEIC picture, which mien does not read: save it as JPEG or PNG" in run.err
    assert "3 pictures done, 1 failed, 3 other files skipped" in run.err


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("album/*.png", ["album/a.png"], id="star"),
        pytest.param("album/**/[bc].*", ["album/deep/c.png", "album/deep/er/b.PNG"], id="any depth"),
        pytest.param("alb?m", ["album/a.png", "album/deep/c.png", "album/deep/er/b.PNG"], id="a folder"),
    ],
)
def test_globs(
    predict_crops: Run, album: Path, pattern: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album.parent)
    assert sources_of(predict_crops(pattern, "--format", "json")) == expected


def test_a_file_whose_name_looks_like_a_glob(predict_crops: Run, crop: Path) -> None:
    path = crop.rename(crop.with_name("[1] what*.png"))
    assert sources_of(predict_crops(path, "--format", "json")) == [str(path)]


def test_batches_change_no_result(predict_crops: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = predict_crops(album, "--format", "csv").out
    monkeypatch.setattr(predict, "BATCH_IMAGES", 1)
    assert predict_crops(album, "--format", "csv").out == together


# --- marked copies ----------------------------------------------------------------------------------------------------


def test_output(mien_command: Run, tiny_onnx: Path, grace_hopper: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "marked"
    assert mien_command("predict", grace_hopper, "--model", tiny_onnx, "--output", folder).code == 0
    marked, original = read_image(folder / "grace_hopper.jpg"), read_image(grace_hopper)
    assert marked.shape == original.shape
    assert (np.abs(marked.astype(int) - original) > 60).any(axis=2).mean() > 0.002


def test_output_paths(tmp_path: Path) -> None:
    names = {
        "x/a.jpg": "a.jpg",
        "y/a.jpg": "a-2.jpg",
        "y/A.JPG": "A-3.JPG",  # one file on Windows and macOS
        "a.bmp": "a.bmp.png",
        "z/sub/a.png": "sub/a.png",
    }
    files = [Found(name, Path(name).relative_to("z") if name[0] == "z" else Path(Path(name).name)) for name in names]
    assert output_paths(files, tmp_path) == [tmp_path / name for name in names.values()]


def test_output_never_replaces_a_source(predict_crops: Run, crop: Path) -> None:
    before = crop.read_bytes()
    assert predict_crops(crop, "--output", crop.parent).code == 0
    assert crop.read_bytes() == before
    assert crop.with_name("crop-2.png").exists()


@pytest.mark.parametrize(
    ("sources", "pictures"),
    [
        pytest.param(["."], 3, id="a folder"),
        pytest.param(["deep", "marked", "a.png"], 3, id="as a shell expands a star"),
        pytest.param(["**/*.*"], 3, id="a glob of any depth"),
        pytest.param(["*"], 3, id="a glob of folders"),
    ],
)
def test_a_second_run_leaves_out_the_copies_of_the_first(
    predict_crops: Run, album: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], pictures: int
) -> None:
    monkeypatch.chdir(album)
    assert "marked" not in predict_crops("a.png", "deep", "--output", "marked").err
    again = predict_crops(*sources, "--output", "marked", "--format", "json")
    assert again.code == 0
    assert len(sources_of(again)) == pictures
    assert "marked: not searched, as the marked copies go there" in again.err
    assert str(Path("marked/a.png")) in sources_of(
        predict_crops("marked", "--format", "json")
    )  # unless it is asked for alone


def test_output_that_is_the_only_source(predict_crops: Run, album: Path) -> None:
    run = predict_crops(album, "--output", album)
    assert run.code == 2
    assert f"{album}: not searched, as the marked copies go there: to read it, choose another --output" in run.err


def test_output_around_the_sources(predict_crops: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album.parent)
    for source in ("album", "album/**/*.png"):
        assert len(sources_of(predict_crops(source, "--output", ".", "--format", "json"))) == 2 + (source == "album")


def test_output_that_is_a_file(predict_crops: Run, crop: Path) -> None:
    run = predict_crops(crop, "--output", crop)
    assert run.code == 2
    assert "choose another --output" in run.err


# --- bad input --------------------------------------------------------------------------------------------------------


BAD_FILES = {
    "empty": (lambda: b"", "is empty"),
    "text named .jpg": (lambda: b"Dear reader", "no picture that mien knows: give a JPEG"),
    "truncated JPEG": (jpeg_cut_in_half, "damaged or cut short"),
    "1x1": (one_pixel, "1 x 1 pixels is too small"),
    "20,000x20,000": (lambda: huge_png(20_000), "more than 80 million pixels: scale it down"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(predict_crops: Run, crop: Path, content: Callable[[], bytes], words: str) -> None:
    bad = crop.with_name("bad.jpg")
    bad.write_bytes(content())
    alone = predict_crops(bad)
    assert (alone.code, alone.out) == (2, "")
    assert alone.err.startswith(f"mien: {bad}: ")
    assert words in alone.err
    assert alone.err.count("\n") == 1
    beside = predict_crops(bad, crop, "--format", "json")
    assert beside.code == 1
    assert sources_of(beside) == [str(crop)]
    assert str(bad) in beside.err
    assert "1 picture done, 1 failed" in beside.err


def empty_folder(folder: Path) -> str:
    return str(folder)


def folder_of_texts(folder: Path) -> str:
    (folder / "a.txt").write_text("a")
    return str(folder)


BAD_SOURCES = {
    "missing file": (lambda folder: folder / "missing.jpg", "no such file: check the path"),
    "empty folder": (empty_folder, "no pictures there, it is empty"),
    "folder without images": (folder_of_texts, "no pictures there, only 1 other file"),
    "glob without match": (lambda folder: f"{folder}/*.jpg", "no file matches"),
    "address": (lambda folder: "https://example.org/photo.jpg", "download it first"),
}


@pytest.mark.parametrize(("source", "words"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_sources(
    predict_crops: Run, crop: Path, tmp_path_factory: pytest.TempPathFactory, source: Callable[[Path], str], words: str
) -> None:
    bad = source(tmp_path_factory.mktemp("bad"))
    alone = predict_crops(bad)
    assert (alone.code, alone.out) == (2, "")
    assert words in alone.err
    assert "Traceback" not in alone.err
    beside = predict_crops(crop, bad)
    assert beside.code == 1
    assert words in beside.err


def test_no_permission(predict_crops: Run, crop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = crop.with_name("secret.png")
    secret.write_bytes(crop.read_bytes())
    secret.chmod(0)
    if os.access(secret, os.R_OK):  # root reads everything: simulate the refusal
        open_ = Path.open

        def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
            if self == secret:
                raise PermissionError(13, "Permission denied")
            return open_(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
    run = predict_crops(secret)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"mien: {secret}: may not be read: check its permissions\n"
    assert predict_crops(secret, crop).code == 1


def test_a_folder_that_may_not_be_searched(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    expansion = expand([str(album)])
    assert [Path(found.path).name for found in expansion.files] == ["a.png"]
    assert expansion.problems == [f"{album}/deep: may not be searched (Permission denied): check its permissions"]


def test_a_link_to_a_folder_is_named(album: Path, tmp_path: Path) -> None:
    """Not followed, as it may lead back; not left out without a word either."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "album").symlink_to(album)
    assert expand([str(tmp_path / "links")]).problems[0] == (
        f"{tmp_path}/links/album: a link to a folder, not followed: name it as a source of its own"
    )
    assert not expand([str(tmp_path / "links" / "album")]).problems


def no_metadata(tiny_onnx: Path) -> bytes:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_onnx)
    del model.metadata_props[:]
    return bytes(model.SerializeToString())


BAD_MODELS = {
    "corrupt .onnx": (lambda tiny_onnx: b"\0corrupt", "is no ONNX model that can be loaded"),
    "empty .onnx": (lambda tiny_onnx: b"", "is no ONNX model that can be loaded"),
    ".onnx without metadata": (no_metadata, "has no mien metadata"),
}


@pytest.mark.parametrize(("content", "words"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_bad_models(
    mien_command: Run, crop: Path, tiny_onnx: Path, content: Callable[[Path], bytes], words: str
) -> None:
    path = crop.with_name("model.onnx")
    path.write_bytes(content(tiny_onnx))
    run = mien_command("predict", crop, "--model", path)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"mien: {path}")
    assert words in run.err
    assert "mien export" in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--model", "nothing"), "neither a file nor a name", id="unknown model"),
        pytest.param(("--model", "missing.onnx"), "missing.onnx", id="missing model"),
        pytest.param(("--detector", "haar"), "haar", id="unknown detector"),
        pytest.param(("--format", "xml"), "xml", id="unknown form"),
        pytest.param(("--colour", "red"), "--colour", id="unknown option"),
    ],
)
def test_bad_usage(mien_command: Run, crop: Path, arguments: tuple[str, ...], words: str) -> None:
    run = mien_command("predict", crop, *arguments)
    assert (run.code, run.out) == (2, "")
    assert words in run.err
    assert "Traceback" not in run.err


def test_no_sources(mien_command: Run) -> None:
    assert mien_command("predict").code == 2


def test_printable() -> None:
    assert printable("größe 写真.jpg") == "größe 写真.jpg"
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"


# --- progress ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("patience_s", "drawn"), [(0.0, True), (60.0, False)], ids=["slow", "quick"])
def test_a_bar_only_for_what_takes_long(patience_s: float, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE_S", patience_s)
    monkeypatch.setenv("TERM", "xterm")
    with progress.Bar("pictures", 3) as bar:
        for _ in range(3):
            with bar.aside():
                pass
            bar.advance()
    assert ("pictures" in terminal.getvalue()) is drawn
