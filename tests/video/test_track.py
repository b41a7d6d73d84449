"""Tracking on films with known truth; the detector is the truth itself, so that only the tracking is tested."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mien
from mien import hub
from mien.bundle import FER2013_LANDMARKS
from mien.errors import ConfigError
from mien.faces.detections import Detections
from mien.faces.whole import WholePicture
from mien.pipeline import Analyzer
from mien.results import Image
from mien.runtime.predictor import Predictor
from mien.video.track import FaceTracker, TrackedFace, TrackSettings
from tests.video import films, scores

DEFAULTS = TrackSettings()


class TruthDetector:
    """Finds whoever is in sight in the shot that was named last, however small the picture."""

    name = "truth"

    def __init__(self) -> None:
        self.shot: films.Shot | None = None
        self.score = 0.9
        self.seen_wh: list[tuple[int, int]] = []  # sizes of the pictures that came

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        assert self.shot is not None
        assert len(images) == 1
        height, width = images[0].shape[:2]
        self.seen_wh.append((width, height))
        scale = width / self.shot.image.shape[1]
        boxes = np.array([one.box_xyxy for one in self.shot.in_sight], np.float32).reshape(-1, 4) * np.float32(scale)
        return [Detections(boxes, landmarks_in(boxes), np.full(len(boxes), self.score, np.float32))]


def landmarks_in(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Where a face has its eyes, nose and mouth, by its box."""
    relative = np.array(FER2013_LANDMARKS, np.float32)
    return np.asarray(boxes_xyxy[:, None, :2] + relative * (boxes_xyxy[:, None, 2:] - boxes_xyxy[:, None, :2]))


class Bench:
    """A tracker over a truthful detector, and what came of each frame."""

    def __init__(self, predictor: Predictor, settings: TrackSettings = DEFAULTS) -> None:
        self.detector = TruthDetector()
        self.analyzer = Analyzer(predictor, self.detector)
        self.tracker = FaceTracker(self.analyzer, settings=settings)

    def run(self, shots: Iterable[films.Shot]) -> list[tuple[films.Shot, list[TrackedFace]]]:
        results = []
        for shot in shots:
            self.detector.shot = shot
            results.append((shot, self.tracker.update(shot.image, shot.time_s)))
        return results

    def idf1(self, shots: Iterable[films.Shot]) -> float:
        results = self.run(shots)
        found = [[(face.track, face.face.box_xyxy.tolist()) for face in faces] for _, faces in results]
        return scores.identity_in_film([shot for shot, _ in results], found).idf1


@pytest.fixture(scope="module")
def predictor(tiny_onnx: Path) -> Predictor:
    return Predictor(tiny_onnx, threads=1)


@pytest.fixture
def bench(predictor: Predictor) -> Bench:
    return Bench(predictor)


def numbers(results: list[tuple[films.Shot, list[TrackedFace]]]) -> set[int]:
    return {face.track for _, faces in results for face in faces}


def test_boxes_and_landmarks_move_with_the_face_between_detections(bench: Bench) -> None:
    results = bench.run(films.one_face(duration_s=1))
    assert len(bench.detector.seen_wh) == 30 / DEFAULTS.detect_every
    for index, (shot, (face,)) in enumerate(results):
        (truth,) = shot.truth
        assert face.detected == (index % DEFAULTS.detect_every == 0)
        assert scores.iou(face.face.box_xyxy.tolist(), truth.box_xyxy) > 0.9
        expected = landmarks_in(np.array([truth.box_xyxy], np.float32))[0]
        assert (
            np.abs(face.face.landmarks - expected).max() < 0.06 * 170
        )  # the head also tilts, in the truth it does not
        assert face.track == 1
    moved = [face.face.box_xyxy[0] for _, (face,) in results]
    assert max(moved) - min(moved) > 30


def test_detector_sees_a_reduced_picture(predictor: Predictor) -> None:
    shots = list(films.one_face(duration_s=0.1))
    for side, expected in ((320, (320, 240)), (None, (640, 480)), (1000, (640, 480))):
        bench = Bench(predictor, replace(DEFAULTS, detect_side=side))
        (shot, (face,)), *_ = bench.run(shots)
        assert bench.detector.seen_wh == [expected]
        assert face.face.box_xyxy == pytest.approx(shot.truth[0].box_xyxy, abs=0.01)


def test_one_call_of_the_network_for_all_faces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    predict = bench.analyzer.predict_crops
    monkeypatch.setattr(bench.analyzer, "predict_crops", lambda crops: calls.append(len(crops)) or predict(crops))
    bench.run(films.group([films.astronaut(), films.grace_hopper(), films.lfw(0)], duration_s=0.2))
    assert calls == [3] * 6
    bench.run(films.film([], duration_s=0.1, scene=1, start_s=10))
    assert len(calls) == 6


@pytest.mark.parametrize(
    "shots",
    [
        pytest.param(lambda: films.crossing(films.astronaut(), films.grace_hopper(), duration_s=2), id="portraits"),
        pytest.param(
            lambda: films.crossing(films.grace_hopper(), films.astronaut(), duration_s=1.5), id="the other in front"
        ),
        pytest.param(lambda: films.crossing(films.lfw(20), films.lfw(5), duration_s=2), id="two grey men"),
        pytest.param(
            lambda: films.crowd([films.astronaut(), films.grace_hopper(), films.lfw(3)], duration_s=3),
            id="three wander",
        ),
    ],
)
def test_faces_that_cross_keep_their_numbers(bench: Bench, shots: Callable[[], Iterable[films.Shot]]) -> None:
    assert bench.idf1(shots()) > 0.95


def test_a_face_comes_back_from_behind_a_post_as_itself(bench: Bench) -> None:
    results = bench.run(films.behind_post(films.astronaut(), duration_s=2))
    assert numbers(results) == {1}
    assert [] in [faces for _, faces in results], "behind the post there is no face"
    assert results[-1][1]


def test_a_face_that_stays_away_is_another_one(predictor: Predictor) -> None:
    bench = Bench(predictor, replace(DEFAULTS, lost_s=0.3))
    away = films.Role("a", lambda t: None if 0.3 < t < 0.9 else films.Pose(320, 240, 150), films.astronaut())
    results = bench.run(films.film([away], duration_s=1.2))
    assert [face.track for face in results[0][1]] == [1]
    assert [face.track for face in results[-1][1]] == [2]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(films.astronaut, films.grace_hopper, id="another person at the same place"),
        pytest.param(films.astronaut, films.astronaut, id="the same person in another scene"),
    ],
)
def test_a_cut_starts_new_tracks(bench: Bench, a: Callable[[], films.Actor], b: Callable[[], films.Actor]) -> None:
    results = bench.run(films.cut(a(), b(), before_s=0.4, after_s=0.4))
    assert numbers(results[:12]) == {1}
    assert numbers(results[12:]) == {2}
    assert results[12][1][0].detected, "found in the first frame of its scene"


def test_another_person_at_once_in_the_same_room_is_a_new_track(bench: Bench) -> None:
    room = [
        films.film([films.Role(name, films.still(320, 240, 150), actor)], duration_s=0.8, scene=8, start_s=start_s)
        for name, actor, start_s in (("a", films.astronaut(), 0.0), ("b", films.lfw(0), 0.8))
    ]
    results = bench.run([*room[0], *room[1]])
    assert results[0][1][0].track == 1
    assert results[-1][1][0].track == 2


def test_a_flash_is_no_cut(bench: Bench) -> None:
    role = films.Role("a", films.hover(320, 240, 150, reach_px=20), films.astronaut())
    flashing = films.film([role], duration_s=1, light=lambda t: 1.7 if 0.4 < t < 0.44 else 1.0)
    assert numbers(bench.run(flashing)) == {1}


def test_unclear_detections_continue_tracks_and_begin_none(bench: Bench) -> None:
    bench.tracker._sure_score = 0.5
    shots = list(films.one_face(duration_s=1))
    bench.detector.score = 0.3
    assert numbers(bench.run(shots[:6])) == set()
    bench.detector.score = 0.9
    bench.run(shots[6:12])
    bench.detector.score = 0.3
    results = bench.run(shots[12:])
    assert all([face.track for face in faces] == [1] for _, faces in results)
    assert any(face.detected for _, faces in results for face in faces)


def test_smoothing_and_hysteresis_can_be_off(predictor: Predictor) -> None:
    shots = list(films.one_face(duration_s=0.5))
    off = Bench(predictor, replace(DEFAULTS, half_life_s=0, hysteresis=0)).run(shots)
    on = Bench(predictor).run(shots)
    for (_, (raw,)), (_, (steady,)) in zip(off, on, strict=True):
        assert raw.face.probabilities == pytest.approx(steady.face.probabilities, abs=1e-6), "raw values are the same"
        assert raw.probabilities == pytest.approx(raw.face.probabilities, abs=0)
        assert raw.emotion == raw.face.emotion
        assert raw.confidence == pytest.approx(raw.face.confidence)
        assert raw.uncertain == raw.face.uncertain


def test_the_whole_picture_is_one_face(predictor: Predictor) -> None:
    tracker = FaceTracker(Analyzer(predictor, WholePicture()))
    for shot in films.one_face(duration_s=0.3):
        (face,) = tracker.update(shot.image, shot.time_s)
        assert face.track == 1
        assert face.detected
        assert face.face.landmarks is None
        assert face.face.box_xyxy == pytest.approx([0, 0, 640, 480])


@pytest.mark.parametrize(
    "times_s",
    [
        pytest.param([0, 0, 0, 0, 0, 0, 0], id="time stands still"),
        pytest.param([3, 2, 1, 0.5, 4, 2, 2.1], id="time jumps"),
        pytest.param([0, 5, 10, 15, 20, 25, 30], id="a frame every five seconds"),
    ],
)
def test_odd_times(bench: Bench, times_s: list[float]) -> None:
    shots = [replace(shot, time_s=t) for shot, t in zip(films.one_face(duration_s=1), times_s, strict=False)]
    assert numbers(bench.run(shots)) == {1}


def test_frames_may_change_their_size(bench: Bench) -> None:
    small = films.one_face(duration_s=0.2, size_wh=(320, 240))
    assert all(len(faces) == 1 for _, faces in bench.run([*films.one_face(duration_s=0.2), *small]))


def test_faces_that_touch_are_there_from_the_first_frame(bench: Bench) -> None:
    pair = ((260, films.astronaut()), (340, films.grace_hopper()))
    roles = [films.Role(str(x), films.still(x, 240, 120), actor) for x, actor in pair]
    assert numbers(bench.run(films.film(roles, duration_s=1 / 30))) == {1, 2}


def test_new_faces_beside_known_ones_are_there_at_once_where_frames_are_slow(bench: Bench) -> None:
    known = films.Role("a", films.still(260, 240, 120), films.astronaut())
    new = films.Role("b", lambda t: films.Pose(340, 240, 120) if t >= 2 else None, films.grace_hopper())
    results = bench.run(films.film([known, new], duration_s=3, rate_hz=1))
    assert [sorted(face.track for face in faces) for _, faces in results] == [[1], [1], [1, 2]]


@pytest.mark.parametrize("image", [np.zeros((480, 640), np.uint8), np.zeros((480, 640, 3), np.float32)])
def test_frames_of_another_kind_are_refused(bench: Bench, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8, not"):
        bench.tracker.update(image, 0)


def test_stage_seconds_add_up(bench: Bench) -> None:
    assert set(bench.tracker.stage_s.values()) == {0.0}
    bench.run(films.one_face(duration_s=0.3))
    assert set(bench.tracker.stage_s) == {"flow", "detect", "associate", "classify", "smooth"}
    assert all(seconds > 0 for seconds in bench.tracker.stage_s.values())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("detect_every", 0),
        ("detect_side", 16),
        ("half_life_s", -1.0),
        ("half_life_s", float("nan")),
        ("hysteresis", 1.0),
        ("lost_s", -0.1),
    ],
)
def test_settings_out_of_range(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        replace(DEFAULTS, **{option: value})


def test_real_detector_every_few_frames_is_as_good_as_in_each() -> None:
    """benchmarks/video.py asks the same of longer films and both detectors."""
    if not (hub.PACKAGED / "centerface.onnx").exists():
        pytest.skip("centerface.onnx is not in place: pip install -e .")
    analyzer = mien.load(threads=1)
    now_and_then, each = FaceTracker(analyzer), FaceTracker(analyzer, settings=replace(DEFAULTS, detect_every=1))
    for shot in films.one_face(duration_s=0.5):
        (ours,), (reference,) = (tracker.update(shot.image, shot.time_s) for tracker in (now_and_then, each))
        assert scores.iou(ours.face.box_xyxy.tolist(), reference.face.box_xyxy.tolist()) > 0.8
        assert ours.emotion == reference.emotion
        assert scores.iou(ours.face.box_xyxy.tolist(), shot.truth[0].box_xyxy) > 0.6
    strict = analyzer.detector.at_threshold(0.99)
    assert len(strict.detect([shot.image])[0]) == 1, "the best one still counts from a share of the threshold"
    assert analyzer.detector.score_threshold == 0.4


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([1] * 10, 1.0, id="one track"),
        pytest.param([1] * 6 + [2] * 4, 0.6, id="it breaks: the longer piece counts"),
        pytest.param([None] * 5 + [1] * 5, 2 * 5 / 15, id="found late"),
    ],
)
def test_idf1_by_hand(found: list[int | None], expected: float) -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    truth = [[("a", box)]] * 10
    tracks = [[] if number is None else [(number, box)] for number in found]
    assert scores.identity(truth, tracks).idf1 == pytest.approx(expected)


def test_boxes_beside_the_picture_are_left_out(predictor: Predictor) -> None:
    class Stray:
        name = "stray"

        def detect(self, images: Sequence[Image]) -> list[Detections]:
            boxes = np.array([[-500, -500, -400, -400], [10, 10, 60, 60]], np.float32)
            return [Detections(boxes, None, np.array([0.9, 0.8], np.float32)) for _ in images]

    tracker = FaceTracker(Analyzer(predictor, Stray()))
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    for number in range(20):
        faces = tracker.update(picture, 0.1 * number)
    assert [face.face.box_xyxy.tolist() for face in faces] == [[10, 10, 60, 60]]
