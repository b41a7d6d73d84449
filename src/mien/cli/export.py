"""`mien export`: a run to one `.onnx` file that serves without torch."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.messages import Unreadable
from mien.cli.options import Format, FormatOption
from mien.errors import ConfigError, require

if TYPE_CHECKING:
    from mien.bundle import ModelSpec
    from mien.export.exporter import Export


class PrecisionName(StrEnum):
    """As `mien.export.exporter.PRECISIONS`, which a test compares."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder or checkpoint.", show_default=False)],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.onnx", help="File to write; OUT.safetensors: what --from reads.", show_default=False
        ),
    ],
    *,
    precision: Annotated[
        PrecisionName, typer.Option(help="fp16: half the file at the speed of fp32; int8: a quarter, and faster.")
    ] = PrecisionName.FP32,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Prepared data set, or the folder that was trained on: its validation faces set temperature and "
            "threshold and check the file; int8 needs its training faces too.",
            show_default=False,
        ),
    ] = None,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the validation faces that are not `uncertain`.")
    ] = 0.8,
    name: Annotated[str, typer.Option(help="Name that the model goes by. (default: the run's)")] = "",
    format_: FormatOption = Format.TABLE,
) -> None:
    """Write a run as one .onnx file with labels, preprocessing, calibration, origin and licence inside.

    The file is compared with the network first, and not written when it decides otherwise. Unreadable images of a
    folder are named, left out, and make the exit code 1.
    """
    require("torch", "train")
    require("onnx", "train")
    from dataclasses import replace

    from mien.evaluation.folder import split_seed
    from mien.export.exporter import Faces, export
    from mien.training.run import load_model, save_weights
    from mien.training.start import load_data

    if out.suffix == ".safetensors":
        save_weights(run, out)
        typer.echo(f"{out}: weights to train on from, {out.stat().st_size / 1e6:.2f} MB")
        return
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: the file must end in .onnx, or in .safetensors for weights to train on from")
    model, spec = load_model(run)
    spec = replace(spec, name=name or spec.name)
    faces = None
    unreadable = Unreadable("the report of `mien data audit`")
    if data is not None:  # a folder is split as the run split it, so these images validated there too
        dataset = load_data(data, spec.input.size_hw, seed=split_seed(spec.training))
        unreadable(dataset)
        _compare(dataset.split("validation").digest, spec, data)
        faces = Faces.of(dataset, spec.labels)
    else:
        typer.echo("mien: no --data: not calibrated, and compared with torch on random pictures only", err=True)
    done = export(model, spec, out, precision=precision.value, faces=faces, coverage=coverage)
    if format_ is Format.JSON:
        typer.echo(json.dumps(done.to_dict(), ensure_ascii=False, indent=1))
    else:
        _print_table(done)
    unreadable.end()


def _compare(digest: str, spec: "ModelSpec", data: Path) -> None:
    """Warn where the validation faces are others than the run's: some of them may have trained it."""
    recorded = (spec.training.get("data") or {}).get("digests", {}).get("validation")
    if recorded not in (None, digest):
        typer.echo(
            f"mien: the validation faces of {data} are not those of the run (digest {digest[:12]}, not "
            f"{recorded[:12]}): where it trained on some of them, accuracy and calibration are too good",
            err=True,
        )


def _print_table(done: "Export") -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in _rows(done):
        grid.add_row(name, value)
    Console(width=max(100, Console().width)).print(grid)


def _rows(done: "Export") -> list[tuple[str, str]]:
    spec, parity = done.spec, done.parity
    kind = "with feature maps" if spec.cam_weights else "no feature maps: no global pooling"
    rows = [
        ("file", f"{done.path}, {done.size_bytes / 1e6:.2f} MB, sha256 {done.sha256[:16]}..."),
        ("model", f"{spec.name}, {spec.precision}, {kind}"),
        (
            "parity",
            f"probabilities within {parity.max_difference:.1e}, {100 * parity.equal_decisions:.2f} % equal decisions "
            f"on {parity.n} {parity.crops}",
        ),
    ]
    if spec.metrics.get("accuracy") is not None:
        low, high = spec.metrics["accuracy_ci95"]
        accuracy = f"{100 * spec.metrics['accuracy']:.2f} % on validation"
        accuracy += f" (95 % interval {100 * low:.2f} to {100 * high:.2f})"
        if done.fp32_accuracy is not None:
            accuracy += f"; as fp32 {100 * done.fp32_accuracy:.2f} %"
        fitted = spec.metrics["cross_fit"]
        rows += [
            ("accuracy", accuracy),
            ("temperature", f"{spec.temperature:.3f}; ECE {100 * fitted['ece']:.2f} % on the half not fitted on"),
            ("threshold", f"{spec.threshold:.3f}; {100 * spec.metrics['uncertain']['coverage']:.1f} % are certain"),
        ]
    return rows
