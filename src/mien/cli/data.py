"""`mien data ...`: fetch FER-2013, prepare it for training, audit it."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.data_audit import audit
from mien.cli.data_preview import preview

app = typer.Typer(help="Fetch data sets, prepare and audit them.", no_args_is_help=True)
app.command()(preview)
app.command()(audit)


class Only(StrEnum):
    """What `download` can fetch."""

    FERPLUS = "ferplus"
    FER2013 = "fer2013"


@app.command()
def prepare(  # noqa: PLR0913 - one parameter an option
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC...",
            help="FER-2013's folder, its archive (zip, tar, tar.gz, tar.xz), fer2013.csv, or a folder of "
            "FER-2013's classes; several are merged. `mien train` takes a folder of any other classes as it is.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    *,
    protocol: Annotated[
        str,
        typer.Option(help="icml: PublicTest is validation, PrivateTest is test; case-study: the other way round."),
    ] = "icml",
    layout: Annotated[
        str, typer.Option(help="packed: arrays to train from; folders: a tree of image files.")
    ] = "packed",
    ferplus: Annotated[
        Path | None, typer.Option(metavar="CSV", help="fer2013new.csv: join the votes of FER+.", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=8, help="Height and width of the packed images, in pixels.")] = 48,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Let a split lack a class.")] = False,
    align: Annotated[
        bool,
        typer.Option("--align", help="Find each face and crop it once more, upright, as serving does; takes minutes."),
    ] = False,
    add_aligned: Annotated[
        bool, typer.Option("--add-aligned", help="Leave all images as they are; add such crops to those to train on.")
    ] = False,
) -> None:
    """Make a data set to train from; ends with the counts per class and split.

    Unreadable images are named, left out, and make the exit code 1.
    """
    from mien.cli.data_output import print_report, reading
    from mien.datasets.prepare import PrepareOptions
    from mien.datasets.prepare import prepare as prepare_data
    from mien.errors import ConfigError

    options = PrepareOptions(protocol=protocol, ferplus=ferplus, size_hw=(size, size), allow_missing=allow_missing)
    if align and add_aligned:
        raise ConfigError("--align replaces images, --add-aligned keeps them: use one of the two")
    if align or add_aligned:
        from mien.faces import detect
        from mien.faces.recrop import Recrop

        options = replace(options, align=Recrop(detect.create("centerface")), add_aligned=add_aligned)
    with reading() as progress:
        report = prepare_data(sources, out, layout=layout, options=options, progress=progress)
    print_report(report, out)
    if report.unreadable:
        raise typer.Exit(1)


@app.command()
def download(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    only: Annotated[
        Only | None, typer.Option(help="Fetch one of the two; by default both.", show_default=False)
    ] = None,
) -> None:
    """Fetch FER-2013 from Kaggle, with your own token, and the FER+ votes from their repository.

    Prints the path of each. Safe to run again: what is there and unchanged is kept, what was cut goes on.
    """
    from mien.cli.data_output import fetching
    from mien.datasets.download import download_fer2013, download_ferplus
    from mien.errors import MienError

    faults: list[MienError] = []
    wanted = [only] if only else list(Only)
    for what in wanted:
        try:
            if what is Only.FERPLUS:
                with fetching("fer2013new.csv") as progress:
                    path = download_ferplus(out, progress=progress)
            else:
                path = download_fer2013(out)
            typer.echo(path)
        except MienError as error:
            faults.append(error)
            typer.echo(f"mien: {what.value}: {error}", err=True)
    if faults:
        raise typer.Exit(2 if len(faults) == len(wanted) else 1)
