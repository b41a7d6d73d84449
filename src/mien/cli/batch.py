"""`mien batch`: millions of pictures to one table, on this machine or on a Ray cluster."""

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.interrupt import INTERRUPTED
from mien.cli.messages import complain
from mien.cli.options import DetectorName, DetectorOption, ModelOption
from mien.errors import ConfigError

if TYPE_CHECKING:
    from mien.batch.job import Summary
    from mien.batch.work import Engine


class EngineName(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


CLUSTER = "On a cluster (--engine ray)"


def command(  # noqa: PLR0913 - one parameter an option
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder, quoted glob, list of paths (.txt), .parquet, .tar; or a store."),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="A file where it ends in .parquet, else a folder of parts.")
    ],
    *,
    engine: Annotated[EngineName, typer.Option(help="local: threads of this process; ray: many.")] = EngineName.LOCAL,
    model: ModelOption = "default",
    detector: DetectorOption = DetectorName.CENTERFACE,
    column: Annotated[
        str | None, typer.Option(help="Column of Parquet files with the pictures or their paths.")
    ] = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="Order the files by their paths, not as SOURCE has them.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the finished shards, if there are any.")] = False,
    shard_images: Annotated[int, typer.Option(min=1, help="Pictures of a shard: what a kill can cost.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the local engine; as many as CPUs at hand.")] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Of a running Ray cluster; else $RAY_ADDRESS, else a Ray of its own.", rich_help_panel=CLUSTER
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="At most; as many as there is room for.", rich_help_panel=CLUSTER)
    ] = None,
    worker_cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs, and threads, of a worker. (default: 1)", rich_help_panel=CLUSTER)
    ] = None,
    worker_gpus: Annotated[
        float | None,
        typer.Option(
            min=0, help="GPUs of a worker; 0.25: four share one (not tried). (default: 0)", rich_help_panel=CLUSTER
        ),
    ] = None,
) -> None:
    """Score millions of pictures into one Parquet table: a row a face, and one for each picture without.

    A killed job goes on with --resume: no row is there twice, none is missing. docs/batch.md describes the columns.

    Exit code: 0 all well, 1 some pictures could not be read (their rows say why), 2 nothing could be done, 130 after
    Ctrl-C.
    """
    from mien.errors import require

    for package in ("pyarrow", "fsspec"):
        require(package, "batch")
    from mien.batch import job
    from mien.cli.batch_progress import Progress

    cluster = {"address": address, "workers": workers, "worker_cpus": worker_cpus, "worker_gpus": worker_gpus}
    if engine is EngineName.RAY:
        _refuse({"threads": threads}, EngineName.LOCAL, cure="give --worker-cpus")
        require("ray", "batch")
        chosen = _ray(cluster)
    else:
        _refuse(cluster, EngineName.RAY, cure="add that")
        chosen = _local(threads)
    settings = job.Settings(
        source=source,
        output=output,
        model=model,
        detector=detector.value,
        column=column,
        sort=sort,
        shard_images=shard_images,
        resume=resume,
    )
    try:
        with Progress() as progress, redirect_stdout(sys.stderr):  # Ray prints what befalls its workers
            summary = job.run(settings, chosen, watch=progress)
    except KeyboardInterrupt:
        complain(f"{output}: interrupted: the same command with --resume goes on from the finished shards")
        raise typer.Exit(INTERRUPTED) from None
    _report(summary)


def _local(threads: int | None) -> "Engine":
    from mien.batch import local

    return local.engine(threads)


def _ray(options: dict[str, Any]) -> "Engine":
    from functools import partial

    from mien.batch import cluster

    given = {name: value for name, value in options.items() if value is not None}
    return partial(cluster.run, cluster=cluster.ClusterSettings(**given))


def _refuse(options: dict[str, Any], owner: EngineName, *, cure: str) -> None:
    """Refuse options that only the other engine heeds.

    Raises:
        ConfigError: one of them is given.
    """
    for name, value in options.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for --engine {owner.value}: {cure}, or leave {option} out")


def _report(summary: "Summary") -> None:
    """Name the first errors, sum up, and end with the right code."""
    for text in summary.named:
        complain(text)
    total, scored = summary.total, summary.scored
    if scored.errors > len(summary.named):
        complain(f"and {scored.errors - len(summary.named):,} more: see the column `error`")
    rate = f" in {summary.seconds:,.1f} s, {scored.images / summary.seconds:,.1f} a second" if scored.images else ""
    before = f", {summary.resumed_shards:,} of {summary.shards:,} shards were there" if summary.resumed_shards else ""
    others = f", {summary.skipped:,} other file{'s' * (summary.skipped != 1)} skipped" if summary.skipped else ""
    typer.echo(
        f"mien: {summary.output}: {total.images:,} images, {total.faces:,} faces, {total.errors:,} errors; "
        f"{scored.images:,} images scored now{rate}{before}{others}",
        err=True,
    )
    if total.errors:
        raise typer.Exit(2 if total.errors >= total.images else 1)
