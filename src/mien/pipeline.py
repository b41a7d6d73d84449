"""Detect, align, predict: the one object behind the command line, the web app, video and batch."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien import __version__
from mien.bundle import ModelSpec
from mien.errors import ConfigError
from mien.faces import align, detect, quality
from mien.faces.detections import Detections, Detector
from mien.images import DEFAULT_LIMITS, Limits, Photo, Source, read_photo, source_name
from mien.preprocess import crop_box
from mien.results import Face, Image, Prediction
from mien.runtime import providers
from mien.runtime.predictor import Predictor

DETAIL_RATIO = 1.5  # pixels of a reduced picture that a crop's pixel wants each way: under it the whole one is decoded


class Analyzer:
    """Finds the faces of pictures and says which expressions they show. Safe to share between threads."""

    def __init__(self, predictor: Predictor, detector: Detector, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """Join a model and a detector; `mien.load` does it by name. `limits` hold for every picture."""
        self.predictor = predictor
        self.detector = detector
        self.limits = limits

    def __repr__(self) -> str:
        return f"Analyzer({self.predictor!r}, detector={self.detector.name!r})"

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself: labels, input, calibration, licence, metrics."""
        return self.predictor.spec

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of every probability vector."""
        return self.spec.labels

    @property
    def provenance(self) -> dict[str, Any]:
        """What produced a result: the model with its sha256 and calibration, the detector, mien's version."""
        return {**self.predictor.info.to_dict(), "detector": self.detector.name, "version": __version__}

    def analyze(self, image: Source) -> list[Face]:
        """Faces of one picture, the detector's surest first; an empty list where there is none.

        Raises:
            ImageError: the picture cannot be read, or is outside the limits.
            ModelError: as `analyze_many`.
        """
        return self.analyze_many([image])[0]

    def analyze_many(self, images: Sequence[Source | Photo]) -> list[list[Face]]:
        """Faces of each picture; all faces of all pictures share one call of the network.

        Raises:
            ImageError: one of the pictures cannot be read; use `Analyzer.read` first to tell which.
            ModelError: the network answers with values that are not finite.
            TypeError: `images` is one picture: a path, bytes, a file, an array or an image of Pillow.
        """
        if _is_one(images):
            raise TypeError(f"images is one {type(images).__name__}: pass a list of pictures, or use analyze()")
        photos = [image if isinstance(image, Photo) else self.read(image) for image in images]
        seen = self.detector.detect([photo.image for photo in photos])
        crops = [self._crops_of(photo, faces) for photo, faces in zip(photos, seen, strict=True)]
        found = [_enlarged(faces, photo) for faces, photo in zip(seen, photos, strict=True)]
        every = np.concatenate([np.empty((0, *self.spec.input.size_hw, 3), np.uint8), *crops])
        probabilities = self.predict_crops(every)
        starts = np.cumsum([0, *map(len, crops)])
        return [
            self.faces(faces, crops_of_one, probabilities[start : start + len(faces)])
            for faces, crops_of_one, start in zip(found, crops, starts, strict=False)
        ]

    def read(self, image: Source) -> Photo:
        """A picture as `analyze_many` reads it: a JPEG no larger than the detector needs it, where that saves work.

        Raises:
            ImageError: the picture cannot be read, or is outside the limits.
        """
        return read_photo(image, limits=self.limits, side_px=getattr(self.detector, "max_side_px", None))

    def predict_crops(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities `(N, K)` of upright crops, `(N, H, W)` grey or `(N, H, W, 3)` RGB uint8, without detection.

        Raises:
            ValueError: the crops are not uint8 or not of one of the two shapes.
            ModelError: as `analyze_many`.
        """
        return self.predictor.predict(crops)

    def describe(self, image: Source, faces: Sequence[Face], *, width: int, height: int) -> Prediction:
        """Faces of a picture together with what produced them, ready for JSON."""
        return Prediction(source_name(image), width, height, tuple(faces), self.provenance)

    def crops(self, image: Image, found: Detections) -> NDArray[np.uint8]:
        """`(F, h, w, 3)` upright crops of the detected faces, in the geometry that the model was trained on."""
        size_hw = self.spec.input.size_hw
        if found.landmarks is not None:
            return align.align_crops(image, found.landmarks, self.spec.landmarks, size_hw)
        crops = [crop_box(image, box_xyxy, size_hw) for box_xyxy in found.boxes_xyxy]
        return np.stack(crops) if crops else np.empty((0, *size_hw, 3), np.uint8)

    def _crops_of(self, photo: Photo, seen: Detections) -> NDArray[np.uint8]:
        """Crops of the faces `seen` in the photo's image, cut from the whole picture where that image lacks detail."""
        if photo.is_reduced and len(seen) and self._lacks_detail(seen):
            return self.crops(photo.whole(), _enlarged(seen, photo))
        return self.crops(photo.image, seen)

    def _lacks_detail(self, seen: Detections) -> bool:
        """Whether a crop would have nearly as many pixels as the face has in the picture, or more."""
        size_hw = self.spec.input.size_hw
        if seen.landmarks is not None:
            scales = np.hypot(*align.similarities(seen.landmarks, self.spec.landmarks, size_hw)[:, :, 0].T)
        else:
            scales = max(size_hw) / (seen.boxes_xyxy[:, 2:] - seen.boxes_xyxy[:, :2]).max(axis=1)
        return bool((scales * DETAIL_RATIO > 1).any())

    def faces(self, found: Detections, crops: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> list[Face]:
        """Results of F detections with their `(F, h, w, 3)` crops and the `(F, K)` probabilities of these."""
        faces = []
        for i, (box_xyxy, score) in enumerate(zip(found.boxes_xyxy, found.scores, strict=True)):
            landmarks = None if found.landmarks is None else found.landmarks[i]
            face = Face(
                box_xyxy=box_xyxy,
                landmarks=landmarks,
                score=float(score),
                labels=self.labels,
                probabilities=probabilities[i],
                uncertain=bool(probabilities[i].max() < self.spec.threshold),
                quality=quality.assess(box_xyxy, landmarks, crops[i]),
                crop=crops[i],
            )
            faces.append(face)
        return faces


def _enlarged(seen: Detections, photo: Photo) -> Detections:
    """Faces of the photo's image in coordinates of the whole picture."""
    if not photo.is_reduced:
        return seen
    landmarks = None if seen.landmarks is None else seen.landmarks * photo.scale_xy
    return Detections(seen.boxes_xyxy * np.tile(photo.scale_xy, 2), landmarks, seen.scores)


def load(
    name_or_path: str | os.PathLike[str] = "default",
    *,
    detector: str | Detector = "centerface",
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Analyzer:
    """An `Analyzer` for a model by name (`mien models` lists them) or by the path of an `.onnx` file.

    `detector` is `centerface` (comes with mien), `yunet` (faster; its file is fetched once) or `none` (each picture
    is one face crop), or any object with the `Detector` protocol. `threads` default to the CPUs at hand.

    Raises:
        ModelError: the model is unknown, corrupt or without mien's metadata.
        ConfigError: the detector, or the provider in `MIEN_PROVIDER`, is unknown, or `threads` is less than 1.
        MissingExtraError: that provider is not installed.
        DownloadError: a file has to be fetched and cannot be.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}: give 1 or more, or None for the CPUs at hand")
    if not isinstance(detector, str) and not callable(getattr(detector, "detect", None)):
        raise ConfigError(f"detector is {detector!r}: give a name, or an object with `name` and `detect`")
    predictor = Predictor(providers.file_of(os.fspath(name_or_path)), threads=threads)
    return Analyzer(predictor, detect.create(detector) if isinstance(detector, str) else detector, limits=limits)


def _is_one(images: object) -> bool:
    """Whether what should be many pictures is one, whose lines or rows would pass for pictures."""
    if isinstance(images, np.ndarray):
        return images.ndim in (2, 3)
    single = (str, bytes, bytearray, memoryview, os.PathLike, PIL.Image.Image)
    return isinstance(images, single) or hasattr(images, "read")
