"""`mien bench`: how fast mien is on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.options import Format, FormatOption

if TYPE_CHECKING:
    from mien.bench import Figure


def command(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few repetitions: rough figures in a quarter of a minute.")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of a model or an .onnx file, for all but the table of models.")
    ] = "default",
    image: Annotated[
        Path | None, typer.Option(help="A photo with a face. (default: a portrait of Grace Hopper, fetched once)")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the network. (default: the CPUs at hand)")] = None,
    remember: Annotated[
        bool,
        typer.Option(
            "--remember",
            help="From now on run each packaged model on what was fastest here: provider, and int8 or not.",
        ),
    ] = False,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Measure start, models, detectors, a photo end to end, a heatmap and a film on this machine."""
    from mien import bench

    plan = bench.Plan.quick(model=model, threads=threads) if quick else bench.Plan(model=model, threads=threads)
    figures: list[Figure] = []
    if format_ is Format.TABLE:
        _print_machine(bench.machine(threads))
    for figure in bench.run(image or _portrait(), plan):
        figures.append(figure)
        if format_ is Format.TABLE:  # each as it comes: the whole takes a minute
            _print(figure, begins=len(figures) == 1 or figures[-2].group != figure.group)
    if format_ is Format.JSON:
        typer.echo(json.dumps(bench.to_dict(figures, plan), indent=1))
    if remember:
        from mien.runtime import providers

        kept = bench.remember(figures)
        if (chosen := providers.file_of(providers.DEFAULT).stem) != providers.DEFAULT:
            typer.echo(f"mien: int8 gains nothing here: {providers.DEFAULT} is {chosen} from now on", err=True)
            kept.pop(providers.DEFAULT, None)
        for name, provider in kept.items():
            typer.echo(f"mien: {name} runs on {provider} from now on", err=True)


def _portrait() -> Path:
    """The demo's portrait.

    Raises:
        DownloadError: it is not at hand and cannot be fetched; the message names the cure of this verb.
    """
    from mien import demo
    from mien.errors import DownloadError

    try:
        return demo.portrait()
    except DownloadError as error:
        raise DownloadError(str(error).replace(demo.CURE, "give a photo with a face by --image")) from error


def _print_machine(about: dict[str, object]) -> None:
    packages = about.pop("packages")
    assert isinstance(packages, dict)
    for key, value in {**about, **packages}.items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        typer.echo(f"{key.replace('_', ' '):<24} {words}")


def _print(figure: "Figure", *, begins: bool) -> None:
    if begins:
        typer.echo(f"\n{figure.group:<52} {'p50 ms':>10} {'p95 ms':>10} {'a second':>10}")
    rate = "" if figure.per_s is None else f"{figure.per_s:>10,.{1 if figure.per_s < 100 else 0}f} {figure.unit}"
    typer.echo(f"  {figure.what:<50} {figure.p50_ms:>10,.2f} {figure.p95_ms:>10,.2f} {rate}".rstrip())
