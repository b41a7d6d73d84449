"""The whole way from a photo to probabilities, measured on photos whose faces are known.

    python benchmarks/pipeline.py --data DATA

takes 1,000 faces of PublicTest (the validation split of a packed data set), enlarges each to 60-300 px, turns it by
up to 20 degrees either way and pastes it with blended borders on a 640 x 480 background without faces. `Analyzer`
then has to find it and say what it shows. Beside it stand the same 48 px crops fed to the network directly, and the
pipeline with alignment off. Bars: 95 % of the faces found, accuracy within 3 points of the direct one.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data as samples

from mien import hub
from mien.datasets import packed
from mien.faces import detect
from mien.faces.detections import Detections, Detector
from mien.pipeline import Analyzer
from mien.results import Face, Image
from mien.runtime.predictor import Predictor

ROOT = Path(__file__).parents[1]
PHOTO_HW = (480, 640)
SIDE_PX = (60, 300)  # of the pasted crop
TURN_DEG = 20.0
BLEND_RATIO = 0.06  # of the crop's side: over this the crop fades into the background
BACKGROUNDS = ("brick", "coffee", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "rocket")
BATCH = 8

Way = Callable[[Detections], Detections]
"""What is done to detections before their faces are cropped."""


@dataclass(frozen=True)
class Pasted:
    """A photo with one face, and where it is."""

    photo: Image
    centre_xy: tuple[float, float]
    side_px: float


@dataclass(frozen=True)
class Outcome:
    """What the pipeline said about one photo."""

    detected: bool
    label: int | None  # of the face that was pasted; None where it was missed
    extra_faces: int


class Given:
    """A detector that returns what was found before, so that every way to crop sees the same faces."""

    name = "given"

    def __init__(self, found: list[Detections]) -> None:
        self._found = found

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """What was given, one for each picture."""
        return self._found


def box_only(found: Detections) -> Detections:
    """The detector's box is cropped as it is: alignment off."""
    return Detections(found.boxes_xyxy, None, found.scores)


def box_in_geometry(found: Detections, box_xyxy_ratio: Sequence[float]) -> Detections:
    """The box grown so that the crop has the geometry of an aligned one, and only stays tilted.

    `box_xyxy_ratio` is where the detector's box lies in a FER-2013 crop.
    """
    box, boxes = np.array(box_xyxy_ratio, np.float32), found.boxes_xyxy
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.sqrt(np.prod((boxes[:, 2:] - boxes[:, :2]) / (box[2:] - box[:2]), axis=1))[:, None]
    corner = centre - side * (box[:2] + box[2:]) / 2
    return Detections(np.hstack([corner, corner + side]), None, found.scores)


@cache
def background_pictures(names: tuple[str, ...]) -> tuple[Image, ...]:
    """Pictures of scikit-image on which there is no human face, at least as large as the photo."""
    pictures = []
    for name in names:
        picture = getattr(samples, name)()
        if picture.ndim == 2:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        ratio = max(PHOTO_HW[0] / picture.shape[0], PHOTO_HW[1] / picture.shape[1], 1)
        pictures.append(cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_LINEAR))
    return tuple(pictures)


def background(rng: np.random.Generator, names: tuple[str, ...] = BACKGROUNDS) -> Image:
    """A random window of a random picture, mirrored half of the time, `(480, 640, 3)`."""
    pictures = background_pictures(names)
    picture = pictures[rng.integers(len(pictures))]
    top, left = (rng.integers(have - want + 1) for have, want in zip(picture.shape, PHOTO_HW, strict=False))
    window = picture[top : top + PHOTO_HW[0], left : left + PHOTO_HW[1]]
    return np.ascontiguousarray(window[:, ::-1] if rng.random() < 0.5 else window)


def paste(
    face: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    max_turn_deg: float = TURN_DEG,
    backgrounds: tuple[str, ...] = BACKGROUNDS,
) -> Pasted:
    """`(48, 48)` grey `face` enlarged, turned and blended into a photo at a random place that holds it whole."""
    side_px, turn_deg = rng.uniform(*SIDE_PX), rng.uniform(-max_turn_deg, max_turn_deg)
    half = side_px * (np.cos(np.radians(turn_deg)) + abs(np.sin(np.radians(turn_deg)))) / 2
    centre_xy = tuple(rng.uniform(half, max(half, extent - half)) for extent in PHOTO_HW[::-1])
    scale = side_px / face.shape[0]
    middle = face.shape[0] / 2 - 0.5
    to_photo = cv2.getRotationMatrix2D((middle, middle), -turn_deg, scale)
    to_photo[:, 2] += np.array(centre_xy) - 0.5 - middle
    size_wh = PHOTO_HW[::-1]
    layer = cv2.warpAffine(face, to_photo, size_wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    distance_px = _inside_distance(centre_xy, side_px, turn_deg)
    opacity = np.clip(distance_px / (BLEND_RATIO * side_px), 0, 1)[..., None]
    photo = background(rng, backgrounds) * (1 - opacity) + layer[..., None] * opacity
    return Pasted(np.rint(photo).astype(np.uint8), (centre_xy[0], centre_xy[1]), side_px)


def _inside_distance(centre_xy: Sequence[float], side_px: float, turn_deg: float) -> NDArray[np.float64]:
    """Distance of every pixel to the border of the pasted square, positive inside, `(480, 640)`."""
    y, x = np.mgrid[: PHOTO_HW[0], : PHOTO_HW[1]] + 0.5
    angle = np.radians(turn_deg)
    u = (x - centre_xy[0]) * np.cos(angle) + (y - centre_xy[1]) * np.sin(angle)
    v = (y - centre_xy[1]) * np.cos(angle) - (x - centre_xy[0]) * np.sin(angle)
    return np.asarray(side_px / 2 - np.maximum(np.abs(u), np.abs(v)))


def judge(pasted: Pasted, found: Detections, faces: Sequence[Face]) -> Outcome:
    """The best face whose centre lies inside the pasted crop and whose side is 0.25 to 1.6 of the crop's.

    So wide because FER-2013's crops are not all centred on their face.
    """
    there = [i for i, box_xyxy in enumerate(found.boxes_xyxy) if matches(pasted, box_xyxy)]
    label = int(faces[there[0]].probabilities.argmax()) if there else None
    return Outcome(bool(there), label, len(faces) - bool(there))


def matches(pasted: Pasted, box_xyxy: NDArray[np.float32]) -> bool:
    """Whether a detected box is the pasted face: near its centre, and of about its size."""
    centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
    side_ratio = float(np.sqrt(np.prod(box_xyxy[2:] - box_xyxy[:2]))) / pasted.side_px
    return bool(np.hypot(*(centre - pasted.centre_xy)) < pasted.side_px / 2 and 0.25 < side_ratio < 1.6)


def photos(images: NDArray[np.uint8], seed: int, *, max_turn_deg: float = TURN_DEG) -> Iterator[list[Pasted]]:
    """The photos in batches; every face draws from a generator of its own, so a subset keeps its photos."""
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        generators = [np.random.default_rng([seed, start + i]) for i in range(len(batch))]
        yield [paste(face, rng, max_turn_deg=max_turn_deg) for face, rng in zip(batch, generators, strict=True)]


def run(
    predictor: Predictor, detector: Detector, ways: Mapping[str, Way], batches: Iterable[list[Pasted]]
) -> dict[str, list[Outcome]]:
    """The outcome for each face, by way to crop."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in ways}
    for batch in batches:
        pictures = [pasted.photo for pasted in batch]
        found = detector.detect(pictures)
        for name, way in ways.items():
            faces = Analyzer(predictor, Given([way(one) for one in found])).analyze_many(pictures)
            # a box that was grown is still the same face: match by what the detector said
            outcomes[name] += [judge(*three) for three in zip(batch, found, faces, strict=True)]
    return outcomes


def summarise(outcomes: Sequence[Outcome], direct: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Detection rate, and accuracy over the found faces beside that of the same crops fed directly."""
    found = np.array([outcome.detected for outcome in outcomes])
    said = np.array([-1 if outcome.label is None else outcome.label for outcome in outcomes])
    return {
        "detected_ratio": round(float(found.mean()), 4),
        "accuracy": round(float((said == labels)[found].mean()), 4),
        "accuracy_direct": round(float((direct == labels)[found].mean()), 4),
        "agreement_with_direct": round(float((said == direct)[found].mean()), 4),
        "extra_faces_per_photo": round(float(np.mean([outcome.extra_faces for outcome in outcomes])), 4),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Detection and accuracy of the whole pipeline on composed photos.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set with a validation split")
    parser.add_argument("--model", default="default", help="model name or .onnx file")
    parser.add_argument("--detector", nargs="+", default=["centerface", "yunet"], choices=["centerface", "yunet"])
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--turn-deg", type=float, default=TURN_DEG, help="largest turn either way (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--geometry", type=Path, default=ROOT / "results" / "crop_geometry.json")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "pipeline.json")
    options = parser.parse_args()
    split = packed.load(options.data, only=("validation",)).split("validation")
    chosen = np.sort(np.random.default_rng(options.seed).permutation(len(split))[: options.faces])
    images, labels = np.asarray(split.images[chosen]), split.labels[chosen]
    predictor = Predictor(hub.resolve(options.model))
    direct = predictor.predict(images).argmax(axis=1)
    measured = json.loads(options.geometry.read_text(encoding="utf-8"))["detectors"]
    boxes = {name: measured[name]["box_xyxy_median"] for name in measured}
    table: dict[str, Any] = {}
    print(f"{len(images)} faces of PublicTest; fed directly: {(direct == labels).mean():.2%}")
    for name in options.detector:
        ways: dict[str, Way] = {
            "aligned": lambda found: found,
            "box of the same geometry, not turned": partial(box_in_geometry, box_xyxy_ratio=boxes[name]),
            "detector's box": box_only,
        }
        batches = photos(images, options.seed, max_turn_deg=options.turn_deg)
        outcomes = run(predictor, detect.create(name), ways, batches)
        for way, row in ((way, summarise(outcome, direct, labels)) for way, outcome in outcomes.items()):
            table[f"{name}, {way}"] = row
            print(f"{name}, {way}:", ", ".join(f"{key} {value:.4f}" for key, value in row.items()), flush=True)
    result = {
        "faces": len(images),
        "turn_deg": options.turn_deg,
        "seed": options.seed,
        "data": split.digest,
        "model": predictor.info.to_dict(),
        "accuracy_direct": round(float((direct == labels).mean()), 4),
        "pipelines": table,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
