"""One thing changed at a time: short runs of a small network at equal cost, two seeds each.

    python benchmarks/ablations.py --data DATA

Every run costs about as many multiply-accumulates as the plain one, as near as whole epochs allow: what makes a step
dearer (SAM's second pass, larger pictures, wider layers) gets fewer epochs; only "twice as long" costs twice as much.
The figures are those of the validation faces, and go to results/ablations.json, docs/ablations.md and its picture. Runs
stay in --output; a call that was broken off goes on. Two hours on one core.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import page
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mien import models
from mien.datasets import packed
from mien.datasets.packed import Split
from mien.evaluation import metrics, plots
from mien.evaluation.evaluate import evaluate
from mien.evaluation.network import torch_predict
from mien.models.counts import count_macs
from mien.training import checkpoint, run, sweep
from mien.training.start import Order

PLAIN = "plain"
SEEDS = 2
FIGURES = ("accuracy", "macro_f1", "log_loss")


@dataclass(frozen=True)
class Variant:
    """One change of the plain run."""

    name: str
    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0  # of an epoch, beside a plain one
    budget: float = 1.0  # of the whole run

    def epochs(self, plain: int) -> int:
        """As many as the budget pays for."""
        return max(1, round(plain * self.budget / self.cost))

    def total(self, plain: int) -> float:
        """Cost of the run beside the plain one."""
        return self.epochs(plain) * self.cost / plain


def variants(network: str, wider: str) -> tuple[Variant, ...]:
    """The plain run, and all that is compared with it, most asked for first."""
    side, factor = models.info(network).input.size_hw[0], _macs(wider) / _macs(network)
    return (
        Variant(PLAIN, "FER-2013's labels, smoothed by 0.1; views turned, moved, scaled, erased; averaged weights"),
        Variant("votes, soft", "FER+ votes as soft targets", {"ferplus": "soft"}),
        Variant("votes, second head", "a second head that learns the votes", {"ferplus": "head"}),
        Variant("SAM", "sharpness-aware minimisation, ρ 0.05", {"sam_rho": 0.05}, cost=2),
        Variant("mixup", "α 0.2 on half of the batches", {"mixup": 0.2}),
        Variant("CutMix", "α 1 on half of the batches", {"cutmix": 1.0}),
        Variant("no average", "the last weights instead of their moving average", {"ema": 0.0}),
        Variant("36 px", "smaller pictures", {"input_size": 36}, cost=(36 / side) ** 2),
        Variant("64 px", "larger pictures", {"input_size": 64}, cost=(64 / side) ** 2),
        Variant("twice as wide", f"`{wider}`", {"model": wider}, cost=factor),
        Variant("twice as long", "twice the epochs, and twice the cost", budget=2),
    )


def _macs(network: str) -> int:
    height, width = models.info(network).input.size_hw
    return count_macs(models.create(network), torch.zeros(1, 1, height, width))


def main() -> None:
    """Train what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="packed data set with FER+ votes")
    parser.add_argument("--output", type=Path, default=page.ROOT / "runs" / "ablations", help="folder of the runs")
    parser.add_argument("--network", default="resnet9-tiny")
    parser.add_argument("--wider", default="resnet9-narrow", help="the network of twice the width")
    parser.add_argument("--epochs", type=int, default=8, help="of the plain run (default 8)")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train these and write nothing: for several machines")
    options = parser.parse_args()
    validation = packed.load(options.data, only=("validation",)).split("validation")
    trained: dict[str, list[dict[str, Any]]] = {}
    right: dict[str, NDArray[np.float64]] = {}
    wanted = variants(options.network, options.wider)
    if unknown := set(options.only or ()) - {one.name for one in wanted}:
        parser.error(f"--only {min(unknown)!r}: use some of {', '.join(one.name for one in wanted)}")
    for one in (one for one in wanted if options.only is None or one.name in options.only):
        settings = {"precision": options.precision, "epochs": one.epochs(options.epochs), **one.settings}
        folder = options.output / one.name.replace(", ", "-").replace(" ", "-")
        order = Order(
            recipe=options.network, settings=settings, data=options.data, output=folder, device=options.device
        )
        sweep.sweep(order, {}, seeds=SEEDS)
        measured = [measure(path, validation) for path in sorted(folder.glob("seed-*"))]
        trained[one.name] = [row for row, _ in measured]
        right[one.name] = np.mean([hits for _, hits in measured], axis=0)
        print(one.name, *(f"{row['accuracy']:.2%}" for row in trained[one.name]), flush=True)
    if options.only is not None:
        return
    rows = [
        {
            "name": one.name,
            "about": one.about,
            "cost": round(one.total(options.epochs), 2),
            **shared(trained[one.name]),
            **beside(right[one.name], right[PLAIN]),
        }
        for one in wanted
    ]
    figures = {"network": options.network, "epochs": options.epochs, "images": len(validation), "rows": rows}
    where = page.ROOT / "docs"
    page.keep("ablations", figures, {"ablations": section(rows)}, where / "ablations.md")
    draw(rows, where / "images" / "ablations")


def measure(folder: Path, validation: Split) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Figures of a finished run, and which validation faces it recognises."""
    network, spec = run.load_model(folder)
    found = evaluate(torch_predict(network, spec), validation, labels=spec.labels)
    figures = found.to_dict()
    row = {
        "epochs": len(checkpoint.load(folder / "last.pt").history),
        "macs": count_macs(network, torch.zeros(1, spec.input.channels, *spec.input.size_hw)),
        **{name: round(figures[name], 5) for name in FIGURES},
    }
    return row, found.correct


def shared(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the seeds have in common once, the rest as a list, one entry a seed."""
    first = trials[0]
    return {name: first[name] for name in ("epochs", "macs")} | {
        name: [trial[name] for trial in trials] for name in FIGURES
    }


def beside(right: NDArray[np.float64], plain: NDArray[np.float64]) -> dict[str, Any]:
    """Accuracy over the plain runs' and its paired interval; arrays `(N,)`: share of the seeds that are right."""
    gain = right - plain
    low, high = metrics.bootstrap_interval(lambda at: float(gain[at].mean()), len(gain))
    return {"gain": round(float(gain.mean()), 5), "ci95": [round(low, 5), round(high, 5)]}


def section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of the page."""
    heads = ["change", "what it is", "epochs", "MACs", "cost", "accuracy, %", "macro-F1", "log-loss"]
    heads.append("over plain (95 %), points")
    return page.table(heads, [_cells(row) for row in rows], text_columns=2)


def _cells(row: Mapping[str, Any]) -> list[str]:
    seeds = " and ".join(f"{100 * one:.2f}" for one in row["accuracy"])
    gain, low, high = (page.signed(100 * one) for one in (row["gain"], *row["ci95"]))
    over = "" if row["name"] == PLAIN else f"{gain} ({low} to {high})"
    return [
        row["name"],
        row["about"],
        str(row["epochs"]),
        f"{row['macs'] / 1e6:.1f} M",
        f"{row['cost']:.2f}",
        f"{100 * np.mean(row['accuracy']):.2f} ({seeds})",
        f"{np.mean(row['macro_f1']):.4f}",
        f"{np.mean(row['log_loss']):.4f}",
        over,
    ]


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The differences with their intervals, as `path`.png and .svg."""
    changed = [row for row in rows if row["name"] != PLAIN]
    figure = Figure(figsize=(8, 0.42 * len(changed) + 1.2), layout="constrained")
    axes = figure.subplots()
    look = plots.style(0)
    axes.axvline(0, color="#888888", linewidth=1)
    for place, row in enumerate(reversed(changed)):
        low, high = (100 * one for one in row["ci95"])
        beyond = low > 0 or high < 0
        axes.plot([low, high], [place, place], color=look.colour, linewidth=2)
        fill = look.colour if beyond else "white"
        axes.plot(100 * row["gain"], place, "o", color=look.colour, markerfacecolor=fill, markersize=7)
    axes.set_yticks(range(len(changed)), [row["name"] for row in reversed(changed)])
    axes.set_xlabel("accuracy over the plain runs, points (95 %)\nfilled: beyond what other faces would change")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    plots.save(figure, path)


if __name__ == "__main__":
    main()
