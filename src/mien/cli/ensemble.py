"""`mien ensemble`: several models as one `.onnx` file."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.messages import complain
from mien.errors import ConfigError, require


def command(
    members: Annotated[
        list[str], typer.Argument(metavar="MEMBERS...", help="Runs, checkpoints, .onnx files or names.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="File to write.")],
    *,
    weights: Annotated[
        str, typer.Option(metavar="W,W,...", help="A weight for each member. (default: all the same)")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Prepared data set, or the folder trained on: its validation faces set temperature and threshold."
        ),
    ] = None,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the validation faces that are not `uncertain`.")
    ] = 0.8,
    name: Annotated[str, typer.Option(help="Name that the model goes by.")] = "ensemble",
) -> None:
    """Join models into one: the weighted mean of their probabilities, each with its own input size inside.

    The file takes 48 x 48 grey faces and is evaluated and served like any other.
    """
    require("torch", "train")
    require("onnx", "train")
    from mien.evaluation.folder import narrowed
    from mien.export.ensemble import join

    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: the file must end in .onnx")
    joined = join(members, out, weights=_numbers(weights), name=name, faces=data, coverage=coverage)
    shares = ", ".join(f"{one['name']} {one['share']:.3f}" for one in joined.spec.training["members"])
    typer.echo(f"{joined.path}: {shares}; {joined.size_bytes / 1e6:.1f} MB, sha256 {joined.sha256}")
    if (accuracy := joined.spec.metrics.get("accuracy")) is not None:
        typer.echo(f"validation accuracy {100 * accuracy:.2f} %, temperature {joined.spec.temperature:.3f}")
        for one in joined.others:
            complain(
                f"the validation faces of {data} are not those of {one}: where it trained on some of them, accuracy "
                "and calibration are too good"
            )
        if data is not None and (names := narrowed(data, joined.spec)):
            complain(
                f"{names} split {data} differently: calibrated on the {joined.spec.metrics['n']} faces that none of "
                "them trained on"
            )
    else:
        typer.echo("mien: no --data: the ensemble is not calibrated", err=True)


def _numbers(text: str) -> list[float] | None:
    if not text:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--weights {text}: write numbers with commas between them, such as 1,2,1") from error
