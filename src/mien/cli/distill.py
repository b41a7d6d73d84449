"""`mien distill`: trained models teach a small student."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.messages import Unreadable
from mien.cli.options import ExcludeOption


def command(  # noqa: PLR0913 - one parameter an option
    student: Annotated[str, typer.Argument(metavar="STUDENT_RECIPE", help="A recipe, a network, or a .toml file.")],
    *,
    teachers: Annotated[
        list[str],
        typer.Option("--teacher", metavar="MODEL", help="A run, checkpoint, .onnx file or name; repeat for more."),
    ],
    data: Annotated[Path, typer.Option(help="Prepared data set, or a folder of class sub-folders.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as distill_weight."),
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="Begin with the weights of this run or model.", show_default=False)
    ] = "",
    exclude: ExcludeOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output, with the same teachers.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the curves in the terminal.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run.")
    ] = False,
) -> None:
    """Train a student on labels and on what teachers say of the very views that it sees."""
    from mien.errors import require

    require("torch", "train")
    from mien.training import start as starts
    from mien.training.recipe import parse_settings

    table = parse_settings(settings or ())
    if seed is not None:
        table["seed"] = seed
    order = starts.Order(
        recipe=student,
        settings=table,
        start=start,
        data=data,
        output=output,
        exclude=exclude,
        teachers=tuple(teachers),
        resume=resume,
        device=device,
    )
    unreadable = Unreadable(output / "recipe.json")
    summary = starts.train(order, watch=watch, tensorboard=tensorboard, loaded=unreadable)
    if summary is not None:  # only rank 0 speaks
        typer.echo(summary)
    unreadable.end()
