"""What happens to faces outside the laboratory, drawn on crops at five strengths.

The idea of fixed corruptions at fixed strengths, and of one error over them, is that of Hendrycks & Dietterich 2019,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"; the kinds and strengths here are
those of face crops: small, grey, cut around five landmarks.

Every draw depends on the seed, the kind and the number of the face alone: it is the same for every model, for every
batch size and, where a face turns or moves at all, in the same direction at all five strengths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS

Crop = NDArray[np.uint8]  # (H, W) grey or (H, W, 3) RGB
Landmarks = tuple[tuple[float, float], ...]  # left eye, right eye, nose, mouth corners, in crop units
Draw = np.random.Generator

STRENGTHS = 5
REFERENCE_SIDE_PX = 48.0  # lengths in pixels are those of a 48 px crop, and grow with larger ones
GAMMA = 2.2  # grey levels are about the 2.2nd root of light
FULL_WELL = 4000.0  # photons of a white pixel at full light: what a phone's sensor holds
READ_NOISE = 4.0  # photons, standard deviation
SUNGLASSES, MASK = 24, 225  # grey levels of what covers eyes and mouth


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of damage."""

    name: str
    title: str
    unit: str  # what the five numbers are, for axes and tables
    levels: tuple[float, ...]  # five, each worse than the one before
    apply: Callable[[Crop, float, Draw, Landmarks], Crop]


def corrupt(
    crops: NDArray[np.uint8],
    name: str,
    strength: int,
    *,
    seed: int = 0,
    first: int = 0,
    landmarks: Landmarks = FER2013_LANDMARKS,
) -> NDArray[np.uint8]:
    """`(N, H, W)` or `(N, H, W, 3)` crops, corrupted; strength 0 leaves them as they are, 5 is the worst.

    `first` is the number of the first of these crops in the whole set: batches get what the whole set would.

    Raises:
        ValueError: `name` is no corruption, or the strength is not 0..5.
    """
    if name not in CORRUPTIONS or not 0 <= strength <= STRENGTHS:
        raise ValueError(f"{name!r} at strength {strength}: kinds are {', '.join(CORRUPTIONS)}, strengths 0 to 5")
    if strength == 0:
        return crops
    kind = CORRUPTIONS[name]
    number = list(CORRUPTIONS).index(name)
    done = np.empty_like(crops)
    for i, crop in enumerate(crops):
        draw = np.random.default_rng((seed, number, first + i))
        done[i] = kind.apply(crop, kind.levels[strength - 1], draw, landmarks)
    return done


def _blur(crop: Crop, sigma_px: float, draw: Draw, landmarks: Landmarks) -> Crop:
    sigma = sigma_px * _scale(crop)
    return _bytes(cv2.GaussianBlur(crop, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _noise(crop: Crop, deviation: float, draw: Draw, landmarks: Landmarks) -> Crop:
    return _bytes(crop + deviation * draw.standard_normal(crop.shape, np.float32))


def _jpeg(crop: Crop, quality: float, draw: Draw, landmarks: Landmarks) -> Crop:
    grey = crop.ndim == 2
    done, data = cv2.imencode(".jpg", crop if grey else crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    assert done, "OpenCV encodes any uint8 crop"
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR), np.uint8)
    return _bytes(decoded if grey else decoded[:, :, ::-1])


def _low_light(crop: Crop, stops: float, draw: Draw, landmarks: Landmarks) -> Crop:
    """Less light falls on the sensor, and its grain shows: photons are counted, and the counter is noisy."""
    photons = draw.poisson(_light(crop) * FULL_WELL * 2.0**-stops) + READ_NOISE * draw.standard_normal(crop.shape)
    return _levels(photons / FULL_WELL)


def _over_exposure(crop: Crop, stops: float, draw: Draw, landmarks: Landmarks) -> Crop:
    return _levels(_light(crop) * 2.0**stops)


def _low_resolution(crop: Crop, side_px: float, draw: Draw, landmarks: Landmarks) -> Crop:
    """As a face of so many pixels reaches the network: enlarged as `mien.preprocess` enlarges it."""
    height, width = crop.shape[:2]
    share = side_px / REFERENCE_SIDE_PX
    small = (max(1, round(width * share)), max(1, round(height * share)))
    reduced = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
    return _bytes(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR))


def _rotation(crop: Crop, degrees: float, draw: Draw, landmarks: Landmarks) -> Crop:
    height, width = crop.shape[:2]
    angle = degrees if draw.random() < 0.5 else -degrees
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    return _warp(crop, np.asarray(matrix, np.float64))


def _shift(crop: Crop, ratio: float, draw: Draw, landmarks: Landmarks) -> Crop:
    """The detector's box is off by `ratio` of its side, in any direction."""
    height, width = crop.shape[:2]
    turn = 2 * np.pi * draw.random()
    right, down = ratio * width * np.cos(turn), ratio * height * np.sin(turn)
    return _warp(crop, np.array([[1, 0, right], [0, 1, down]], np.float64))


def _occluded_eyes(crop: Crop, height: float, draw: Draw, landmarks: Landmarks) -> Crop:
    """A dark bar over both eyes, as of sunglasses."""
    (left, top), (right, bottom) = landmarks[0], landmarks[1]
    return _cover(crop, ((left + right) / 2, (top + bottom) / 2), (1.9 * (right - left), height), SUNGLASSES)


def _occluded_mouth(crop: Crop, height: float, draw: Draw, landmarks: Landmarks) -> Crop:
    """A light patch over the mouth; at its largest it covers what a mask does."""
    (left, top), (right, bottom) = landmarks[3], landmarks[4]
    width = 1.2 * (right - left) + height
    return _cover(crop, ((left + right) / 2, (top + bottom) / 2), (width, height), MASK)


CORRUPTIONS: Mapping[str, Corruption] = {
    kind.name: kind
    for kind in (
        Corruption("blur", "blur", "σ, px of 48", (0.6, 0.9, 1.3, 1.8, 2.5), _blur),
        Corruption("noise", "noise", "σ, grey levels", (8, 15, 24, 36, 50), _noise),
        Corruption("jpeg", "JPEG", "quality", (50, 30, 20, 12, 7), _jpeg),
        Corruption("low-light", "low light", "stops less", (1, 2, 3, 4, 5), _low_light),
        Corruption("over-exposure", "over-exposure", "stops more", (0.5, 1, 1.5, 2, 3), _over_exposure),
        Corruption("low-resolution", "low resolution", "side, px", (36, 28, 22, 16, 12), _low_resolution),
        Corruption("rotation", "rotation", "degrees", (7, 15, 22, 30, 45), _rotation),
        Corruption("shift", "shift of the box", "of its side", (0.04, 0.08, 0.12, 0.18, 0.25), _shift),
        Corruption("occluded-eyes", "occluded eyes", "height of bar", (0.08, 0.13, 0.18, 0.24, 0.3), _occluded_eyes),
        Corruption(
            "occluded-mouth", "occluded mouth", "height of patch", (0.1, 0.17, 0.24, 0.32, 0.42), _occluded_mouth
        ),
    )
}  # fmt: skip
"""By name, in the order of every table; the order is part of the seed."""


def _scale(crop: Crop) -> float:
    return float(min(crop.shape[:2]) / REFERENCE_SIDE_PX)


def _light(crop: Crop) -> NDArray[np.float64]:
    """Grey levels as light, 0..1."""
    return np.asarray((crop / 255.0) ** GAMMA)


def _levels(light: NDArray[np.float64]) -> Crop:
    """Light, of which 1 is white and more is no whiter, as grey levels."""
    return _bytes(255 * np.clip(light, 0, 1) ** (1 / GAMMA))


def _bytes(values: NDArray[Any]) -> Crop:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _warp(crop: Crop, matrix: NDArray[np.float64]) -> Crop:
    """Moved by a `(2, 3)` matrix; the crop's edge goes on beyond it, which adds no second face as a mirror would."""
    height, width = crop.shape[:2]
    return _bytes(cv2.warpAffine(crop, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def _cover(crop: Crop, centre_xy: tuple[float, float], size_wh: tuple[float, float], level: int) -> Crop:
    """A rectangle of one grey level; centre and size are in crop units."""
    height, width = crop.shape[:2]
    (x, y), (w, h) = centre_xy, size_wh
    left, right = (int(np.clip(round(edge * width), 0, width)) for edge in (x - w / 2, x + w / 2))
    top, bottom = (int(np.clip(round(edge * height), 0, height)) for edge in (y - h / 2, y + h / 2))
    covered = crop.copy()
    covered[top:bottom, left:right] = level
    return covered
