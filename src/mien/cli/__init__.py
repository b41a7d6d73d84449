"""The `mien` command: one file a verb; each translates its options into one call and prints the result.

Nothing heavy is imported until a verb runs, so that `mien --help` stays quick.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mien.errors import MienError

VERBS: tuple[str, ...] = (
    "predict",
    "explain",
    "video",
    "webcam",
    "serve",
    "batch",
    "data",
    "train",
    "evaluate",
    "export",
    "models",
    "distill",
    "ensemble",
    "sweep",
    "report",
    "results",
    "bench",
    "demo",
)
"""Modules of this package; each has `command`, or `app` where the verb has verbs of its own."""

SENTENCE = 300  # characters of a verb's description in the list of verbs, at most


class _Verbs(TyperGroup):
    """Tells of the verbs in plain text: Rich's frames would take as long as all else that `mien --help` does."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As Typer does without Rich; each verb's own help has its frames."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs with the whole first sentence of each."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(SENTENCE)) for name, verb in verbs if verb is not None])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`mien` alone asks for help."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="mien",
    cls=_Verbs,
    help="Recognise emotion in face images: predict, explain, train, evaluate, serve.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _register(verb: str, module: ModuleType) -> None:
    if hasattr(module, "app"):
        app.add_typer(module.app, name=verb)
    else:
        app.command(verb)(module.command)


def _version(value: bool) -> None:
    if value:
        from mien import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the verb."""


def main() -> None:
    """Run the command line: a `MienError` becomes one line on stderr and exit code 2."""
    try:
        app()
    except MienError as error:
        typer.echo(f"mien: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # `mien predict ... | head`
        _end_quietly()
    except SystemExit as end:  # Typer and Rich turn the same into exit code 1, while they handle it
        if isinstance(end.__context__, BrokenPipeError):
            _end_quietly()
        raise
    except OSError as error:  # a full disk, a folder without permission: the system's own words name the cure best
        typer.echo(f"mien: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", err=True)
        sys.exit(2)


def _end_quietly() -> NoReturn:
    """Nobody reads stdout any more: what is still buffered goes nowhere, and that is no fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(0)


for _verb in VERBS:
    _register(_verb, import_module(f"mien.cli.{_verb}"))
