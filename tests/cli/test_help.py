"""What helps and documents tell people to run exists."""

import re
from pathlib import Path

import pytest
import typer.main

from mien.cli import data, models, results

ROOT = Path(__file__).parents[2]
SUB_VERBS = {
    name: set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for name, app in (("data", data.app), ("models", models.app), ("results", results.app))
}
TEXTS = [*ROOT.glob("src/mien/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("verb", SUB_VERBS)
def test_sub_verbs_that_are_named_exist(verb: str) -> None:
    named = {
        (path.name, word)
        for path in TEXTS
        for word in re.findall(rf"`mien {verb} ([a-z]+)", path.read_text(encoding="utf-8"))
    }
    assert named
    assert not {(place, word) for place, word in named if word not in SUB_VERBS[verb]}


def test_defaults_in_words_are_shown() -> None:
    """Rich takes `[default: 0]` in a help text for its markup, and drops it."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("src/mien/cli/*.py")}
    assert not [name for name, text in texts.items() if re.search(r'help="[^"]*\[default', text)]
    assert any(re.search(r'help="[^"]*\(default: ', text) for text in texts.values())
