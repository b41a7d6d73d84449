"""Speed and truth of faces followed through films: `mien video` and `mien webcam` without drawing.

    python benchmarks/video.py [--data DATA] [--parts speed delay ...] [--detectors yunet] [--quick] [--output FILE]

Every film is made here, with known truth (tests/video/films.py), from portraits that matplotlib and scikit-image
ship and, for `smoothing`, from FER-2013's validation faces (`--data`: what `mien data prepare` wrote). Bars: a film of
640 x 480 with one face at 30 frames per second with centerface and 60 with yunet, decoding included; results of the
live loop under 100 ms after the frame; against detection in every frame, boxes with an IoU of 0.8 and equal decisions
in 97 % of the frames; IDF1 over 0.95, new tracks after a cut; a change of expression shown in under 0.5 s and flicker
cut to a fifth. yunet runs where its weights are in the cache ($MIEN_HOME) or can be fetched. `--quick` makes fewer and
shorter films, to try it out: its figures are no result, and are written only where `--output` says.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from page import replace_section, table
from timing import DETECTORS, analyzers

from mien import bench
from mien.datasets import packed
from mien.pipeline import Analyzer
from mien.runtime.cpus import available_cpus
from mien.video import looks
from mien.video.analyze import follow
from mien.video.frames import ClosedAfterUse, Frame, FrameSource, SourceInfo
from mien.video.loop import Newest
from mien.video.source import open_source
from mien.video.track import FaceTracker, TrackedFace, TrackSettings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.video import films, scores  # noqa: E402

FPS_BARS = {"centerface": 30.0, "yunet": 60.0}
CAST = 12  # people of the identity films besides the two portraits
STRETCH_S = 2.0  # how long an expression lasts in the films with changes
SETTLED_S = 1.0  # after a change; what flickers later is flicker
DEFAULTS = TrackSettings()
PAGE = ROOT / "docs" / "tracking.md"
PARTS = ("speed", "delay", "agreement", "identity", "smoothing")


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    part: str
    what: str
    value: float
    unit: str
    bar: float | None = None
    at_most: bool = False  # the bar is an upper one

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def row(self) -> str:
        """One line."""
        bar = "" if self.bar is None else f"{'<=' if self.at_most else '>='} {self.bar:g}"
        return f"{self.part:<10} {self.what:<66} {self.value:>9.3f} {self.unit:<7} {bar:>8} {verdict(self.met)}"


def verdict(met: bool | None) -> str:
    """The last column."""
    return "" if met is None else "yes" if met else "NO"


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    model: str
    detectors: tuple[str, ...]
    data: Path | None
    quick: bool

    def seconds(self, duration_s: float) -> float:
        """Length of a film."""
        return duration_s / 5 if self.quick else duration_s

    def few(self, things: list[Any]) -> list[Any]:
        """All, or the first two."""
        return things[:2] if self.quick else things


def followed(
    analyzer: Analyzer, shots: Iterable[films.Shot], settings: TrackSettings = DEFAULTS
) -> list[list[TrackedFace]]:
    """The faces of every frame."""
    tracker = FaceTracker(analyzer, settings=settings)
    return [tracker.update(shot.image, shot.time_s) for shot in shots]


# speed ---------------------------------------------------------------------------------------------------------------


def write_film(path: Path, duration_s: float) -> int:
    """One face at 640 x 480 as H.264; the number of frames."""
    import av  # noqa: PLC0415 - the other parts do without

    count = 0
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=round(films.RATE_HZ))
        stream.width, stream.height, stream.pix_fmt = (*films.SIZE_WH, "yuv420p")
        for shot in films.one_face(duration_s=duration_s):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shot.image, format="rgb24")))
            count += 1
        output.mux(stream.encode(None))
    return count


def speed(plan: Plan, *, repetitions: int = 3) -> list[Result]:
    """Frames a second from the file to the smoothed results, and what each stage takes of the time."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        frames = write_film(path, plan.seconds(10))
        for name, analyzer in analyzers(plan.model, plan.detectors):
            analyzer.analyze(next(films.one_face(duration_s=1)).image)  # what is loaded late is not counted
            runs = [run_film(path, analyzer, frames) for _ in range(repetitions)]
            seconds, stages = min(runs, key=lambda run: run[0])  # other programs only ever add time
            what = f"{name}: 640 x 480 H.264, one face, end to end"
            results.append(Result("speed", what, frames / seconds, "fps", FPS_BARS[name]))
            stages = {"decode and the rest": seconds - sum(stages.values()), **stages}
            for stage, stage_s in stages.items():
                results.append(Result("speed", f"{name}:   {stage}", 1000 * stage_s / frames, "ms"))
    return results


def run_film(path: Path, analyzer: Analyzer, frames: int) -> tuple[float, Mapping[str, float]]:
    """Seconds for a whole film, and those of each stage."""
    tracker = FaceTracker(analyzer)
    began_s = time.perf_counter()
    with open_source(str(path)) as source:
        seen = sum(len(result.faces) == 1 for result in follow(source, tracker))
    seconds = time.perf_counter() - began_s
    if seen < 0.98 * frames:
        raise SystemExit(f"the face was seen in {seen} of {frames} frames: this is no timing of one face")
    return seconds, tracker.stage_s


# delay ---------------------------------------------------------------------------------------------------------------


class Camera(ClosedAfterUse):
    """Pictures that come at their time, whether or not anybody waits."""

    broken = 0
    fault = None
    info = SourceInfo("made", live=True)

    def __init__(self, shots: Sequence[films.Shot]) -> None:
        self._shots = shots

    def __iter__(self) -> Iterator[Frame]:
        began_s = time.monotonic()
        for index, shot in enumerate(self._shots):
            time.sleep(max(0.0, began_s + shot.time_s - time.monotonic()))
            yield Frame(shot.image, shot.time_s, index)


def delay(plan: Plan) -> list[Result]:
    """From the arrival of a frame to its result, with a camera of 30 frames a second."""
    shots = list(films.one_face(duration_s=plan.seconds(10)))
    results = []
    for name, analyzer in analyzers(plan.model, plan.detectors):
        camera: FrameSource = Camera(shots)
        with Newest(camera) as newest:
            delays_ms = [1000 * result.delay_s for result in follow(newest, FaceTracker(analyzer))]
        middle, late = np.percentile(delays_ms[10:], [50, 99])  # the first detection loads and warms up
        results += [
            Result("delay", f"{name}: frame to result, median", float(middle), "ms", 100, at_most=True),
            Result("delay", f"{name}: frame to result, 99 in 100", float(late), "ms", 100, at_most=True),
            Result("delay", f"{name}: frames that nobody waited for", newest.dropped / len(shots), "share"),
        ]
    return results


# agreement -----------------------------------------------------------------------------------------------------------


def agreement(plan: Plan) -> list[Result]:
    """The defaults against detection in every frame, on one face and on four."""
    results = []
    every = replace(DEFAULTS, detect_every=1)
    for name, analyzer in analyzers(plan.model, plan.detectors):
        scenes: dict[str, Callable[[], Iterator[films.Shot]]] = {
            "one face": lambda: films.one_face(duration_s=plan.seconds(10)),
            "four faces": lambda: films.group(cast(analyzer, 4), duration_s=plan.seconds(10)),  # noqa: B023
        }
        for scene, make in scenes.items():
            ours, reference = followed(analyzer, make()), followed(analyzer, make(), every)
            overlaps, equal = compare(ours, reference)
            share = float(np.mean(overlaps >= 0.8))
            results += [
                Result("agreement", f"{name}, {scene}: boxes with IoU >= 0.8", share, "share", 0.97),
                Result("agreement", f"{name}, {scene}: mean IoU", float(overlaps.mean()), "", None),
                Result("agreement", f"{name}, {scene}: equal decisions", float(equal.mean()), "share", 0.97),
            ]
    return results


def compare(
    ours: Sequence[Sequence[TrackedFace]], reference: Sequence[Sequence[TrackedFace]]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """For each face that detection in every frame finds: IoU of the nearest box, and whether emotions are equal."""
    overlaps, equal = [], []
    for mine, theirs in zip(ours, reference, strict=True):
        for face in theirs:
            box = face.face.box_xyxy.tolist()
            nearest = max(mine, key=lambda m: scores.iou(box, m.face.box_xyxy.tolist()), default=None)
            overlaps.append(0.0 if nearest is None else scores.iou(box, nearest.face.box_xyxy.tolist()))
            equal.append(nearest is not None and nearest.emotion == face.emotion)
    return np.array(overlaps), np.array(equal)


# identity ------------------------------------------------------------------------------------------------------------


@cache
def cast(analyzer: Analyzer, count: int) -> tuple[films.Actor, ...]:
    """The two portraits, then people of LFW whom the detector finds where they stand still: that is not tested here."""
    people = [films.astronaut(), films.grace_hopper()]
    for number in np.random.default_rng(0).permutation(100):
        if len(people) >= count:
            break
        actor = films.lfw(int(number))
        shots = films.film([films.Role("a", films.still(320, 240, 110), actor)], duration_s=0.5, rate_hz=10)
        if all(len(faces) == 1 for faces in followed(analyzer, shots)):
            people.append(actor)
    return tuple(people)


def identity(plan: Plan) -> list[Result]:
    """IDF1 over films of crossings, occlusions and crowds, and what a cut does."""
    results = []
    for name, analyzer in analyzers(plan.model, plan.detectors):
        scores_of = {scene: [identify(analyzer, shots) for shots in made] for scene, made in scenes(analyzer, plan)}
        for scene, found in scores_of.items():
            results.append(Result("identity", f"{name}: {scene}, {len(found)} films: IDF1", idf1(found), ""))
        every = [one for found in scores_of.values() for one in found]
        results.append(Result("identity", f"{name}: all {len(every)} films: IDF1", idf1(every), "", 0.95))
        results.append(Result("identity", f"{name}: cuts that start new tracks", cuts(analyzer, plan), "share", 1.0))
    return results


def scenes(analyzer: Analyzer, plan: Plan) -> Iterator[tuple[str, list[Iterator[films.Shot]]]]:
    """Films by kind."""
    people = cast(analyzer, CAST + 2)
    portraits, others = people[:2], people[2:]
    pairs = [portraits, portraits[::-1], *zip(others[::2], others[1::2], strict=True)]
    yield "crossing", plan.few([films.crossing(*pair, scene=10 + i) for i, pair in enumerate(pairs)])
    yield (
        "crossing fast",
        plan.few([films.crossing(*pair, duration_s=1.5, scene=30 + i) for i, pair in enumerate(pairs[:4])]),
    )
    yield (
        "crossing slowly",
        plan.few([films.crossing(*pair, duration_s=6, scene=40 + i) for i, pair in enumerate(pairs[:4])]),
    )
    yield "behind a post", plan.few([films.behind_post(person, scene=50 + i) for i, person in enumerate(people[:6])])
    yield "four wander about", plan.few([films.crowd(people[i : i + 4], scene=60 + i) for i in (0, 4, 8)])


def identify(analyzer: Analyzer, shots: Iterable[films.Shot]) -> scores.Identity:
    """Identity measures of one film."""
    shown = list(shots)
    found = [[(face.track, face.face.box_xyxy.tolist()) for face in faces] for faces in followed(analyzer, shown)]
    return scores.identity_in_film(shown, found)


def idf1(found: Sequence[scores.Identity]) -> float:
    """Of all films together."""
    agreeing = 2 * sum(one.true_positives for one in found)
    return agreeing / sum(one.truths + one.found for one in found)


def cuts(analyzer: Analyzer, plan: Plan) -> float:
    """The share of cuts, between two people at one place and between two scenes with the same person, that are seen."""
    people = cast(analyzer, CAST + 2)
    pairs = [*pairwise(people), (people[0], people[0]), (people[1], people[1])]
    new = []
    for a, b in plan.few(pairs):
        faces = followed(analyzer, films.cut(a, b, before_s=0.5, after_s=0.5))
        before, after = faces[: len(faces) // 2], faces[len(faces) // 2 :]
        known, later = ({face.track for frame in part for face in frame} for part in (before, after))
        if known and later:  # whom the detector does not find says nothing about cuts
            new.append(known.isdisjoint(later))
    return float(np.mean(new))


# smoothing -----------------------------------------------------------------------------------------------------------


def smoothing(plan: Plan, *, count: int = 6, changes: int = 10) -> list[Result]:
    """Delay and flicker on films of one face that changes its expression, raw and smoothed."""
    if plan.data is None:
        print("smoothing: not run: give --data", file=sys.stderr)
        return []
    results = []
    for name, analyzer in analyzers(plan.model, plan.detectors):
        measured = [changing_film(analyzer, plan.data, seed, changes) for seed in plan.few(list(range(count)))]
        delays_s = np.concatenate([one.delays_s for one in measured])
        minutes = sum(one.settled_s for one in measured) / 60
        raw, steady = (sum(values) / minutes for values in zip(*(one.switches for one in measured), strict=True))
        results += [
            Result("smoothing", f"{name}: changes of expression", len(delays_s), ""),
            Result("smoothing", f"{name}: shown at all", float(np.isfinite(delays_s).mean()), "share"),
            Result("smoothing", f"{name}: delay, median", float(np.median(delays_s)), "s", 0.5, at_most=True),
            Result("smoothing", f"{name}: delay, 90 in 100", float(np.percentile(delays_s, 90, method="lower")), "s"),
            Result("smoothing", f"{name}: flicker, raw", raw, "1/min"),
            Result("smoothing", f"{name}: flicker, smoothed", steady, "1/min"),
            Result("smoothing", f"{name}: flicker cut by", raw / max(steady, 1 / minutes), "times", 5),
        ]
    return results


@dataclass(frozen=True, eq=False)
class Steadiness:
    """What smoothing did to one film."""

    delays_s: np.ndarray[Any, np.dtype[np.float64]]  # of each change; inf where it was never shown
    switches: tuple[int, int]  # raw and smoothed, within stretches, once settled
    settled_s: float  # time in which those were counted


def changing_film(analyzer: Analyzer, data: Path, seed: int, changes: int) -> Steadiness:
    """Measure one film."""
    faces = expressions(analyzer, data, seed, changes + 1)
    actors = {STRETCH_S * index: films.pasted(image) for index, (image, _) in enumerate(faces)}
    duration_s = STRETCH_S * len(faces)
    shots = films.changing(actors, duration_s=duration_s, scene=seed)
    shown = followed(analyzer, shots)
    delays, raw, steady = [], 0, 0
    per_stretch = round(STRETCH_S * films.RATE_HZ)
    settled = round(SETTLED_S * films.RATE_HZ)
    for index, (_, label) in enumerate(faces):
        stretch = [frame[0] if frame else None for frame in shown[index * per_stretch : (index + 1) * per_stretch]]
        right = [number for number, face in enumerate(stretch) if face is not None and face.emotion == label]
        if index:
            delays.append(right[0] / films.RATE_HZ if right else np.inf)
        late = [face for face in stretch[settled:] if face is not None]
        raw += scores.switches([face.face.emotion for face in late])
        steady += scores.switches([face.emotion for face in late])
    return Steadiness(np.array(delays), (raw, steady), len(faces) * (STRETCH_S - SETTLED_S))


@cache
def candidates(analyzer: Analyzer, data: Path) -> tuple[Any, ...]:
    """Validation faces whose label the network gives, and their looks: only of those are the changes known."""
    dataset = packed.load(data, only=("validation",))
    split = dataset.split("validation")
    images = np.asarray(split.images)
    names = np.array(dataset.labels)[split.labels]
    right = np.array(analyzer.labels)[analyzer.predict_crops(images).argmax(axis=1)] == names
    crops = np.repeat(images[right][..., None], 3, axis=3)
    return images[right], names[right], looks.of_crops(crops)


def expressions(analyzer: Analyzer, data: Path, seed: int, count: int) -> list[tuple[Any, str]]:
    """Faces with their labels, each another one than before but as alike as can be: they stand in for one person."""
    images, names, vectors = candidates(analyzer, data)
    order = np.random.default_rng(seed).permutation(len(images))
    index = next(int(i) for i in order if is_read(analyzer, images[i], str(names[i])))
    used, chain = {index}, deque([index])
    while len(chain) < count:
        alike = vectors @ vectors[chain[-1]]
        alike[names == names[chain[-1]]] = -1
        alike[list(used)] = -1
        for following in np.argsort(-alike):
            used.add(int(following))
            if is_read(analyzer, images[following], str(names[following])):
                chain.append(int(following))
                break
    return [(images[i], str(names[i])) for i in chain]


def is_read(analyzer: Analyzer, image: Any, label: str) -> bool:
    """Whether, of ten frames of such a film, the face is found in all and its label is the answer in most."""
    shots = films.changing({0.0: films.pasted(image)}, duration_s=1, rate_hz=10)
    seen = followed(analyzer, shots, replace(DEFAULTS, detect_every=1))
    right = sum(frame[0].face.emotion == label for frame in seen if len(frame) == 1)
    return all(len(frame) == 1 for frame in seen) and right > 5


# ----------------------------------------------------------------------------------------------------------------------


def save(path: Path, results: Sequence[Result], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write the figures; those of parts that did not run now stay. Returns all."""
    before = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    ran = {result.part for result in results}
    kept = [row for row in before if row["part"] not in ran]
    rows = kept + [
        {**asdict(result), "value": result.value if np.isfinite(result.value) else None, "met": result.met}
        for result in results
    ]
    rows.sort(key=lambda row: PARTS.index(row["part"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": about, "settings": asdict(DEFAULTS), "results": rows}
    path.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return rows


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """What has a bar, as the table of docs/tracking.md."""
    lines = []
    for one in rows:
        if one["bar"] is not None:
            bar = f"{'at most' if one['at_most'] else 'at least'} {one['bar']:g}"
            measured = f"{one['value']:.3g} {one['unit']}".strip()
            lines.append([one["part"], one["what"], measured, bar, "yes" if one["met"] else "no"])
    replace_section("video", table(["part", "what", "measured", "bar", "met"], lines, text_columns=2), PAGE)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, help="FER-2013 as `mien data prepare` packs it, for `smoothing`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter films: to try it out")
    parser.add_argument("--output", type=Path, help="default: results/video.json")
    options = parser.parse_args()
    plan = Plan(options.model, tuple(options.detectors), options.data, options.quick)
    measures = {
        "speed": speed,
        "delay": delay,
        "agreement": agreement,
        "identity": identity,
        "smoothing": smoothing,
    }
    cv2.setNumThreads(available_cpus())  # no more than the process may use
    about = bench.machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    results = []
    for part in options.parts:
        for result in measures[part](plan):
            print(result.row(), flush=True)
            results.append(result)
    output = options.output or (None if options.quick else ROOT / "results" / "video.json")
    if output:
        rows = save(output, results, about)
        if not options.output:
            write_page(rows)


if __name__ == "__main__":
    main()
