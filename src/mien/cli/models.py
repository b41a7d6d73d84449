"""`mien models`: the models and detectors at hand, and the networks that can be trained."""

import json
import shlex
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.options import Format, FormatOption
from mien.cli.progress import Bar
from mien.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from mien.hub import Remote

app = typer.Typer(help="List, describe and fetch models.", no_args_is_help=False)

FILE_HEADS = ("name", "kind", "where", "size", "input", "accuracy", "licence")
NETWORK_HEADS = ("network", "parameters", "MACs", "input", "starts", "in its source", "licence", "source")


InstalledOption = Annotated[
    bool, typer.Option("--installed", help="Only what can predict right away, not the networks that can be trained.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    format_: FormatOption = Format.TABLE,
    installed: InstalledOption = False,
) -> None:
    """List models; the same as `mien models list`."""
    if context.invoked_subcommand is None:
        list_models(format_=format_, installed=installed)


@app.command("list")
def list_models(
    format_: FormatOption = Format.TABLE,
    installed: InstalledOption = False,
) -> None:
    """Models and detectors at hand or to be fetched, what can be trained here, and what it can start from."""
    entries = _files()
    if not installed and _can_train():
        entries += _starts() + _networks()
    if format_ is Format.JSON:
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    _print_table([FILE_HEADS, *(_file_row(entry) for entry in entries if entry["kind"] != "network")])
    networks = [entry for entry in entries if entry["kind"] == "network"]
    if networks:
        typer.echo()
        _print_table([NETWORK_HEADS, *(_network_row(entry) for entry in networks)])
        typer.echo("mien: timm:NAME trains any network of timm", err=True)
    elif not installed:
        typer.echo("mien: the networks that can be trained need: pip install 'mien[train]'", err=True)


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="A name of the list, a recorded run, or an .onnx file.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """All that a model says of itself; of a network also its recorded runs, with the commands that make them again.

    Raises:
        ModelError: nothing is called that.
    """
    from mien import hub

    try:
        entry = _describe(name, hub.resolve(name), where="file")
    except ModelError:
        trainable = _starts() + _networks() if _can_train() else []
        found = [entry for entry in trainable if entry["name"] == name] + _runs(name)
        if not found:
            raise
        entry, *runs = found
    else:
        runs = _runs(name)
    if format_ is Format.JSON:
        typer.echo(json.dumps({**entry, "runs": runs} if runs else entry, indent=2, ensure_ascii=False))
        return
    for number, part in enumerate((entry, *runs)):
        if number:
            typer.echo()
        for key, value in part.items():
            typer.echo(f"{key:<14} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _runs(name: str) -> list[dict[str, Any]]:
    """Runs of the network `name`, or the run of that name, whose weights are too large to be packaged."""
    from mien import hub

    entries = json.loads((hub.PACKAGED / "manifest.json").read_text(encoding="utf-8"))
    return [entry for entry in entries if name in (entry["run"], entry["network"])]


@app.command("fetch")
def fetch(names: Annotated[list[str], typer.Argument(help="Names whose files are to be in the cache.")]) -> None:
    """Bring files into the cache, checked against their pinned size and hash, so that they work offline."""
    from mien import hub

    known = hub.REMOTE | hub.STARTS
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)}: nothing to fetch under that name: use {', '.join(sorted(known))}; "
            "`mien models` lists what is here already"
        )
    for name in names:
        with Bar(name, of_bytes=True) as bar:
            path = hub.fetch(name, progress=bar.update)
        typer.echo(path)


def _files() -> list[dict[str, Any]]:
    """Entries of all files that a name leads to, the default first."""
    from mien import hub

    cached = {path.stem: path for path in sorted(hub.home().glob("*.onnx"))}
    remote_files = {remote.file_name for remote in hub.REMOTE.values()}
    entries = []
    for name in sorted(hub.packaged(), key=lambda name: (name != "default", name)):
        entries.append(_describe(name, hub.PACKAGED / f"{name}.onnx", where="packaged"))
    for name, path in cached.items():
        if path.name not in remote_files and name not in hub.packaged():
            entries.append(_describe(name, path, where="cached"))
    for name, remote in sorted(hub.REMOTE.items()):
        path = hub.home() / remote.file_name
        if path.is_file():
            entries.append(_describe(name, path, where="cached"))
        else:
            entries.append(_fetchable(name, _kind(name), remote))
    return entries


def _starts() -> list[dict[str, Any]]:
    """Entries of the weights that training can begin with."""
    from mien import hub

    return [_fetchable(name, "start", remote) for name, remote in sorted(hub.STARTS.items())]


def _fetchable(name: str, kind: str, remote: "Remote") -> dict[str, Any]:
    """An entry from what is pinned; nothing is opened."""
    from mien import hub

    path = hub.home() / remote.file_name
    where = "cached" if path.is_file() else "can be fetched"
    facts = {"file": str(path), "bytes": remote.size, "sha256": remote.sha256, "url": remote.url}
    return {"name": name, "kind": kind, "where": where, **facts}


def _kind(name: str) -> str:
    from mien.faces.detect import NAMES

    return "detector" if name in NAMES else "model"


def _describe(name: str, path: Path, *, where: str) -> dict[str, Any]:
    """One entry; of a file that is no mien model its name, its place and what is wrong with it."""
    from mien import bundle, hub
    from mien.runtime.predictor import Predictor

    if path.is_dir():
        export = shlex.join(["mien", "export", str(path), "model.onnx"])
        raise ModelError(f"{path}: is a folder: make a model of a run with `{export}` and ask about that")
    entry: dict[str, Any] = {"name": name, "kind": _kind(name), "where": where, "file": str(path)}
    entry |= {"bytes": path.stat().st_size, "sha256": hub.sha256_of(path)}
    if entry["kind"] == "detector":
        return entry
    try:
        spec = Predictor(path, threads=1).spec
    except ModelError as error:
        if where == "file":
            raise
        return {**entry, "kind": "damaged", "fault": str(error)}
    described = json.loads(bundle.to_json(spec))
    for left_out in ("format", "name", "cam_weights"):
        described.pop(left_out)
    return {**entry, "model": spec.name, **described}


def _can_train() -> bool:
    return find_spec("torch") is not None


def _networks() -> list[dict[str, Any]]:
    """Entries of the registered networks; sizes come from shapes alone, no weights are made."""
    import torch

    from mien import models
    from mien.models.counts import count_macs, count_parameters

    entries = []
    for name in models.names():
        entry = models.info(name)
        with torch.device("meta"):
            network = models.create(name)
            images = torch.empty(1, entry.input.channels, *entry.input.size_hw)
        sizes = {"parameters": count_parameters(network), "macs": count_macs(network, images)}
        about = {"input": asdict(entry.input), "pretrained": list(entry.pretrained), "figure": entry.figure}
        about |= {"licence": entry.licence, "source": entry.source, "summary": entry.summary}
        entries.append({"name": name, "kind": "network", **sizes, **about})
    return [*entries, _ensemble()]


def _ensemble() -> dict[str, Any]:
    """The entry of what `mien ensemble` makes: sizes, starts and licence are those of its members."""
    from mien.hub import ENSEMBLE
    from mien.models.ensemble import ENSEMBLE_INPUT

    return {
        "name": ENSEMBLE,
        "kind": "network",
        "parameters": None,
        "macs": None,
        "input": asdict(ENSEMBLE_INPUT),
        "pretrained": ["runs", ".onnx files"],
        "figure": "",
        "licence": "its members'",
        "source": "weighted mean of probabilities: mien ensemble MEMBERS... ensemble.onnx",
        "summary": "Runs and .onnx files as one .onnx file, which is evaluated, served and exported as any other.",
    }


def _file_row(entry: dict[str, Any]) -> tuple[str, ...]:
    accuracy = entry.get("metrics", {}).get("accuracy")
    return (
        entry["name"],
        entry["kind"],
        entry["where"],
        f"{entry['bytes'] / 1e6:.1f} MB",
        _geometry(entry["input"]) if "input" in entry else "",
        "" if accuracy is None else f"{100 * accuracy:.2f} %",
        entry.get("licence", ""),
    )


def _network_row(entry: dict[str, Any]) -> tuple[str, ...]:
    sizes = ("its members'", "their sum")
    if entry["macs"] is not None:
        sizes = (f"{entry['parameters']:,}", f"{entry['macs'] / 1e6:,.1f} M")
    starts = ", ".join(entry["pretrained"]) or "none"
    about = (_geometry(entry["input"]), starts, entry["figure"], entry["licence"], entry["source"])
    return entry["name"], *sizes, *about


def _geometry(described: dict[str, Any]) -> str:
    height, width = described["size_hw"]
    return f"{width} x {height} {'grey' if described['channels'] == 1 else 'RGB'}"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
