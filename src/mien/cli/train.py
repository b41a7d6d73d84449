"""`mien train`: a recipe and a data set in, a run folder out."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.messages import Unreadable
from mien.cli.options import ExcludeOption


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    data: Annotated[Path, typer.Option(help="Prepared data set, or a folder of class sub-folders.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[str, typer.Argument(metavar="[MODEL_OR_RECIPE]", help="Recipe, network, or .toml file.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    start: Annotated[str, typer.Option("--from", help="Fine-tune this model: default, a run, a checkpoint.")] = "",
    pretrained: Annotated[str, typer.Option(help="Start: imagenet, imagenet-caffe, vggface2, none, or a path.")] = "",
    exclude: ExcludeOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the curves in the terminal.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files into the run.")] = False,
) -> None:
    """Train a network; by torchrun on several GPUs.

    Unreadable images of a folder are named, left out, and make the exit code 1.
    """
    from mien.errors import require

    require("torch", "train")
    from mien.training import start as starts
    from mien.training.recipe import parse_settings

    table = parse_settings(settings or [])
    if pretrained:
        table["pretrained"] = pretrained
    if seed is not None:
        table["seed"] = seed
    order = starts.Order(
        recipe=recipe,
        settings=table,
        start=start,
        data=data,
        output=output,
        exclude=exclude,
        resume=resume,
        device=device,
    )
    unreadable = Unreadable(output / "recipe.json")
    summary = starts.train(order, watch=watch, tensorboard=tensorboard, loaded=unreadable)
    if summary is not None:  # only rank 0 speaks
        typer.echo(summary)
        export = shlex.join(["mien", "export", str(output), "model.onnx", "--data", str(data)])
        typer.echo(f"mien: to predict and serve with it: {export}", err=True)
    unreadable.end()
