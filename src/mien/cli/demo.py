"""`mien demo`: predict and explain on a real portrait, to see that an installation works."""

import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import explain, predict
from mien.errors import ConfigError


def command(
    image: Annotated[
        Path | None, typer.Option(help="A photo of your own. (default: a portrait of Grace Hopper, fetched once)")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the photo and the pictures made of it go.")
    ] = Path("demo"),
    model: Annotated[str, typer.Option("--model", "-m", help="Name of a model or an .onnx file.")] = "default",
) -> None:
    """Analyse a real portrait: print the table, leave a copy with the face marked and a heatmap."""
    from mien.demo import portrait

    photo = _copied(image or portrait(), output)
    annotated, heatmap = output / "annotated", output / "heatmap.png"
    typer.echo(f"$ {shlex.join(['mien', 'predict', str(photo), '--output', str(annotated)])}", err=True)
    predict.command([str(photo)], output=annotated, model=model)
    typer.echo(f"\n$ {shlex.join(['mien', 'explain', str(photo), '--output', str(heatmap)])}", err=True)
    explain.command([str(photo)], model=[model], output=[heatmap])
    typer.echo(f"\nSee {annotated / photo.name} and {heatmap}", err=True)


def _copied(photo: Path, folder: Path) -> Path:
    """A copy of `photo` in `folder`, so that the commands shown can be typed again.

    Raises:
        ConfigError: the photo cannot be read, or the folder not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / photo.name
        return target if target.exists() and target.samefile(photo) else Path(shutil.copyfile(photo, target))
    except OSError as error:
        raise ConfigError(
            f"{photo} cannot be copied to {folder} ({error.strerror}): check --image and --output"
        ) from error
