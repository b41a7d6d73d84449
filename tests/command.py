"""The command line, run in this process as `mien` runs it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    code: int
    out: str
    err: str


@pytest.fixture
def mien_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`mien_command("predict", path, ...)`: its exit code, stdout and stderr."""
    from mien.cli import main  # noqa: PLC0415 - it imports Rich, which conftest.py prepares first

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
