import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.faces.conftest import Portrait

from mien.errors import ConfigError, DownloadError, ModelError
from mien.faces import detect
from mien.faces.centerface import CenterFace, decode
from mien.faces.yunet import YuNet

Make = Callable[[str], detect.Detector]
both = pytest.mark.parametrize("name", ["centerface", "yunet"])
people = pytest.mark.parametrize("person", ["astronaut", "grace_hopper"])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common))


@both
@people
def test_a_portrait_has_one_face_with_landmarks_in_order(
    make_detector: Make, portraits: dict[str, Portrait], name: str, person: str
) -> None:
    portrait = portraits[person]
    (found,) = make_detector(name).detect([portrait.image])
    assert len(found) == 1
    assert iou(found.boxes_xyxy[0], np.array(portrait.face_xyxy)) > 0.7
    assert found.landmarks is not None
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert 0.7 < found.scores[0] <= 1


@both
@people
@pytest.mark.parametrize("face_px", [20, 40, 100, 300])
def test_faces_of_all_sizes_are_found_in_a_photo(
    make_detector: Make, portraits: dict[str, Portrait], name: str, person: str, face_px: int
) -> None:
    portrait = portraits[person]
    ratio = face_px / (portrait.face_xyxy[2] - portrait.face_xyxy[0])
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(portrait.image, None, fx=ratio, fy=ratio, interpolation=method)
    photo = np.full((max(480, len(scaled)), max(640, scaled.shape[1]), 3), 120, np.uint8)
    photo[: len(scaled), : scaled.shape[1]] = scaled
    (found,) = make_detector(name).detect([photo])
    assert len(found) == 1
    assert iou(found.boxes_xyxy[0] / ratio, np.array(portrait.face_xyxy)) > 0.5


@both
@people
@pytest.mark.parametrize("side_px", [48, 120, 400])
def test_a_tight_crop_is_found(
    make_detector: Make, portraits: dict[str, Portrait], name: str, person: str, side_px: int
) -> None:
    left, top, right, bottom = portraits[person].face_xyxy
    crop = cv2.resize(portraits[person].image[top:bottom, left:right], (side_px, side_px), interpolation=cv2.INTER_AREA)
    (found,) = make_detector(name).detect([crop])
    assert len(found) == 1
    assert iou(found.boxes_xyxy[0], np.array([0, 0, side_px, side_px])) > 0.5


@both
def test_pictures_without_faces(make_detector: Make, name: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        np.zeros((1, 1, 3), np.uint8),
        np.full((300, 400, 3), 255, np.uint8),
        rng.integers(0, 256, (240, 320, 3), np.uint8),
        np.zeros((4, 3000, 3), np.uint8),
    ]
    assert [len(found) for found in make_detector(name).detect(pictures)] == [0, 0, 0, 0]
    assert make_detector(name).detect([]) == []


@both
def test_threads_share_a_detector(make_detector: Make, portraits: dict[str, Portrait], name: str) -> None:
    detector = make_detector(name)
    pictures = [portraits["astronaut"].image, portraits["grace_hopper"].image[100:400, 100:400]]
    alone = [detector.detect([picture])[0].boxes_xyxy for picture in pictures]
    together: dict[int, list[np.ndarray]] = {0: [], 1: []}

    def work(i: int) -> None:
        together[i] = [detector.detect([pictures[i]])[0].boxes_xyxy for _ in range(4)]

    threads = [threading.Thread(target=work, args=(i,)) for i in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, results in together.items():
        for boxes in results:
            np.testing.assert_allclose(boxes, alone[i], atol=1e-3)


def test_a_picture_that_fits_the_network_is_not_copied(make_detector: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """640 x 480 are whole strides each way; only its smaller views need a border."""
    bordered: list[tuple[int, ...]] = []
    border = cv2.copyMakeBorder

    def spy(image: np.ndarray, *sides: object) -> np.ndarray:
        bordered.append(image.shape)
        return border(image, *sides)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(cv2, "copyMakeBorder", spy)
    make_detector("centerface").detect([np.full((480, 640, 3), 128, np.uint8)])
    assert bordered
    assert (480, 640, 3) not in bordered


def test_decode_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    height, width = 20, 24
    heat = np.zeros((1, height, width), np.float32)
    cells = [(1, 1), (4, 20), (10, 10), (18, 3)]
    for score, (row, column) in zip((0.9, 0.8, 0.7, 0.2), cells, strict=True):
        heat[0, row, column] = score
    size, offset = rng.uniform(0, 1, (2, 2, height, width)).astype(np.float32)
    points = rng.uniform(0, 1, (10, height, width)).astype(np.float32)
    found = decode(heat, size, offset, points, score_threshold=0.5)
    assert len(found) == 3
    for i, (row, column) in enumerate(cells[:3]):
        high, wide = np.exp(size[0, row, column]) * 4, np.exp(size[1, row, column]) * 4
        top = max(0, (row + offset[0, row, column] + 0.5) * 4 - high / 2)
        left = max(0, (column + offset[1, row, column] + 0.5) * 4 - wide / 2)
        np.testing.assert_allclose(found.boxes_xyxy[i], [left, top, left + wide, top + high], rtol=1e-5)
        for k in range(5):
            x, y = left + points[2 * k + 1, row, column] * wide, top + points[2 * k, row, column] * high
            assert found.landmarks is not None
            np.testing.assert_allclose(found.landmarks[i, k], [x, y], rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        pytest.param([0.9, 0.5, 0.3], 2, id="clear faces alone"),
        pytest.param([0.3, 0.28], 1, id="the best of unclear ones"),
        pytest.param([], 0, id="none"),
    ],
)
def test_an_unclear_face_counts_where_it_is_the_only_one(
    make_detector: Make, monkeypatch: pytest.MonkeyPatch, scores: list[float], kept: int
) -> None:
    boxes = np.array([[10 * i, 0, 10 * i + 5, 5] for i in range(len(scores))], np.float32).reshape(-1, 4)
    found = detect.Detections(boxes, np.zeros((len(scores), 5, 2), np.float32), np.array(scores, np.float32))
    monkeypatch.setattr("mien.faces.centerface.scan", lambda *args, **options: found)
    (faces,) = make_detector("centerface").detect([np.zeros((20, 60, 3), np.uint8)])
    np.testing.assert_array_equal(faces.boxes_xyxy, boxes[:kept])


def test_none_takes_the_picture_as_the_face() -> None:
    first, second = detect.create("none").detect([np.zeros((30, 40, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)])
    assert first.boxes_xyxy.tolist() == [[0, 0, 40, 30]]
    assert second.boxes_xyxy.tolist() == [[0, 0, 5, 5]]
    assert first.landmarks is None
    assert first.scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        pytest.param("mtcnn", {}, "'mtcnn' is no detector: use one of centerface, yunet, none", id="unknown"),
        pytest.param("none", {"score_threshold": 1.5}, "score_threshold is 1.5", id="threshold over 1"),
        pytest.param("none", {"max_side_px": 8}, "max_side_px is 8", id="too small"),
    ],
)
def test_bad_options(name: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        detect.create(name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [CenterFace, YuNet])
@pytest.mark.parametrize("content", [None, b"", b"not a network"], ids=["missing", "empty", "text"])
def test_damaged_weights(tmp_path: Path, kind: type[CenterFace] | type[YuNet], content: bytes | None) -> None:
    path = tmp_path / "weights.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.onnx cannot be read as the"):
        kind(path, score_threshold=0.5, max_side_px=640)


def test_yunet_without_network_says_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch, mien_home: Path) -> None:
    monkeypatch.setattr("mien.hub.RETRY_WAITS_S", ())
    monkeypatch.setenv("MIEN_HUB_URL", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="put the file at") as caught:
        detect.create("yunet")
    assert str(mien_home) in str(caught.value)
