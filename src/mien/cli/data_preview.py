"""`mien data preview`: a contact sheet of what augmentation makes of faces."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.messages import Unreadable


def preview(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Prepared data set, or a folder of class sub-folders.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write: .png or .svg.", show_default=False)],
    recipe: Annotated[
        str, typer.Argument(metavar="[MODEL_OR_RECIPE]", help="Recipe, network, or .toml file.")
    ] = "resnet9-narrow",
    *,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    faces: Annotated[int, typer.Option(min=2, max=32, help="Training faces to show, the classes in turn.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
) -> None:
    """Draw what a recipe's augmentation makes of training faces: each effect alone, then all together."""
    from mien.errors import require

    require("torch", "train")
    import torch

    from mien.training import data as placed
    from mien.training import pictures, start, transfer
    from mien.training.recipe import override, parse_settings

    table = parse_settings(settings or ()) | ({} if seed is None else {"seed": seed})
    order = start.Order(recipe=recipe, settings=table, data=data, output=out)
    chosen = transfer.settle(start.resolve_recipe(order))
    spec = transfer.input_spec(chosen)
    dataset = start.load_data(data, spec.size_hw, seed=chosen.seed)
    unreadable = Unreadable("the report of `mien data audit`")
    unreadable(dataset)
    plain = override(chosen, {"ferplus": "none"}, source="preview")  # pictures need no votes
    train = placed.place(dataset.split("train"), dataset.labels, plain, torch.device("cpu"))
    pictures.contact_sheet(chosen, train, spec, faces=faces).save(out)
    typer.echo(out)
    unreadable.end()
