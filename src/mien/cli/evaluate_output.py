"""What `mien evaluate` prints: figures and the table of classes, or metrics.json itself."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mien.evaluation.evaluate import Evaluation


def print_json(evaluation: "Evaluation") -> None:
    """The content of metrics.json."""
    typer.echo(json.dumps(evaluation.to_dict(), ensure_ascii=False, allow_nan=False, indent=1))


def print_table(evaluation: "Evaluation") -> None:
    """The figures, a row a class, and the confusion matrix."""
    from rich.console import Console

    table = evaluation.to_dict()
    console = Console(width=max(100, Console().width))
    console.print(_figures(table))
    console.print()
    console.print(_classes(table))
    console.print()
    console.print(_confusion(table))


def figures(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of the figures over all classes; what was not measured is left out."""
    model, data = table["model"], table["data"]
    faces = f"{table['n']:,} faces of {data['source']}, {data['split']}; test-time augmentation: {table['tta']}"
    rows = [
        ("model", f"{model['name']} ({model.get('file') or model.get('run')}, {model['precision']})"),
        ("data", faces),
        ("accuracy", _with_interval(table["accuracy"], table["accuracy_ci95"])),
    ]
    if table["accuracy_without_twins"] is not None:
        share = _with_interval(table["accuracy_without_twins"], table["accuracy_without_twins_ci95"])
        rows.append(("without twins", f"{share}, {table['n_without_twins']:,} faces that are in no training image"))
    rows += [("macro-F1", f"{table['macro_f1']:.4f}"), ("log-loss", f"{table['log_loss']:.4f}")]
    ece = f"{100 * table['ece']:.2f} %"
    if fitted := table["calibration"].get("cross_fit"):
        ece += f" (with a temperature fitted on the other half of these faces: {100 * fitted['ece']:.2f} %)"
    expected = table["calibration"]["if_calibrated"]
    mean, most = (f"{100 * expected[key]:.2f} %" for key in ("ece", "ece_p95"))
    rows += [
        ("ECE", ece),
        ("if calibrated", f"so few faces would still show {mean}, and under {most} in 95 of 100 cases"),
    ]
    sure = table["uncertain"]
    if sure["threshold"] > 0 and sure["accuracy_of_certain"] is not None:
        kept = f"{100 * sure['coverage']:.1f} % of the faces, {100 * sure['accuracy_of_certain']:.1f} % of them right"
        rows.append(("certain", f"{kept} (confidence from {sure['threshold']:.3f})"))
    if missed := data.get("n_without_face"):
        share = f"{100 * data['accuracy_if_missed_faces_are_errors']:.2f} %"
        rows.append(("no face", f"{missed:,} pictures; counted as errors, accuracy is {share}"))
    return rows


def _figures(table: Mapping[str, Any]) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in figures(table):
        grid.add_row(name, value)
    return grid


def _classes(table: Mapping[str, Any]) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("class")
    for name in ("precision", "recall", "F1", "support"):
        grid.add_column(name, justify="right")
    for label, row in table["per_class"].items():
        grid.add_row(label, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), f"{row['support']:,}")
    grid.add_section()
    for mean in ("macro", "weighted"):
        numbers = (f"{table[mean][key]:.3f}" for key in ("precision", "recall", "f1"))
        grid.add_row(mean, *numbers, f"{table['n']:,}", style="bold")
    return grid


def _confusion(table: Mapping[str, Any]) -> Any:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("true \\ predicted")
    for label in table["labels"]:
        grid.add_column(label, justify="right")
    for i, (label, row) in enumerate(zip(table["labels"], table["confusion"], strict=True)):
        grid.add_row(label, *(f"[bold]{n:,}[/bold]" if i == j else f"{n:,}" for j, n in enumerate(row)))
    return grid


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * share:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f})"
