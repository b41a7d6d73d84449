"""`mien data preview`: a picture from a data set and a recipe."""

from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from tests.command import Outcome

Mien = Callable[..., Outcome]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="the default recipe"),
        pytest.param(["baseline", "--set", "mixup=0.2", "--seed", "4", "--faces", "5"], id="a changed recipe"),
        pytest.param(["vgg-narrow"], id="a network"),
    ],
)
def test_preview(mien_command: Mien, cartoon_dataset: Path, tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "sheet.png"
    done = mien_command("data", "preview", cartoon_dataset, out, *options)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    with PIL.Image.open(out) as page:
        assert page.width > 900


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        pytest.param(["nowhere", "sheet.png"], "no prepared data set", id="no data"),
        pytest.param(["DATA", "sheet.bmp"], ".png or .svg", id="another format"),
        pytest.param(["DATA", "no/folder/sheet.png"], "cannot write it", id="no such folder"),
        pytest.param(["DATA", "sheet.png", "abacus"], "no recipe or network", id="no such recipe"),
        pytest.param(["DATA", "sheet.png", "--set", "colour=1"], "unknown keys colour", id="no such setting"),
    ],
)
def test_faults_are_sentences(
    mien_command: Mien,
    cartoon_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mien_command("data", "preview", *(cartoon_dataset if one == "DATA" else one for one in arguments))
    assert done.code == 2
    assert match in done.err
