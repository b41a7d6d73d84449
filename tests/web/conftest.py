"""A service without CenterFace: a tiny model behind a detector that always finds the same two faces."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from flask.testing import FlaskClient
from numpy.typing import NDArray
from tests.web import browser

from mien.faces.detections import Detections
from mien.images import Limits
from mien.pipeline import Analyzer
from mien.results import Image
from mien.runtime.predictor import Predictor
from mien.web import Settings, create_app
from mien.web.service import Served, Surest

Picture = Callable[..., bytes]
MakeClient = Callable[..., FlaskClient]


class TwoFaces:
    """Finds two faces in every picture that is not black."""

    name = "two-faces"

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [two_faces() if image.mean() > 5 else Detections.empty() for image in images]


def two_faces() -> Detections:
    """Faces of 40 px side by side; their landmarks are where an upright face has them."""
    boxes = np.array([[10, 10, 50, 50], [60, 10, 100, 50]], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return Detections(boxes, boxes[:, None, :2] + 40 * points, np.array([0.9, 0.8], np.float32))


def served(path: Path, name: str, *, settings: Settings) -> Served:
    """The model at `path`, ready to serve behind `TwoFaces`."""
    limits = Limits(max_bytes=settings.max_request_bytes, max_pixels=settings.max_pixels)
    detector = Surest(TwoFaces(), settings.max_faces)
    analyzer = Analyzer(Predictor(path, threads=1), detector, limits=limits)
    return Served(name, analyzer, analyzer)


@pytest.fixture
def make_client(tiny_onnx: Path) -> MakeClient:
    """A client of a service with the given settings and, where `second` says so, two models."""

    def make(*, second: bool = False, **settings: object) -> FlaskClient:
        chosen = Settings(**settings)  # type: ignore[arg-type]
        models = [served(tiny_onnx, "tiny", settings=chosen)]
        if second:
            models.append(served(tiny_onnx, "other", settings=chosen))
        app = create_app(chosen, models=models)
        app.testing = False  # faults become answers, as in production
        return app.test_client()

    return make


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    return make_client()


@pytest.fixture(scope="module")
def chromium(astronaut: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser whose camera shows a portrait that moves to and fro."""
    from playwright import sync_api  # noqa: PLC0415 - for browser tests alone

    film = browser.write_camera_video(astronaut, tmp_path_factory.mktemp("film") / "faces.mjpeg")
    arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments.append("--disable-features=AutofillServerCommunication,OptimizationHints")  # Chromium's own calls home
    with sync_api.sync_playwright() as session:
        launched = session.chromium.launch(
            executable_path=browser.CHROMIUM, args=[*arguments, f"--use-file-for-fake-video-capture={film}"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Encoded noise: `picture("PNG", size_wh=(120, 80), black=False)`."""

    def encode(kind: str = "PNG", *, size_wh: tuple[int, int] = (120, 80), black: bool = False) -> bytes:
        pixels: NDArray[np.uint8] = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
        if not black:
            pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    return encode


def form(*pictures: bytes, names: Sequence[str] = ()) -> dict[str, list[tuple[io.BytesIO, str]]]:
    """A multipart form of pictures, as Flask's test client takes it."""
    given = names or [f"{index}.png" for index in range(len(pictures))]
    return {"image": [(io.BytesIO(data), name) for data, name in zip(pictures, given, strict=True)]}
