"""What the documents say is there: commands, links, files, and the README's Python example."""

import inspect
import re
import shutil
from pathlib import Path

import pytest

import mien
from mien.cli import VERBS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


def test_readme_tables_every_command() -> None:
    tabled = re.findall(r"^\| `mien ([a-z]+)", README, re.MULTILINE)  # `data` has several lines
    assert tuple(dict.fromkeys(tabled)) == VERBS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    verbs = {verb for block in blocks for verb in re.findall(r"^\$ (?:\S*/)?mien ([a-z]+)", block, re.MULTILINE)}
    assert verbs <= set(VERBS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    anchors = {_anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith(("http://", "https://")):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8"))}
    assert named <= targets


def test_python_example_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grace_hopper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shutil.copy(grace_hopper, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # the very text that users copy
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(r"[a-z]+ 0\.\d\d ", line)


def _anchor(title: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_reference_names_the_parameters_of_load() -> None:
    text = (REPOSITORY / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    named = re.search(r"`mien\.load\((.*?)\)`", text)
    assert named
    wanted = [part.partition("=")[0] for part in named[1].split(", ") if part != "*"]
    assert wanted == list(inspect.signature(mien.load).parameters)
