"""What a verb says beside its result."""

import typer


def complain(text: str) -> None:
    """One line on stderr, whatever characters a file name brings."""
    from mien.cli.writers import printable

    typer.echo(f"mien: {printable(text)}", err=True)
