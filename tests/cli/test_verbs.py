"""What `mien` and `mien --help` say, in a terminal of any width."""

import re

import pytest
from typer.testing import CliRunner

from mien.cli import VERBS, app


@pytest.mark.parametrize(("arguments", "exit_code"), [(["--help"], 0), (["-h"], 0), ([], 2)], ids=str)
def test_every_verb_with_a_whole_sentence(arguments: list[str], exit_code: int) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stderr) == (exit_code, "")
    listed = result.stdout.partition("Commands:\n")[2]
    assert set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE)) == set(VERBS)
    sentences = re.split(r"^  [a-z]+ ", listed, flags=re.MULTILINE)[1:]
    assert all(sentence.strip().endswith(".") and "..." not in sentence for sentence in sentences)


def test_a_wrong_verb_is_named() -> None:
    result = CliRunner().invoke(app, ["predcit"])
    assert result.exit_code == 2
    assert "predcit" in result.stderr
    assert "predict" in result.stderr
