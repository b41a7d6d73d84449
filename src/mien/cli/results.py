"""`mien results`: records of runs, and the page of figures that is made of them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.options import ExcludeOption, TtaName, TtaOption

app = typer.Typer(help="Keep the figures of runs, and write docs/results.md from them.", no_args_is_help=True)


RecordsOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the records.")]
RECORDS = Path("results/runs")
SMOKE = Path("results/smoke.json")


@app.command()
def add(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)],
    *,
    data: Annotated[Path, typer.Option(help="Data set whose validation faces it is measured on.")],
    name: Annotated[str, typer.Option(help="Name of the record. (default: the folder's)")] = "",
    tta: TtaOption = TtaName.NONE,
    exclude: ExcludeOption = None,
    records: RecordsOption = RECORDS,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Measure a run on validation faces and keep the figures as a record."""
    from mien.cli.progress import Bar
    from mien.errors import require

    require("torch", "train")
    from mien.training import records as kept
    from mien.training.distributed import pick_device

    dataset = kept.load_data(run, data, exclude=exclude)
    total, done = len(dataset.split("validation")), 0
    with Bar("evaluating", total) as bar:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.update(done, total)

        record = kept.measure(run, dataset, name=name, tta=tta.value, device=pick_device(device), progress=advance)
    typer.echo(kept.write(record, records))


@app.command()
def write(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("docs/results.md"),
    records: RecordsOption = RECORDS,
    smoke: Annotated[Path, typer.Option(metavar="FILE", help="What benchmarks/smoke.py wrote.")] = SMOKE,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what `mien models info` says of these runs.")
    ] = None,
) -> None:
    """Write the page of figures and its learning curves from the records; a recipe without a record is `not run`."""
    from mien.errors import ConfigError, require

    require("torch", "train")
    from mien.evaluation import plots
    from mien.training import curves, manifests, results
    from mien.training import records as kept

    if not any(records.glob("*.json")):
        raise ConfigError(f"{records} holds no records: make one of a run with `mien results add RUN --data DATA`")
    found, tried = kept.read(records), kept.read_smoke_runs(smoke)
    pictures = output.parent / "images"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(results.markdown(found, tried), encoding="utf-8")
        if manifest is not None:
            manifest.write_text(json.dumps(manifests.manifest(found), indent=1) + "\n", encoding="utf-8")
        if any(record.has_curve for record in found):
            pictures.mkdir(exist_ok=True)
            for what in ("accuracy", "loss"):
                plots.save(curves.curves_figure(results.ranked(found), what), pictures / f"results-{what}")
    except OSError as error:
        raise ConfigError(f"{output}: cannot write it: {error.strerror or error}") from error
    typer.echo(output)
