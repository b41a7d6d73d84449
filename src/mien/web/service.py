"""The analyses behind the API: loaded models, limits of pictures, faces and time; no HTTP in here."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import hub
from mien.explain.explainer import explain, unavailable
from mien.explain.heatmap import METHODS, Heatmap
from mien.explain.overlay import display_limit
from mien.faces import align, detect
from mien.faces.detections import Detections, Detector
from mien.images import Limits, Photo
from mien.pipeline import Analyzer
from mien.results import Face, Image, Prediction
from mien.runtime import providers
from mien.runtime.predictor import Predictor
from mien.web.errors import Busy, Problem
from mien.web.settings import Settings
from mien.web.uploads import Upload

ONLINE_METHODS = tuple(name for name, method in METHODS.items() if not method.needs_run)


class Surest:
    """A detector that keeps the `max_faces` surest faces of another."""

    def __init__(self, detector: Detector, max_faces: int) -> None:
        """Wrap `detector`, whose name and size it keeps."""
        self.name = detector.name
        # the analyzer decodes large JPEGs no larger than the detector sees them
        self.max_side_px: int | None = getattr(detector, "max_side_px", None)
        self._detector = detector
        self._max_faces = max_faces

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Faces of each picture; see `Detector.detect`."""
        return [found.first(self._max_faces) for found in self._detector.detect(images)]


@dataclass(frozen=True, slots=True)
class Served:
    """A model as the service offers it."""

    name: str  # what requests call it
    full: Analyzer  # detection at the picture's own size
    fast: Analyzer  # detection on a small copy, for live pictures


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """The maps of one face, and the crop that they lie over."""

    index: int  # of the face in the picture's result
    face: Face
    corners_xy: NDArray[np.float64]  # (4, 2) of the crop in pixels of the picture: top left, then clockwise
    maps: tuple[Heatmap, ...]
    limit: float  # magnitude, in the method's unit, that gets the full colour


class Allowance:
    """The time and the pixels that one request may take."""

    def __init__(self, settings: Settings) -> None:
        """The time starts now."""
        self._end = time.monotonic() + settings.max_seconds
        self._pixels = self._max_pixels = settings.max_request_pixels

    def check(self) -> None:
        """Give up between two steps of the work.

        Raises:
            Busy: the time is over.
        """
        if time.monotonic() > self._end:
            raise Busy("The request took too long: send fewer or smaller pictures.", retry_after_s=2)

    def count(self, photo: Photo) -> None:
        """Count what was decoded of a picture: large JPEGs are no larger than the detector sees them.

        Raises:
            Problem: the pictures so far have too many pixels.
            Busy: the time is over.
        """
        self._pixels -= photo.image.shape[0] * photo.image.shape[1]
        if self._pixels < 0:
            detail = f"the pictures have more than {self._max_pixels:,} pixels together: send fewer in one request"
            raise Problem(413, detail)
        self.check()


def load_models(settings: Settings) -> tuple[Served, ...]:
    """Load every model of the settings and run each once, so that the first request is as quick as the second.

    Raises:
        MienError: a model or the detector is unknown, corrupt or cannot be fetched.
    """
    limits = Limits(max_bytes=settings.max_request_bytes, max_pixels=settings.max_pixels)
    full = Surest(detect.create(settings.detector), settings.max_faces)
    fast = Surest(detect.create(settings.detector, max_side_px=settings.fast_side_px), settings.max_faces)
    served: list[Served] = []
    for name in settings.models:
        predictor = Predictor(providers.file_of(name), threads=settings.threads or 1)
        analyzers = (Analyzer(predictor, full, limits=limits), Analyzer(predictor, fast, limits=limits))
        served.append(Served(_public_name(name, predictor, served), *analyzers))
    grey = np.full((480, 640, 3), 128, np.uint8)
    for model in served:
        for analyzer in (model.full, model.fast):
            analyzer.analyze(grey)
        model.full.predict_crops(np.zeros((1, *model.full.spec.input.size_hw), np.uint8))
    return tuple(served)


def analyze(analyzer: Analyzer, upload: Upload, allowance: Allowance) -> Prediction:
    """Faces of a picture.

    Raises:
        ImageError: it cannot be read.
        Problem: the request's pictures have too many pixels.
        Busy: the time is over.
    """
    allowance.check()
    photo = upload.read(analyzer)
    allowance.count(photo)
    (faces,) = analyzer.analyze_many([photo])
    return analyzer.describe(upload.name, faces, width=photo.width, height=photo.height)


def explain_faces(
    analyzer: Analyzer,
    upload: Upload,
    allowance: Allowance,
    *,
    method: str,
    faces: Sequence[int],
    labels: Sequence[str],
) -> tuple[Prediction, list[Explained]]:
    """Result of a picture, and maps of the chosen faces for `labels` (all where empty).

    Raises:
        Problem: the model does not allow the method, or knows no such label or face.
        ImageError: the picture cannot be read.
    """
    check_explainable(analyzer, method, labels)
    photo = upload.read(analyzer)
    allowance.count(photo)
    (found,) = analyzer.analyze_many([photo])
    if beyond := [index for index in faces if index >= len(found)]:
        detail = f"face {beyond[0]} is not there: the picture shows {len(found)}, counted from 0"
        raise Problem(422, detail, kind="no-such-face", title="The picture shows no such face")
    explained = []
    for index in dict.fromkeys(faces):
        allowance.check()
        face = found[index]
        maps = explain(analyzer.predictor, face.crop, labels or analyzer.labels, method=method)
        explained.append(Explained(index, face, crop_corners(analyzer, face), maps, display_limit(*maps)))
    return analyzer.describe(upload.name, found, width=photo.width, height=photo.height), explained


def check_explainable(analyzer: Analyzer, method: str, labels: Sequence[str]) -> None:
    """Refuse what the model cannot explain, before any work.

    Raises:
        Problem: the method is not for this model, or a label is unknown.
    """
    if reason := unavailable(analyzer.predictor, method):
        raise Problem(422, reason, kind="method-unavailable", title="The model does not allow this method")
    if unknown := [label for label in labels if label not in analyzer.labels]:
        raise Problem(422, f"label {unknown[0]!r} is unknown: use one of {', '.join(analyzer.labels)}")


def crop_corners(analyzer: Analyzer, face: Face) -> NDArray[np.float64]:
    """Where the crop that the network saw lies in the picture: `(4, 2)` pixels, top left first, clockwise."""
    height, width = analyzer.spec.input.size_hw
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    if face.landmarks is None:
        left, top, right, bottom = (float(value) for value in face.box_xyxy)
        scale = min(width / (right - left), height / (bottom - top))
        middle = np.array([(left + right) / 2, (top + bottom) / 2])
        return np.asarray((corners - (width / 2, height / 2)) / scale + middle, np.float64)
    matrix = align.similarities(face.landmarks[None], analyzer.spec.landmarks, (height, width))[0]
    return np.asarray((corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, np.float64)


def describe_model(model: Served) -> dict[str, Any]:
    """What `/api/v1/models` says of a model."""
    spec = model.full.spec
    return {
        "name": model.name,
        "labels": list(spec.labels),
        "methods": [method for method in ONLINE_METHODS if not unavailable(model.full.predictor, method)],
        "input": {"height": spec.input.size_hw[0], "width": spec.input.size_hw[1], "channels": spec.input.channels},
        "training": dict(spec.training),
        "metrics": dict(spec.metrics),
        "model": dict(model.full.provenance),
    }


def _public_name(name: str, predictor: Predictor, others: Sequence[Served]) -> str:
    """A known model keeps the name it was asked for by; a file's path stays on the server."""
    public = name if name in hub.packaged() else predictor.spec.name
    taken = {model.name for model in others}
    return public if public not in taken else f"{public}-{len(others) + 1}"
