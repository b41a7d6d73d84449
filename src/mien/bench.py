"""How fast mien is on this machine: start, models, detectors, a photo end to end, a heatmap, a film.

Times are of a whole call, as a user waits for it; each is repeated, and the median and the 95th percentile are told.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien import hub
from mien.errors import ImageError, ModelError
from mien.explain.occlusion import occlusion_map
from mien.faces import detect
from mien.faces.detections import Detector
from mien.images import read_image, write_image
from mien.pipeline import Analyzer
from mien.results import Image
from mien.runtime import providers
from mien.runtime.cpus import available_cpus
from mien.runtime.predictor import Predictor
from mien.runtime.session import MAX_THREADS
from mien.video.track import FaceTracker

PACKAGES = ("mien", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino", "pillow", "av")
PHOTO_WH = (640, 480)
BATCH = 64  # crops of a call, for throughput
FRAMES_PER_S = 30  # of the film
FASTER_RATIO = 1.1  # a provider has to be faster by so much to be remembered: less is noise
GROUPS = ("start", "models", "detectors", "photo", "heatmap", "video")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was timed."""

    group: str  # one of GROUPS
    what: str
    p50_ms: float  # of a call
    p95_ms: float
    per_s: float | None = None  # crops, pictures or frames, at the median; None where only the wait matters
    unit: str = ""  # of `per_s`
    calls: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    model: str = "default"  # of everything but the group `models`
    threads: int | None = None  # of the network; None: the CPUs at hand
    starts: int = 5  # of processes
    budget_s: float = 2.0  # for the calls of one figure
    calls: tuple[int, int] = (3, 300)  # of one figure, at least and at most
    pictures_wh: tuple[tuple[int, int], ...] = ((320, 240), (640, 480), (1280, 960))  # of the detectors
    large_wh: tuple[int, int] = (4000, 3000)  # a telephone's photo of 12 megapixels
    frames: int = 60  # of the film

    @classmethod
    def quick(cls, *, model: str = "default", threads: int | None = None) -> "Plan":
        """Rough figures in a quarter of a minute."""
        return cls(model=model, threads=threads, starts=1, budget_s=0.2)


def run(photo: Path, plan: Plan) -> Iterator[Figure]:
    """Every figure in the order of GROUPS, each as soon as it is there; `photo` shows a face, upright.

    Raises:
        ImageError: the photo cannot be read, or no face is found in it.
        ModelError: the model is unknown or damaged.
    """
    analyzers = dict(_analyzers(plan))
    small = photo_of(read_image(photo), PHOTO_WH)
    if not analyzers["centerface"].analyze(small):
        raise ImageError(f"{photo}: no face found: give a picture with an upright face of 20 pixels or more")
    with tempfile.TemporaryDirectory() as folder:
        files = {wh: Path(folder) / f"{wh[0]}.jpg" for wh in (PHOTO_WH, plan.large_wh)}
        for wh, file in files.items():
            write_image(photo_of(read_image(photo), wh), file)
        yield from starts(files[PHOTO_WH], plan)
        yield from models(small, plan)
        yield from detectors(small, analyzers, plan)
        yield from photos(files, analyzers, plan)
        yield heatmap(small, analyzers["centerface"], plan)
        yield from video(small, analyzers, plan)


def starts(photo: Path, plan: Plan) -> Iterator[Figure]:
    """From the start of a process to its first line on stdout, or to its end where it writes none."""
    commands = {
        "import mien": ["-c", "import mien"],
        "mien --help": ["-m", "mien", "--help"],
        "mien predict, to the first result": ["-m", "mien", "predict", os.fspath(photo), "--model", plan.model],
    }
    for what, command in commands.items():
        seconds = [_cold_s([sys.executable, *command]) for _ in range(plan.starts + 1)][1:]  # the first warms the disk
        yield _figure("start", what, seconds)


def models(photo: Image, plan: Plan) -> Iterator[Figure]:
    """Each packaged model on each provider that works: one crop a call, and 64."""
    crops = np.stack([cv2.resize(photo, (48, 48), interpolation=cv2.INTER_AREA)] * BATCH).astype(np.uint8)
    for name in packaged_models():
        for provider in providers.installed():
            try:
                predictor = Predictor(hub.resolve(name), threads=plan.threads, provider=provider)
            except ModelError:  # a GPU's provider on a machine without that GPU
                continue
            about = f"{name} ({predictor.info.precision}) on {provider}"
            yield timed("models", f"{about}, 1 crop", partial(predictor.predict, crops[:1]), plan, unit="crops")
            yield timed("models", f"{about}, {BATCH} crops", partial(predictor.predict, crops), plan, BATCH, "crops")


def detectors(photo: Image, analyzers: dict[str, Analyzer], plan: Plan) -> Iterator[Figure]:
    """Each detector at hand on pictures of three sizes."""
    for name, analyzer in analyzers.items():
        for wh in plan.pictures_wh:
            picture = photo_of(photo, wh)
            what = f"{name}, {wh[0]} x {wh[1]}"
            yield timed("detectors", what, partial(analyzer.detector.detect, [picture]), plan, unit="pictures")


def photos(files: dict[tuple[int, int], Path], analyzers: dict[str, Analyzer], plan: Plan) -> Iterator[Figure]:
    """JPEG file to probabilities."""
    for name, analyzer in analyzers.items():
        for (width, height), file in files.items():
            what = f"{width} x {height} JPEG to probabilities, {name}"
            yield timed("photo", what, partial(analyzer.analyze, file), plan, unit="pictures")


def heatmap(photo: Image, analyzer: Analyzer, plan: Plan) -> Figure:
    """An occlusion map of the face."""
    face = analyzer.analyze(photo)[0]
    call = partial(occlusion_map, analyzer.predict_crops, face.crop, face.emotion, labels=analyzer.labels)
    return timed("heatmap", "occlusion map of a face", call, plan, unit="maps")


def video(photo: Image, analyzers: dict[str, Analyzer], plan: Plan) -> Iterator[Figure]:
    """The frames of a film in which the photo drifts, one call a frame; decoding is not in it."""
    film = [_shifted(photo, 2.0 * i, 1.0 * i) for i in range(plan.frames)]
    for name, analyzer in analyzers.items():
        seconds: list[float] = []
        before_s = time.perf_counter()
        while len(seconds) < plan.frames or time.perf_counter() - before_s < plan.budget_s:
            tracker = FaceTracker(analyzer)
            for number, frame in enumerate(film):
                seconds.append(_seconds(partial(tracker.update, frame, number / FRAMES_PER_S)))
        wait = np.array(seconds)
        yield Figure(
            group="video",
            what=f"{photo.shape[1]} x {photo.shape[0]} frames followed, {name}",
            p50_ms=1000 * float(np.median(wait)),
            p95_ms=1000 * float(np.quantile(wait, 0.95)),
            per_s=1 / float(wait.mean()),  # detection comes every few frames: the mean is what a film takes
            unit="frames",
            calls=len(wait),
        )


def timed(group: str, what: str, call: Callable[[], object], plan: Plan, items: int = 1, unit: str = "") -> Figure:
    """The figure of a call that handles `items`; the first two calls do not count."""
    call()
    once_s = _seconds(call)
    calls = int(np.clip(plan.budget_s / max(once_s, 1e-6), *plan.calls))
    return _figure(group, what, [_seconds(call) for _ in range(calls)], items=items, unit=unit)


def remember(figures: Sequence[Figure]) -> dict[str, str]:
    """Keep, for `MIEN_PROVIDER=auto`, the provider with the shortest times of each packaged model; returns them.

    Keeps as well whether `default` is to be `default-fp16` here. Fastest is the least product of the medians at one
    crop and at 64.
    """
    waits = {figure.what: figure.p50_ms for figure in figures if figure.group == "models"}
    products = {name: _products(name, waits) for name in packaged_models()}
    chosen = {name: _faster(of, than="cpu") for name, of in products.items()}
    quickest = {name: products[name][chosen[name]] for name in (providers.DEFAULT, providers.UNQUANTISED)}
    sha256 = {name: hub.sha256_of(hub.resolve(name)) for name in products}
    providers.remember(
        {sha256[name]: provider for name, provider in chosen.items()},
        default={sha256[providers.DEFAULT]: _faster(quickest, than=providers.DEFAULT)},
    )
    return chosen


def _products(name: str, waits: Mapping[str, float]) -> dict[str, float]:
    """By provider: a model's median wait for one crop times that for 64."""
    precision = Predictor(hub.resolve(name), threads=1, provider="cpu").info.precision
    products = {}
    for provider in providers.installed():
        one, many = (waits.get(f"{name} ({precision}) on {provider}, {n}") for n in ("1 crop", f"{BATCH} crops"))
        if one is not None and many is not None:
            products[provider] = one * many
    return products


def _faster(products: Mapping[str, float], *, than: str) -> str:
    """What has the least product, where that is no noise; else `than`."""
    best = min(products, key=lambda name: products[name])
    return best if products[than] > products[best] * FASTER_RATIO**2 else than


def packaged_models() -> tuple[str, ...]:
    """Names of the expression models that came with mien, the default first."""
    names = (name for name in hub.packaged() if name not in detect.NAMES)
    return tuple(sorted(names, key=lambda name: (name != "default", name)))


def machine(threads: int | None = None) -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": providers.cpu_name(),
        "cpus": available_cpus(),
        "threads": threads or min(available_cpus(), MAX_THREADS),  # of the network
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "providers": list(providers.installed()),
        "packages": {package: number for package in PACKAGES if (number := _version(package))},
    }


def to_dict(figures: Sequence[Figure], plan: Plan) -> dict[str, Any]:
    """The JSON of `mien bench`."""
    about = Predictor(providers.file_of(plan.model), threads=plan.threads).info.to_dict()
    return {"machine": machine(plan.threads), "model": about, "figures": [asdict(figure) for figure in figures]}


def photo_of(picture: Image, size_wh: tuple[int, int]) -> Image:
    """`picture` as large as fits, in the middle of a grey one of `size_wh`."""
    width, height = size_wh
    ratio = min(width / picture.shape[1], height / picture.shape[0])
    inner = PIL.Image.fromarray(picture).resize(
        (max(1, round(picture.shape[1] * ratio)), max(1, round(picture.shape[0] * ratio))), reducing_gap=3.0
    )
    whole = PIL.Image.new("RGB", size_wh, (128, 128, 128))
    whole.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return np.array(whole)


def _analyzers(plan: Plan) -> Iterator[tuple[str, Analyzer]]:
    """An analyzer for each detector whose file is at hand; nothing is fetched for a measurement."""
    predictor = Predictor(providers.file_of(plan.model), threads=plan.threads)
    for name in detect.NAMES:
        remote = hub.REMOTE.get(name)
        if name != "none" and (remote is None or (hub.home() / remote.file_name).is_file()):
            detector: Detector = detect.create(name)
            yield name, Analyzer(predictor, detector)


def _shifted(picture: Image, x_px: float, y_px: float) -> NDArray[np.uint8]:
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], np.float64)
    return np.asarray(cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _figure(group: str, what: str, seconds: Sequence[float], *, items: int = 1, unit: str = "") -> Figure:
    p50_s, p95_s = float(np.median(seconds)), float(np.quantile(seconds, 0.95))
    rate = items / p50_s if unit else None
    return Figure(
        group=group, what=what, p50_ms=1000 * p50_s, p95_ms=1000 * p95_s, per_s=rate, unit=unit, calls=len(seconds)
    )


def _seconds(call: Callable[[], object]) -> float:
    before_s = time.perf_counter()
    call()
    return time.perf_counter() - before_s


def _cold_s(command: Sequence[str]) -> float:
    before_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        elapsed_s = time.perf_counter() - before_s
        process.stdout.read()
    if process.returncode:
        raise ModelError(f"`{' '.join(command[1:])}` ends with code {process.returncode}: run it to see why")
    return elapsed_s


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
