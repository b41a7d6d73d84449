"""Faces followed through a film: detected now and then, moved by optical flow in between, each with its number.

One frame goes through `FaceTracker.update` as follows. Optical flow moves every face (`flow`); where a detection is
due, or flow has lost a face, the detector looks at a reduced copy and its faces are matched with the tracks
(`associate`); all faces in sight are cropped and classified in one call; probabilities are smoothed and the emotion
is decided with hysteresis (`smooth`). docs/tracking.md explains the choices and what they were measured to be worth.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.faces.centerface import CenterFace
from mien.faces.detections import Detections, Detector
from mien.faces.whole import WholePicture
from mien.faces.yunet import YuNet
from mien.pipeline import Analyzer
from mien.results import Face, Image
from mien.video import looks
from mien.video.associate import (
    SAME_LOOKS,
    STRANGER_LOOKS,
    Candidates,
    Observations,
    assign,
    covered_ratio,
    match,
    within_reach,
)
from mien.video.flow import Flow
from mien.video.smooth import Smoother
from mien.video.state import Track, sightings

STAGES = ("flow", "detect", "associate", "classify", "smooth")
LOST_FRAMES = 3  # a face is not given up before so many frames have passed, where they come slowly
COVERED_RATIO = 0.4  # of a box that the detector does not find: so much under another face, and it is behind it
DOUBT_S = 0.4  # a new face that may be a lost one, half hidden, gets no number of its own before
TOUCHED_RATIO = 0.1  # of a new box under another face: it may be a mixture of both, or the one behind
DOUBT_EVERY = 2  # frames from detection to detection meanwhile
LENIENT_RATIO = 0.6  # of the detector's threshold: less sure detections do not begin a track, but continue it
IN_PICTURE_RATIO = 0.3  # of a box: with less of it in the picture the face has left


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSettings:
    """How faces are followed and their emotions steadied."""

    detect_every: int = 5  # frames from one detection to the next; in between optical flow moves the faces
    detect_after_s: float = 0.25  # and after so long at the latest, where frames come slowly
    detect_side: int | None = 320  # longest side of what the detector sees; None: the frame as it is
    lost_s: float = 1.5  # a face out of sight for so long is given up: coming back, it is a new track
    hold_s: float = 0.5  # a face that flow still follows is believed for so long without the detector
    half_life_s: float = 0.2  # of the smoothing of probabilities; 0: none
    hysteresis: float = 0.1  # lead in probability that another emotion needs to be shown; 0: none

    def __post_init__(self) -> None:
        if self.detect_every < 1:
            raise ConfigError(f"detect_every is {self.detect_every}: it must be 1 or more")
        if self.detect_side is not None and self.detect_side < 32:
            raise ConfigError(f"detect_side is {self.detect_side} px: it must be 32 or more, or None")
        for name in ("detect_after_s", "lost_s", "hold_s", "half_life_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} is {getattr(self, name)} s: it must be 0 or more")
        if not 0 <= self.hysteresis < 1:
            raise ConfigError(f"hysteresis is {self.hysteresis}: it must be at least 0 and below 1")


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class TrackedFace:
    """One face in one frame of a film."""

    track: int  # positive; one number for one person for as long as they stay, never used again
    face: Face  # as measured in this frame: box, landmarks, quality, probabilities before smoothing
    probabilities: NDArray[np.float32]  # (K,) smoothed
    emotion: str  # after hysteresis
    uncertain: bool  # the smoothed probability of `emotion` is under the model's threshold
    detected: bool  # False: moved by optical flow since the last detection

    @property
    def confidence(self) -> float:
        """Smoothed probability of `emotion`, 0..1."""
        return float(self.probabilities[self.face.labels.index(self.emotion)])

    @property
    def title(self) -> str:
        """Its number and what it shows, for people: `3 happy 87 %`; a question mark where it is uncertain."""
        return f"{self.track} {self.emotion}{'?' if self.uncertain else ''} {100 * self.confidence:.0f} %"


class FaceTracker:
    """Follows the faces of one film or camera. Not to be shared between threads; the analyzer may be."""

    def __init__(self, analyzer: Analyzer, *, settings: TrackSettings = TrackSettings()) -> None:
        """Begin with no face."""
        self.analyzer = analyzer
        self.settings = settings
        self._flow = Flow()
        self._tracks: list[Track] = []
        self._last_number = 0
        self._frames_since = 0  # the last detection
        self._detection_s: float | None = None
        self._time_s: float | None = None
        self._interval_s = 0.0  # from the last frame to this one
        self._stage_s = dict.fromkeys(STAGES, 0.0)
        self._detector, self._sure_score = _lenient(analyzer.detector)

    @property
    def stage_s(self) -> Mapping[str, float]:
        """Seconds spent so far in each of `STAGES`."""
        return dict(self._stage_s)

    def update(self, image: Image, time_s: float) -> list[TrackedFace]:
        """The faces in sight in the next `(H, W, 3)` RGB frame, oldest track first.

        `time_s` is when the frame was taken, in seconds; only differences count, and frames may come unevenly.

        Raises:
            ValueError: the frame has another shape or type.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"a frame is (H, W, 3) uint8, not {image.dtype} {image.shape}")
        self._interval_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        due = self._follow(image, time_s) or self._is_due(time_s)
        if not due:
            due = self._lose_strangers(image, time_s)
        if due:
            self._detect(image, time_s)
            self._lose_strangers(image, time_s)
        patience_s = max(self.settings.lost_s, LOST_FRAMES * self._interval_s)
        self._tracks = [t for t in self._tracks if time_s - t.sight.time_s <= (patience_s if t.number else DOUBT_S)]
        return self._classify(image, [t for t in self._tracks if t.in_sight and t.number], time_s)

    def _follow(self, image: Image, time_s: float) -> bool:
        """Move all tracks to this frame; whether a face, or the whole scene, was lost on the way."""
        with self._timed("flow"):
            cut = self._flow.advance(image)
            if cut:
                self._tracks = []
            seen = [track for track in self._tracks if track.in_sight]
            boxes = np.array([track.box_xyxy for track in seen], np.float32).reshape(-1, 4)
            motions = dict(zip(map(id, seen), self._flow.motions(boxes), strict=True))
            for track in self._tracks:
                motion = motions.get(id(track))
                track.detected, track.crop = False, None
                if motion is not None:
                    track.move(motion)
                if motion is None or not _in_picture(track.box_xyxy, image):
                    track.coast(time_s)
        return cut or any(not track.in_sight for track in seen)

    def _is_due(self, time_s: float) -> bool:
        """Whether it is time for a detection."""
        self._frames_since += 1
        if self._detection_s is None or isinstance(self.analyzer.detector, WholePicture):
            return True
        since_s = time_s - self._detection_s
        doubtful = any(track.number is None for track in self._tracks)
        every = min(DOUBT_EVERY, self.settings.detect_every) if doubtful else self.settings.detect_every
        return self._frames_since >= every or not 0 <= since_s < self.settings.detect_after_s

    def _detect(self, image: Image, time_s: float) -> None:
        """Look for faces, and give each to a track."""
        self._frames_since, self._detection_s = 0, time_s
        with self._timed("detect"):
            found = _overlapping(self._detections(image), image)
        with self._timed("classify"):
            crops = self.analyzer.crops(image, found)
        with self._timed("associate"):
            self._associate(found, crops, time_s)

    def _detections(self, image: Image) -> Detections:
        """Faces of the frame, found on a reduced copy."""
        longer, side = max(image.shape[:2]), self.settings.detect_side
        if side is None or longer <= side:
            return self._detector.detect([image])[0]
        size_wh = tuple(max(1, round(length * side / longer)) for length in image.shape[1::-1])
        small = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        found = self._detector.detect([small])[0]
        scale_xy = np.array(image.shape[1::-1], np.float32) / np.array(size_wh, np.float32)
        landmarks = None if found.landmarks is None else (found.landmarks * scale_xy).astype(np.float32)
        return Detections(found.boxes_xyxy * np.tile(scale_xy, 2), landmarks, found.scores)

    def _associate(self, found: Detections, crops: NDArray[np.uint8], time_s: float) -> None:
        """Continue tracks with what was found, begin new ones, and tell which faces are behind others."""
        seen = Observations(found.boxes_xyxy, looks.of_crops(crops), found.scores >= self._sure_score)
        sights = sightings(found, crops, seen.looks, time_s)
        for track in self._tracks:
            track.missed = track.in_sight
        pairs = match(_candidates(self._tracks, time_s), seen)
        for number, index in pairs:
            self._tracks[number].see(sights[index])
        for index in sorted(set(np.flatnonzero(seen.clear).tolist()) - {index for _, index in pairs}):
            self._tracks.append(Track(sights[index], self._smoother()))
        self._hide(time_s)
        self._recover(time_s)
        self._number(time_s)

    def _hide(self, time_s: float) -> None:
        """Faces that the detector does not find are behind one that it does, or flow is believed for a while."""
        found_boxes = [track.box_xyxy for track in self._tracks if track.detected]
        for track in self._tracks:
            if track.in_sight and track.missed:
                behind = covered_ratio(track.box_xyxy, found_boxes) > COVERED_RATIO
                if behind or time_s - track.sight.time_s > self.settings.hold_s:
                    track.coast(time_s)

    def _recover(self, time_s: float) -> None:
        """Tell which new faces are known ones that come back."""
        new = [track for track in self._tracks if track.number is None and track.detected]
        lost = [track for track in self._tracks if track.number is not None and not track.in_sight]
        candidates, found = _candidates(lost, time_s), _observations(new)
        alike = candidates.looks @ found.looks.T
        possible = within_reach(candidates, found.boxes_xyxy) & (alike >= SAME_LOOKS)
        for known, index in assign(np.where(possible, alike, 0)):
            lost[known].see(new[index].sight)
            self._tracks.remove(new[index])

    def _number(self, time_s: float) -> None:
        """Give new faces a number, unless they may yet turn out to be lost ones that something still half covers."""
        self._tracks = [track for track in self._tracks if track.number or track.detected]
        new = [track for track in self._tracks if track.number is None]
        lost = [track for track in self._tracks if track.number is not None and not track.in_sight]
        known_boxes = [track.box_xyxy for track in self._tracks if track.number is not None and track.detected]
        in_reach = within_reach(_candidates(lost, time_s), _observations(new).boxes_xyxy)
        for track, near_lost in zip(new, in_reach.T, strict=True):
            touched = covered_ratio(track.box_xyxy, known_boxes) > TOUCHED_RATIO
            waited_s = max(time_s - track.began_s, self._interval_s)  # of slow frames each one has to count
            if waited_s >= DOUBT_S or not (touched or near_lost.any()):
                self._last_number += 1
                track.number = self._last_number

    def _smoother(self) -> Smoother:
        return Smoother(half_life_s=self.settings.half_life_s, hysteresis=self.settings.hysteresis)

    def _lose_strangers(self, image: Image, time_s: float) -> bool:
        """Crop what flow has moved; a face that something else has come before is out of sight. Whether one is."""
        moved_on = _best_first([track for track in self._tracks if track.in_sight and track.crop is None])
        if not moved_on:
            return False
        with self._timed("classify"):
            crops = self.analyzer.crops(image, _as_detections(moved_on))
        with self._timed("associate"):
            for track, crop, look in zip(moved_on, crops, looks.of_crops(crops), strict=True):
                track.crop = crop
                if float(track.looks @ look) < (SAME_LOOKS if track.missed else STRANGER_LOOKS):
                    track.coast(time_s)
        return any(not track.in_sight for track in moved_on)

    def _classify(self, image: Image, tracks: Sequence[Track], time_s: float) -> list[TrackedFace]:
        """One call of the network for all faces of the frame, then smoothing."""
        if not tracks:
            return []
        best_first = _best_first(tracks)
        with self._timed("classify"):
            crops = np.stack([track.crop for track in best_first if track.crop is not None])
            probabilities = self.analyzer.predict_crops(crops)
            faces = self.analyzer.faces(_inside(_as_detections(best_first), image), crops, probabilities)
        with self._timed("smooth"):
            results = [self._steady(*pair, time_s) for pair in zip(best_first, faces, strict=True)]
        return sorted(results, key=lambda result: result.track)

    def _steady(self, track: Track, face: Face, time_s: float) -> TrackedFace:
        probabilities, shown = track.smoother.update(face.probabilities, time_s)
        uncertain = bool(probabilities[shown] < self.analyzer.spec.threshold)
        assert track.number, "a face in doubt is not shown"
        return TrackedFace(track.number, face, probabilities, face.labels[shown], uncertain, track.detected)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        self._stage_s[stage] += time.perf_counter() - began_s


def _lenient(detector: Detector) -> tuple[Detector, float]:
    """The detector with a lower threshold, where it can have one, and its own threshold."""
    if isinstance(detector, (CenterFace, YuNet)):
        return detector.at_threshold(LENIENT_RATIO * detector.score_threshold), detector.score_threshold
    return detector, 0.0


def _candidates(tracks: Sequence[Track], time_s: float) -> Candidates:
    return Candidates(
        boxes_xyxy=np.array([t.box_xyxy for t in tracks], np.float32).reshape(-1, 4),
        seen_xyxy=np.array([t.sight.box_xyxy for t in tracks], np.float32).reshape(-1, 4),
        velocities=np.array([t.velocity for t in tracks], np.float32).reshape(-1, 2),
        away_s=np.array([0 if t.in_sight else time_s - t.sight.time_s for t in tracks], np.float32),
        looks=np.array([t.looks for t in tracks], np.float32).reshape(-1, looks.LENGTH),
    )


def _observations(tracks: Sequence[Track]) -> Observations:
    """The last sightings of tracks."""
    return Observations(
        boxes_xyxy=np.array([t.sight.box_xyxy for t in tracks], np.float32).reshape(-1, 4),
        looks=np.array([t.sight.looks for t in tracks], np.float32).reshape(-1, looks.LENGTH),
        clear=np.ones(len(tracks), np.bool_),
    )


def _in_picture(box_xyxy: NDArray[np.float32], image: Image) -> bool:
    """Whether enough of a box lies in the picture."""
    corner = np.array(image.shape[1::-1], np.float32)
    shown = np.clip(box_xyxy.reshape(2, 2), 0, corner)
    whole = box_xyxy[2:] - box_xyxy[:2]
    return bool((shown[1] - shown[0]).prod() > IN_PICTURE_RATIO * whole.prod())


def _best_first(tracks: Sequence[Track]) -> list[Track]:
    return sorted(tracks, key=lambda track: -track.score)


def _as_detections(tracks: Sequence[Track]) -> Detections:
    """Tracks, best score first, as a detector would return them."""
    points = [track.landmarks for track in tracks if track.landmarks is not None]
    return Detections(
        np.stack([track.box_xyxy for track in tracks]),
        np.stack(points) if points else None,
        np.array([track.score for track in tracks], np.float32),
    )


def _overlapping(found: Detections, image: Image) -> Detections:
    """Without boxes that lie beside the picture, which a detector of one's own may give."""
    corner = np.array(image.shape[1::-1], np.float32)
    kept = ((found.boxes_xyxy[:, :2] < corner) & (found.boxes_xyxy[:, 2:] > 0)).all(axis=1)
    landmarks = None if found.landmarks is None else found.landmarks[kept]
    return Detections(found.boxes_xyxy[kept], landmarks, found.scores[kept])


def _inside(found: Detections, image: Image) -> Detections:
    """Boxes cut at the edge of the picture, as detectors do."""
    corner = np.tile(np.array(image.shape[1::-1], np.float32), 2)
    return Detections(np.clip(found.boxes_xyxy, 0, corner), found.landmarks, found.scores)
