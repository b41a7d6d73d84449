"""Images per second of training, beside the plain way, network by network in one run.

    python benchmarks/training.py --data DATA [--models baseline vgg-narrow] [--seconds 5] [--output FILE.json]

mien: the whole data set as one uint8 tensor, augmentation on whole batches on the device. The plain way: the same
images as JPEG files in class folders, a torch DataLoader with 2 workers, PIL, and torchvision's v2 transforms of the
same augmentation, one image at a time. Network, batch, optimiser, autocast and memory layout are the same; the
precision is that of the network's own recipe, which is bf16 for all that are trained on a CPU (with `--precision fp32`
the step weighs more, and what mien saves beside it less). Both are timed in turn, several rounds of each, so that
whatever else the machine does meets both, and CPU time, workers included, is taken beside wall time; `alone` is mien's
step on one batch that is ready, so that the rest is data and augmentation. Each has a process of its own, since mien
changes how malloc keeps memory while it trains. Also the largest resident memory of a run of
vgg-narrow on the CPU in a process of its own and, on a CUDA GPU, the share of its measured matrix peak (forward and
backward are three passes of two operations a MAC).
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import mien
from mien import models
from mien.datasets import packed
from mien.datasets.packed import Dataset, Split
from mien.models.counts import count_macs
from mien.models.pixels import normalise
from mien.preprocess import InputSpec
from mien.training import augment, data, distributed, losses, memory, optim, transfer
from mien.training import recipe as recipes
from mien.training.distributed import World
from mien.training.engine import Engine
from mien.training.recipe import Recipe
from mien.training.run import device_name

ROOT = Path(__file__).parents[1]
ON_CPU = ("baseline", "vgg-narrow", "resnet9-narrow")
WORKERS = 2
WARM_UP_STEPS = 5  # more than the batches that the workers have ready
LEAST_STEPS = 10  # that are timed, however slow: enough for the workers to fall behind what they had ready
MEMORY_MODEL, MEMORY_BATCH, MEMORY_STEPS = "vgg-narrow", 128, 4


@dataclass(frozen=True)
class Job:
    """One network's training, for either way."""

    recipe: Recipe
    spec: InputSpec
    dataset: Dataset
    device: torch.device

    def engine(self, kind: type[Engine] = Engine) -> Engine:
        """mien's engine, without averaged weights: the plain way has none."""
        split = self.dataset.split("train")
        placed = data.place(split, self.dataset.labels, self.recipe, self.device)
        model = transfer.build(self.recipe, len(self.dataset.labels))
        world = World(device=self.device)
        return kind(
            recipe=self.recipe, spec=self.spec, model=model, train=placed, validation=placed, about={}, world=world
        )

    def autocast(self) -> torch.autocast:
        """As the engine computes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")


def engine_steps(job: Job) -> Callable[[], int]:
    """A call that makes one step of mien's training and returns its number of images."""
    engine = job.engine()
    engine.begin_sums()
    engine.model.train()

    def batches() -> Iterator[Tensor]:
        epoch = 0
        while True:
            yield from engine.batches(epoch)
            epoch += 1

    endless = batches()

    def step() -> int:
        rows = next(endless)
        engine.train_step(rows)
        engine.step += 1
        return len(rows)

    return step


class Ready(Engine):
    """An engine whose one batch is ready."""

    ready: tuple[Tensor, Tensor, Tensor | None] | None = None

    def views(self, rows: Tensor, draws: augment.Draws, piece: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Always what the first call gave."""
        if self.ready is None:
            self.ready = Engine.views(self, rows, draws, piece)
        return self.ready


def ready_steps(job: Job) -> Callable[[], int]:
    """The same without data and augmentation: always the one batch."""
    engine = job.engine(Ready)
    engine.begin_sums()
    rows = torch.arange(min(job.recipe.batch_size, len(engine.train)), device=job.device)

    def step() -> int:
        engine.train_step(rows)
        engine.step += 1
        return len(rows)

    return step


def plain_steps(job: Job, folder: Path) -> Callable[[], int]:
    """One step of the loop that one writes with torch and torchvision alone."""
    recipe, spec = job.recipe, job.spec
    loader = DataLoader(
        ImageFolder(str(folder), transform=_transforms(recipe, spec), loader=_open),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=job.device.type == "cuda",
    )
    model = transfer.build(recipe, len(job.dataset.labels)).to(job.device, memory_format=torch.channels_last)
    optimizer = optim.make_optimizer(model, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    endless = batches()

    def step() -> int:
        images, labels = next(endless)
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with job.autocast():
            logits = model(normalise(images, spec))
        loss = criterion(logits.float(), labels.to(job.device, non_blocking=True))
        if recipe.l2:
            loss = loss + recipe.l2 * losses.l2_penalty(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):  # mien's engine looks too
            raise SystemExit("the plain loop's loss is not finite")
        return len(images)

    return step


def _open(path: str) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        return picture.convert("L")


def _transforms(recipe: Recipe, spec: InputSpec) -> v2.Compose:
    """The recipe's augmentation as torchvision has it; it cannot pad by reflection, so outside is black."""
    grey = [] if spec.channels == 1 else [v2.Grayscale(3)]
    near, far = 1 - recipe.zoom, 1 + recipe.zoom
    jitter = v2.ColorJitter(brightness=recipe.brightness, contrast=recipe.contrast)
    return v2.Compose([
        v2.Resize(spec.size_hw),
        v2.RandomHorizontalFlip(recipe.flip),
        v2.RandomAffine(
            recipe.rotation_deg,
            translate=(recipe.shift, recipe.shift),
            scale=(near, far),
            interpolation=v2.InterpolationMode.BILINEAR,
        ),
        v2.RandomApply([jitter], recipe.colour_probability),
        *grey,
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomErasing(recipe.erasing, scale=recipe.erasing_area, value=0.5),
    ])  # fmt: skip


def write_folder(split: Split, labels: tuple[str, ...], folder: Path) -> None:
    """The images as JPEG files in class folders, as Kaggle has them."""
    for label in labels:
        (folder / label).mkdir(parents=True)
    for row, (image, index) in enumerate(zip(split.images, split.labels, strict=True)):
        PIL.Image.fromarray(np.asarray(image)).save(folder / labels[index] / f"Training_{row}.jpg", quality=95)


@dataclass(frozen=True)
class Work:
    """What a way did, and what it took."""

    images: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of this process and its workers; hardly moved by what else the machine does

    def __add__(self, other: "Work") -> "Work":
        return Work(self.images + other.images, self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


def timed(step: Callable[[], int], device: torch.device, seconds: float) -> Work:
    """At least `seconds`, and LEAST_STEPS, of steps after the warm-up."""
    for _ in range(WARM_UP_STEPS):
        step()
    _finish(device)
    images, steps, cpu_s, started = 0, 0, _cpu_s(), time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or steps < LEAST_STEPS:
        images += step()
        steps += 1
        if device.type == "cuda" and passed + 0.05 > seconds:  # the queue runs ahead of the device
            _finish(device)
    _finish(device)
    return Work(images, time.perf_counter() - started, _cpu_s() - cpu_s)


def _cpu_s() -> float:
    """User and system time of this process and, where the system tells, of its living children."""
    ticks = 0
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            ticks += sum(map(int, stat.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK") if ticks else time.process_time()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(job: Job, folder: Path, *, seconds: float, rounds: int) -> dict[str, Work]:
    """The three ways, over all rounds."""
    work = dict.fromkeys(("mien", "plain", "alone"), Work())
    context = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        for way in work:
            with ProcessPoolExecutor(1, context) as process:
                work[way] += process.submit(measure_way, way, job, folder, seconds).result()
    return work


def measure_way(way: str, job: Job, folder: Path, seconds: float) -> Work:
    """One way, in the process that calls."""
    if way == "plain":
        return timed(plain_steps(job, folder), job.device, seconds)
    with memory.kept() if job.device.type == "cpu" else nullcontext():  # as the engine does for a whole run
        return timed(engine_steps(job) if way == "mien" else ready_steps(job), job.device, seconds)


def row(job: Job, folder: Path, options: argparse.Namespace, peak: float | None) -> dict[str, Any]:
    """One network's line of the table."""
    work = measure(job, folder, seconds=options.seconds, rounds=options.rounds)
    rates = {name: one.images / one.wall_s for name, one in work.items()}
    cpu_ms = {name: 1000 * one.cpu_s / one.images for name, one in work.items()}
    height, width = job.spec.size_hw
    macs = count_macs(transfer.build(job.recipe, 7), torch.zeros(1, job.spec.channels, height, width))
    return {
        "model": job.recipe.model,
        "input_hw": [height, width],
        "macs": macs,
        "batch_size": job.recipe.batch_size,
        "precision": job.recipe.precision,
        "mien_images_per_s": round(rates["mien"], 1),
        "plain_images_per_s": round(rates["plain"], 1),
        "ratio": round(rates["mien"] / rates["plain"], 2),
        "mien_cpu_ms_per_image": round(cpu_ms["mien"], 3),
        "plain_cpu_ms_per_image": round(cpu_ms["plain"], 3),
        "data_and_augmentation_share": round(1 - rates["mien"] / rates["alone"], 3),
        "matrix_peak_share": None if peak is None else round(6 * macs * rates["mien"] / peak, 3),
    }


def matrix_peak(device: torch.device, precision: str) -> float | None:
    """Operations per second of a large matrix product on a CUDA GPU; None elsewhere."""
    if device.type != "cuda":
        return None
    n, kind = 8192, torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
    for _ in range(3):
        left @ right
    _finish(device)
    started = time.perf_counter()
    for _ in range(10):
        left @ right
    _finish(device)
    return 10 * 2 * n**3 / (time.perf_counter() - started)


def memory_gb(data_path: Path) -> float:
    """Largest resident memory, in 1e9 bytes, of a process that trains `MEMORY_MODEL` on the CPU."""
    command = [sys.executable, __file__, "--data", str(data_path), "--memory-child"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_child(options: argparse.Namespace) -> None:
    """Some steps of `MEMORY_MODEL`, then the process' own peak on stdout."""
    job = make_job(MEMORY_MODEL, MEMORY_BATCH, "fp32", packed.load(options.data, only=("train",)), torch.device("cpu"))
    step = engine_steps(job)
    with memory.kept():
        for _ in range(MEMORY_STEPS):
            step()
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)


def own_precision(name: str) -> str:
    """What the recipe of this network computes in; fp32 where it has none."""
    return recipes.read(name).precision if name in recipes.names() else "fp32"


def make_job(name: str, batch_size: int, precision: str, dataset: Dataset, device: torch.device) -> Job:
    """The defaults of a recipe for this network, without averaged weights and warm-up."""
    settings: dict[str, Any] = {"precision": precision, "ema": 0.0, "warmup_steps": 0}
    recipe = Recipe(model=name, batch_size=batch_size, **settings)
    return Job(recipe, transfer.input_spec(recipe), dataset, device)


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description="Training speed beside the plain way.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set with a train split")
    parser.add_argument("--models", nargs="+", help=f"default: {', '.join(ON_CPU)} on a CPU, all on a GPU")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--images", type=int, default=4096, help="how many training images both ways use")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU, else as the network's recipe"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--memory-child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "training_speed.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = parse()
    if options.memory_child:
        memory_child(options)
        return
    device = distributed.pick_device(options.device)
    whole = packed.load(options.data, only=("train",))
    chosen = np.random.default_rng(0).permutation(len(whole.split("train")))[: options.images]
    dataset = Dataset(whole.labels, {"train": whole.split("train").take(np.sort(chosen))})
    peak = matrix_peak(device, options.precision or "bf16")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_folder(dataset.split("train"), dataset.labels, Path(folder))
        for name in options.models or (models.names() if device.type == "cuda" else ON_CPU):
            precision = options.precision or ("bf16" if device.type == "cuda" else own_precision(name))
            job = make_job(name, options.batch_size, precision, dataset, device)
            rows.append(row(job, Path(folder), options, peak))
            print(json.dumps(rows[-1]))
    table = {
        "device": device_name(device),
        "versions": {"mien": mien.__version__, "torch": str(torch.__version__), "python": platform.python_version()},
        "seconds": options.seconds,
        "rounds": options.rounds,
        "images": len(dataset.split("train")),
        "workers_of_the_plain_way": WORKERS,
        "matrix_peak_flops": peak,
        "models": rows,
        "memory": None if options.no_memory else {"model": MEMORY_MODEL, "batch_size": MEMORY_BATCH, "bar_gb": 3.0},
    }
    if table["memory"] is not None:
        table["memory"]["peak_rss_gb"] = round(memory_gb(options.data), 2)
        print(json.dumps(table["memory"]))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
