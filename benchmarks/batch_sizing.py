"""Hours and cost of large jobs, computed from what benchmarks/batch.py measured and from assumptions that are named.

    python benchmarks/batch_sizing.py --figures results/batch.json --page docs/sizing.md
    python benchmarks/batch_sizing.py --figures results/batch.json --cpu-hour-usd 0.012 --cpus 256

Without `--page` the tables go to stdout, with other assumptions if they are given.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import page

SIZES = (10**6, 10**8, 10**9)
POWERS = {10**6: "10⁶", 10**8: "10⁸", 10**9: "10⁹"}


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What was not measured here. Change them on the command line."""

    cpus: int = field(default=128, metadata={"what": "vCPUs of the cluster, a worker each"})
    cpu_hour_usd: float = field(default=0.045, metadata={"what": "price of a vCPU for an hour, in US dollars"})
    node_cpus: int = field(default=16, metadata={"what": "vCPUs of a node"})
    node_gbit_s: float = field(default=5.0, metadata={"what": "network of a node that lasts, in Gbit/s"})
    photo_kb: float = field(default=150.0, metadata={"what": "size of a photo in the store, in kB"})
    get_usd: float = field(default=0.0004, metadata={"what": "price of 1,000 requests to the store, in US dollars"})
    tar_images: int = field(default=10_000, metadata={"what": "pictures of a tar shard, one request each shard"})
    efficiency: float = field(default=0.9, metadata={"what": "share of the vCPUs' time that goes into images"})


@dataclass(frozen=True)
class Job:
    """One size of one workload."""

    images: int
    cpu_hours: float
    hours: float
    cpu_usd: float
    read_usd_loose: float
    read_usd_tar: float
    output_gb: float


def seconds_each(figures: Mapping[str, Any], workload: str) -> float:
    """CPU seconds of an image from end to end, in a job with one thread."""
    return float(figures["local_cpu_s"][workload])


def image_kb(figures: Mapping[str, Any], workload: str, assumed: Assumptions) -> float:
    """A photo as assumed, a crop as measured."""
    return float(figures["bytes"]["crop"]) / 1000 if workload.startswith("crops") else assumed.photo_kb


def network_share(figures: Mapping[str, Any], workload: str, assumed: Assumptions) -> float:
    """How much of a node's network its workers take: over 1 the network is the limit."""
    images_s = assumed.node_cpus * assumed.efficiency / seconds_each(figures, workload)
    return images_s * image_kb(figures, workload, assumed) * 8e-6 / assumed.node_gbit_s


def size(figures: Mapping[str, Any], workload: str, images: int, assumed: Assumptions) -> Job:
    """Hours and cost of so many images."""
    cpu_hours = images * seconds_each(figures, workload) / assumed.efficiency / 3600
    cpu_hours *= max(1.0, network_share(figures, workload, assumed))
    return Job(
        images=images,
        cpu_hours=cpu_hours,
        hours=cpu_hours / assumed.cpus,
        cpu_usd=cpu_hours * assumed.cpu_hour_usd,
        read_usd_loose=images * assumed.get_usd / 1000,
        read_usd_tar=images / assumed.tar_images * assumed.get_usd / 1000,
        output_gb=images * float(figures["bytes"]["row"]) / 1e9,
    )


def limit(figures: Mapping[str, Any], workload: str, assumed: Assumptions) -> str:
    """What takes most of the time, and its share."""
    if network_share(figures, workload, assumed) > 1:
        return "I/O: the network of a node"
    stages = figures["stages_cpu_s"][workload]
    stage = max(stages, key=lambda name: stages[name])
    return f"{stage} ({100 * stages[stage] / sum(stages.values()):.0f} % of the CPU time)"


def short(number: float) -> str:
    """Two or three digits that count: 1,840, 31.9, 0.32, 0.0041."""
    if number >= 100:
        return f"{round(number, -1) if number >= 1000 else number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"


def render(figures: Mapping[str, Any], assumed: Assumptions) -> str:
    """The tables as Markdown."""
    return "\n\n".join([_measured(figures), _engines(figures), _assumed(assumed), _sized(figures, assumed)])


def _measured(figures: Mapping[str, Any]) -> str:
    about = figures["machine"]
    load = about["load_average"]
    busy = load is not None and load[0] > 0.5 * about["cpus"]
    warning = " **Other programs ran meanwhile: rates are too low, CPU times a little too high.**" if busy else ""
    lines = [
        f"Measured on {about['cpu']}, CPUs at hand: {about['cpus']}, load average at the start: "
        f"{'unknown' if load is None else round(load[0], 1)}; "
        f"mien {about['packages']['mien']}, ONNX Runtime {about['packages']['onnxruntime']}.{warning}",
        "",
        "| one image, milliseconds of one CPU | decode | detect | classify | table | most goes into |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for workload, stages in figures["stages_cpu_s"].items():
        cells = " | ".join(f"{1000 * stages[name]:.2f}" for name in ("decode", "detect", "classify", "table"))
        lines.append(f"| {workload} | {cells} | {limit(figures, workload, Assumptions())} |")
    return "\n".join(lines)


def _engines(figures: Mapping[str, Any]) -> str:
    threads = list(next(iter(figures["local_images_s"].values())))
    lines = [
        f"| local engine, images a second, threads | {' | '.join(threads)} | gain |",
        f"|---|{'--:|' * (len(threads) + 1)}",
    ]
    for workload, rates in figures["local_images_s"].items():
        cells = " | ".join(f"{rates[n]:,.1f}" for n in threads)
        lines.append(f"| {workload} | {cells} | {rates[threads[-1]] / rates['1']:.2f} |")
    ray, peaks = figures["ray"], figures["peak_mb"]
    one, two = ray["1"]["images_s"], ray["2"]["images_s"]
    sizes = list(peaks)
    lines += [
        "",
        f"Ray, {ray['workload']}, nodes of one CPU on this machine: {one:.1f} images a second with one worker, "
        f"{two:.1f} with two ({two / one:.2f} times as many); the first shard landed "
        f"{ray['1']['first_shard_s']:.0f} s after the start. Peak memory of a local job with two threads: "
        f"{peaks[sizes[0]]:.0f} MB for {int(sizes[0]):,} crops, {peaks[sizes[1]]:.0f} MB for {int(sizes[1]):,}. "
        f"A row takes {figures['bytes']['row']:.0f} bytes in the table.",
    ]
    return "\n".join(lines)


def _assumed(assumed: Assumptions) -> str:
    values = asdict(assumed)
    rows = [
        f"| `--{entry.name.replace('_', '-')}` | {values[entry.name]:,} | {entry.metadata['what']} |"
        for entry in fields(assumed)
    ]
    return "\n".join(["| assumption, not measured | value | what |", "|---|--:|---|", *rows])


def _sized(figures: Mapping[str, Any], assumed: Assumptions) -> str:
    heads = ["job", "images", "CPU hours", f"hours on {assumed.cpus} vCPUs", "CPU, USD"]
    lines = [
        f"| {' | '.join(heads)} | requests, USD: loose / tar | table, GB | of a node's network | limit |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for workload in figures["local_images_s"]:
        for images in SIZES:
            job = size(figures, workload, images, assumed)
            numbers = map(short, (job.cpu_hours, job.hours, job.cpu_usd))
            requests = f"{short(job.read_usd_loose)} / {short(job.read_usd_tar)}"
            share = f"{short(100 * network_share(figures, workload, assumed))} %"
            cells = [workload, POWERS[images], *numbers, requests, short(job.output_gb), share]
            lines.append(f"| {' | '.join(cells)} | {limit(figures, workload, assumed)} |")
    return "\n".join(lines)


def write_page(document: Path, figures: Mapping[str, Any]) -> None:
    """Put the tables, made with the assumptions as they are here, between the document's markers."""
    page.replace_section("sizing", render(figures, Assumptions()), document)


def main() -> None:
    """Render with the assumptions of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=Path("results/batch.json"))
    parser.add_argument(
        "--page", type=Path, help="write the tables of this page, with the assumptions as they are here"
    )
    for entry in fields(Assumptions):
        flag = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(entry.default), default=entry.default, help=entry.metadata["what"])
    options = vars(parser.parse_args())
    figures = json.loads(options.pop("figures").read_text(encoding="utf-8"))
    if document := options.pop("page"):
        write_page(document, figures)
    else:
        print(render(figures, Assumptions(**options)))


if __name__ == "__main__":
    main()
