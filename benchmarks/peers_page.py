"""The section of docs/benchmarks.md that `benchmarks/peers.py` writes: bars, table, scatter plot."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from page import replace_section, table

from mien.evaluation.plots import ACCENT, DPI, INK, save

COMPARED_OVER = 0.60  # accuracy of the peers whose speed mien has to match
EQUAL_RATIO = 1.5  # throughputs this near count as equal
LEAD_POINTS = {"cpu": 2.0, "cuda": 7.0}  # over the best peer, by what the default was trained on
MAX_FIRST_S, MAX_MB = 1.5, 450.0
WHY = {
    "accuracy": "The default was trained on few CPU cores; a larger network or a GPU is what would close the gap.",
    "throughput": "The default does 149 M multiplications and additions a crop, which is the price of its accuracy.",
    "start": "Loading NumPy, OpenCV and ONNX Runtime takes most of it (docs/profile.md).",
    "size": "OpenCV, ONNX Runtime and NumPy are most of it.",
}


def write_page(figures: dict[str, Any], page: Path) -> None:
    """Write the section of `page`, and its picture in `images` beside it."""
    measured = [peer for peer in figures["peers"] if "not_run" not in peer]
    save(scatter(measured), page.parent / "images" / "peers")
    parts = [intro(figures), main_table(measured), *not_run(figures["peers"])]
    parts += ["![Accuracy over throughput of mien and its peers](images/peers.png)", "### Bars", bars(figures)]
    replace_section("peers", "\n\n".join(parts), page)


def intro(figures: dict[str, Any]) -> str:
    """What was measured on what."""
    about, n = figures["machine"], figures["data"]["n"]
    return (
        f"{n:,} faces of PublicTest, on {about['cpu']}, {about['cpus']} cores; {figures['rounds']} rounds of timing "
        "with every peer in turn. Accuracy with its 95 % interval; p is the exact McNemar test against `mien default` "
        "on the same faces; ECE in 15 bins; latency is one crop a call, throughput the median of calls with 64 crops; "
        "start is from the start of the process to the first prediction; MB is the whole environment."
    )


def main_table(measured: list[dict[str, Any]]) -> str:
    """A row a peer, the most accurate first."""
    heads = ["peer", "network", "accuracy %", "p", "macro-F1", "log-loss", "ECE", "fear recall"]
    heads += ["p50 ms", "p95 ms", "faces/s", "start s", "MB"]
    rows = []
    for peer in sorted(measured, key=lambda peer: -peer["accuracy"]):
        low, high = (100 * end for end in peer["accuracy_ci95"])
        name = f"**{peer['name']}**" if peer["name"] == "mien default" else f"`{peer['name']}`"
        accuracy = f"{100 * peer['accuracy']:.2f} ({low:.1f} to {high:.1f})"
        figures = [accuracy, _p(peer.get("mcnemar_p")), f"{peer['macro_f1']:.3f}", f"{peer['log_loss']:.3f}"]
        figures += [f"{peer['ece']:.3f}", f"{peer['recall']['fear']:.2f}", f"{peer['p50_ms']:.2f}"]
        figures += [
            f"{peer['p95_ms']:.2f}",
            f"{peer['faces_per_s']:,.0f}",
            f"{peer['first_s']:.2f}",
            f"{peer['mb']:,.0f}",
        ]
        rows.append([name, f"{peer['what']} ({peer['version']})", *figures])
    return table(heads, rows, text_columns=2)


def not_run(peers: list[dict[str, Any]]) -> list[str]:
    """A line for each peer that could not be run; none where all were."""
    lines = [f"- `{peer['name']}` ({peer['what']}): {peer['not_run']}" for peer in peers if "not_run" in peer]
    return ["Not run:\n\n" + "\n".join(lines)] if lines else []


def bars(figures: dict[str, Any]) -> str:
    """What the project asked of itself, what was measured, and by how much and why a bar is missed."""
    measured = {peer["name"]: peer for peer in figures["peers"] if "not_run" not in peer}
    default = measured["mien default"]
    others = [peer for name, peer in measured.items() if not name.startswith("mien")]
    best = max(others, key=lambda peer: peer["accuracy"])
    on = "cpu" if figures["trained_on"].startswith("cpu") else "cuda"
    lead = 100 * (default["accuracy"] - best["accuracy"])
    rows = [
        _bar(
            f"a default trained on {'the CPU' if on == 'cpu' else 'a GPU'} is at least {LEAD_POINTS[on]:g} points more "
            f"accurate than the best peer (`{best['name']}`, {100 * best['accuracy']:.2f} %)",
            f"{lead:+.2f} points",
            lead - LEAD_POINTS[on],
            f"{LEAD_POINTS[on] - lead:.2f} points",
            "accuracy",
        )
    ]
    for peer in others:
        if peer["accuracy"] > COMPARED_OVER:
            ratio = default["faces_per_s"] / peer["faces_per_s"]
            said = f"{ratio:.2f} times its {peer['faces_per_s']:,.0f} faces/s"
            said += " (counts as equal)" if 1 / EQUAL_RATIO <= ratio < 1 else ""
            what = f"with 64 crops in a call as fast as `{peer['name']}` or faster, in one pass without averaging"
            rows.append(_bar(what, said, ratio - 1 / EQUAL_RATIO, f"a factor of {1 / ratio:.2f}", "throughput"))
    first, size = default["first_s"], default["mb"]
    rows.append(
        _bar(
            f"start to first prediction under {MAX_FIRST_S} s",
            f"{first:.2f} s",
            MAX_FIRST_S - first,
            f"{first - MAX_FIRST_S:.2f} s",
            "start",
        )
    )
    rows.append(
        _bar(
            f"base environment under {MAX_MB:.0f} MB, pip included",
            f"{size:.0f} MB",
            MAX_MB - size,
            f"{size - MAX_MB:.0f} MB",
            "size",
        )
    )
    return table(["bar", "measured", "met"], rows, text_columns=3)


def _bar(what: str, measured: str, margin: float, missed_by: str, why: str) -> list[str]:
    return [what, measured, "yes" if margin >= 0 else f"**no**, by {missed_by}. {WHY[why]}"]


def scatter(measured: list[dict[str, Any]]) -> Figure:
    """Accuracy with its interval over throughput on a logarithmic axis."""
    figure = Figure(figsize=(7.2, 4.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    for peer in measured:
        ours = peer["name"].startswith("mien")
        x, y = peer["faces_per_s"], 100 * peer["accuracy"]
        spread = [[y - 100 * peer["accuracy_ci95"][0]], [100 * peer["accuracy_ci95"][1] - y]]
        colour, marker = (ACCENT, "o") if ours else (INK, "s")
        axes.errorbar(x, y, yerr=spread, fmt=marker, color=colour, markersize=7, elinewidth=1.2, capsize=3)
        weight = "bold" if ours else "normal"
        side = -1 if _has_neighbour(peer, measured) else 1
        axes.annotate(
            peer["name"],
            (x, y),
            xytext=(9 * side, 5),
            ha="left" if side == 1 else "right",
            textcoords="offset points",
            color=colour,
            fontsize=9,
            weight=weight,
        )
    fastest, slowest = (pick(peer["faces_per_s"] for peer in measured) for pick in (max, min))
    axes.set_xlim(slowest / 1.7, fastest * 5)  # room for the names on the right
    axes.set_xlabel("faces a second, 64 in a call (logarithmic)")
    axes.set_ylabel("accuracy on PublicTest, % (95 % interval)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=True, which="major", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _has_neighbour(peer: dict[str, Any], measured: list[dict[str, Any]]) -> bool:
    """Whether another peer lies so near on the right that it would stand in the name."""
    return any(
        1 < other["faces_per_s"] / peer["faces_per_s"] < 8 and abs(other["accuracy"] - peer["accuracy"]) < 0.01
        for other in measured
    )


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
