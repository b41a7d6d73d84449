"""What `mien explain` shows and writes: a table or the maps on stdout, pictures and maps as files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mien.cli import writers
from mien.errors import ConfigError
from mien.files import check_writable, printable, unicode_of

if TYPE_CHECKING:
    from mien.explain.page import Explained

OUTPUTS = (".png", ".svg", ".json", ".csv", ".npy")


def check_outputs(paths: Sequence[Path], pictures: Sequence[str]) -> None:
    """Find what cannot be written before the first picture is read.

    Raises:
        ConfigError: an ending is unknown, a file cannot be written, or is one of the pictures.
    """
    for path in paths:
        if path.suffix.lower() not in OUTPUTS:
            raise ConfigError(f"{path}: the ending must be one of {', '.join(OUTPUTS)}")
        try:
            check_writable(path)
            is_picture = path.exists() and any(path.samefile(picture) for picture in pictures if Path(picture).exists())
        except OSError as error:
            raise ConfigError(f"{path}: cannot write it: {error.strerror or error}") from error
        if is_picture:
            raise ConfigError(f"{path} is one of the pictures: choose another name")


def write(explained: Sequence["Explained"], path: Path, *, by_label: bool) -> None:
    """Write the figure or the maps, as the ending of `path` says.

    Raises:
        ConfigError: the ending is unknown, the maps fit no single array, or the file cannot be written.
    """
    from mien.explain import page

    suffix = path.suffix.lower()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".json":
            path.write_text(_json(explained), encoding="utf-8")
        elif suffix == ".csv":
            path.write_text(page.to_csv(explained), encoding="utf-8")
        elif suffix == ".npy":
            page.save_array(explained, path)
        else:
            page.explanation_figure(explained, by_label=by_label).save(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write it: {error.strerror or error}") from error


def show(explained: Sequence["Explained"], form: str) -> None:
    """Print on stdout: a line a map, or the maps themselves."""
    from mien.explain import page

    if form == "json":
        writers.write(_json(explained, ascii_alone=not writers.is_utf8()))
    elif form == "csv":
        writers.write(page.to_csv(explained))
    elif form == "npy":
        page.save_array(explained, sys.stdout.buffer)
    else:
        _table([entry for one in explained for entry in one.to_dicts()])


def _json(explained: Sequence["Explained"], *, ascii_alone: bool = False) -> str:
    entries = [entry for one in explained for entry in one.to_dicts()]
    return unicode_of(json.dumps(entries, ensure_ascii=ascii_alone)) + "\n"


def _table(entries: Sequence[dict[str, Any]]) -> None:
    """Source, face, model, method, label, its probability, the strongest place and its value; areas when checked."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("source", "face", "model", "method", "label"):
        table.add_column(name, overflow="fold")
    checked = any("check" in entry for entry in entries)
    numbers = ["probability", "strongest at x, y", "value"]
    numbers += ["deletion", "insertion", "randomised"] if checked else []
    for name in numbers:
        table.add_column(name, justify="right")
    for entry in entries:
        about = (printable(entry["source"]), str(entry["face"] + 1), entry["model"], entry["method"], entry["label"])
        chance = "" if entry["probability"] is None else f"{entry['probability']:.3f}"
        table.add_row(*about, chance, *_strongest(entry), *(_areas(entry["check"]) if checked else ()))
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        console.print(table)
    writers.write(captured.get())
    if checked:
        typer.echo(
            "deletion (lower is better) and insertion (higher): area, and mean ± sd of random maps; randomised: rank "
            "correlation with the map of the fully shuffled model (near 0 is better)",
            err=True,
        )


def _strongest(entry: dict[str, Any]) -> tuple[str, str]:
    """Place (pixels of the crop) and value, in the method's unit, of the map's largest entry."""
    height, width = entry["shape_hw"]
    best = max((entry["values"][y][x], -y, -x) for y in range(height) for x in range(width))
    return f"{-best[2]}, {-best[1]}", f"{best[0] * entry['scale']:.3g}"


def _areas(check: dict[str, Any]) -> tuple[str, str, str]:
    cells = [
        f"{check[kind]['auc']:.2f} ({check[kind]['random_auc_mean']:.2f} ± {check[kind]['random_auc_sd']:.2f})"
        for kind in ("deletion", "insertion")
    ]
    shuffled = check.get("randomisation")
    return cells[0], cells[1], f"{shuffled['similarities'][-1]:.2f}" if shuffled else ""
