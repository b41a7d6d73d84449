"""`mien data`: what goes to stdout, what to stderr, and the exit codes."""

from pathlib import Path

import numpy as np
import pytest
from tests.datasets.conftest import png, write_tree
from typer.testing import CliRunner, Result

from mien.cli import app
from mien.datasets import download, packed
from mien.datasets.packed import Split
from mien.errors import DataError, DownloadError
from mien.labels import FER7


@pytest.fixture
def faces(cartoon_faces: Split, tmp_path: Path) -> Path:
    """Kaggle's layout without PrivateTest: 2 Training and 1 PublicTest image of each class."""
    files = {}
    for label, name in enumerate(FER7):
        rows = np.flatnonzero(cartoon_faces.labels == label)
        for number, prefix in enumerate(("train/{}/Training", "train/{}/Training", "test/{}/PublicTest")):
            files[f"{prefix.format(name)}_{number}.png"] = png(cartoon_faces.images[rows[number]])
    return write_tree(tmp_path / "fer2013", files)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_prepare_ends_with_the_counts(faces: Path, tmp_path: Path) -> None:
    result = run("prepare", faces, tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert rows[0] == ["class", "train", "validation", "test"]
    assert rows[1:8] == [[label, "2", "1", "0"] for label in FER7]
    assert rows[8] == ["all", "14", "7", "0"]
    assert "the test split is empty: it would need the PrivateTest_*.jpg files" in result.stderr
    assert len(packed.load(tmp_path / "out").split("train")) == 14


def test_prepare_merges_sources(faces: Path, cartoon_faces: Split, tmp_path: Path) -> None:
    more = write_tree(tmp_path / "more", {"disgusted/a.png": png(cartoon_faces.images[1])})
    result = run("prepare", faces, more, tmp_path / "out", "--layout", "folders", "--protocol", "case-study")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out/train/disgust").iterdir())) == 3
    assert len(list((tmp_path / "out/test").rglob("*.png"))) == 7


def test_prepare_names_what_it_left_out(faces: Path, tmp_path: Path) -> None:
    write_tree(faces / "train/happy", {"cut.jpg": b"\xff\xd8\xff", ".DS_Store": b""})
    result = run("prepare", faces, tmp_path / "out")
    assert result.exit_code == 1
    assert "unreadable: fer2013: train/happy/cut.jpg: " in result.stderr
    assert "skipped 1 x system file" in result.stderr
    assert len(packed.load(tmp_path / "out").split("train")) == 14


def test_prepare_refuses_an_unknown_class(faces: Path, tmp_path: Path) -> None:
    (faces / "train/happy").rename(faces / "train/glad")
    result = run("prepare", faces, tmp_path / "out")
    assert isinstance(result.exception, DataError)  # `main` prints it and exits with 2
    assert "train/glad is no known class" in str(result.exception)


def test_prepare_of_classes_of_ones_own_says_where_they_go(cartoon_faces: Split, tmp_path: Path) -> None:
    files = {f"{name}/{n}.png": png(cartoon_faces.images[n]) for name in ("cat", "dog") for n in range(2)}
    root = write_tree(tmp_path / "two cls", files)
    message = str(run("prepare", root, tmp_path / "out").exception)
    assert f"{root}: none of its folders (cat, dog) is one of FER-2013's classes, angry, disgust" in message
    assert f"`mien train --from default --data '{root}' --output run`" in message
    many = write_tree(tmp_path / "many", {f"{n:02}/a.png": png(cartoon_faces.images[0]) for n in range(9)})
    assert "(00, 01, 02, 03, 04, 05, 06, 07, ...)" in str(run("prepare", many, tmp_path / "out").exception)


@pytest.mark.parametrize("name", ["a.png", "train/a.png"])
def test_prepare_of_bare_pictures_says_how_they_should_stand(cartoon_faces: Split, tmp_path: Path, name: str) -> None:
    root = write_tree(tmp_path / "bare", {name: png(cartoon_faces.images[0])})
    message = str(run("prepare", root, tmp_path / "out").exception)
    assert "expected <split>/<class>/<image> or <class>/<image>" in message


def test_download_prints_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "download_ferplus", lambda out, *, progress: out / "fer2013new.csv")
    monkeypatch.setattr(download, "download_fer2013", lambda out: out / "fer2013")
    result = run("download", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(tmp_path / "fer2013new.csv"), str(tmp_path / "fer2013")]
    assert run("download", tmp_path, "--only", "fer2013").stdout.splitlines() == [str(tmp_path / "fer2013")]


@pytest.mark.parametrize(("only", "code"), [([], 1), (["--only", "fer2013"], 2), (["--only", "ferplus"], 0)])
def test_download_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: list[str], code: int
) -> None:
    def refuse(out: Path) -> Path:
        raise DownloadError("Kaggle does not answer; fetch it by hand")

    monkeypatch.setattr(download, "download_ferplus", lambda out, *, progress: out / "fer2013new.csv")
    monkeypatch.setattr(download, "download_fer2013", refuse)
    result = run("download", tmp_path, *only)
    assert result.exit_code == code
    assert ("mien: fer2013: Kaggle does not answer; fetch it by hand" in result.stderr) == (code > 0)


def test_prepare_aligns(faces: Path, tmp_path: Path) -> None:
    """Drawn faces are framed as FER-2013's are, so crops made once more show about the same."""
    run("prepare", faces, tmp_path / "plain")
    result = run("prepare", faces, tmp_path / "out", "--align")
    assert result.exit_code == 0, result.output
    plain, aligned = packed.load(tmp_path / "plain"), packed.load(tmp_path / "out")
    about = aligned.provenance["aligned"]
    assert about["detector"] == "centerface"
    found, without = (sum(about[key].values()) for key in ("images", "images_without_a_face"))
    assert found + without == 21
    assert f"aligned {found} images; {without} show no face and stay as they are" in result.stderr
    assert "aligned" not in plain.provenance
    result = run("prepare", faces, tmp_path / "both", "--add-aligned")
    assert result.exit_code == 0, result.output
    found = packed.load(tmp_path / "both").provenance["aligned"]["images"]["train"]
    assert f"added aligned crops of {found} training images" in result.stderr
    assert len(packed.load(tmp_path / "both").split("train")) == len(plain.split("train")) + found
    both = run("prepare", faces, tmp_path / "both", "--align", "--add-aligned")
    assert "use one of the two" in str(both.exception)
