"""Smoothed probabilities over time, a line a track, in memory that does not grow with the length of the film."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.results import Image
from mien.video.track import TrackedFace

FIRST_BIN_S = 0.04  # widths are doubled as the film goes on
MOST_BINS = 1200  # of a film: more than the pixels that they are drawn on
MOST_TRACKS = 64  # that are remembered: beyond, the one that was seen for the shortest time is left out
LONGEST_GAP_S = 2.0  # a frame stands until the next one, where that comes so soon
THUMBNAIL_PX = 96
THUMBNAIL_MARGIN = 0.25  # of the box, on each side
BETTER_RATIO = 1.15  # a thumbnail gives way to one that is so much better

Bin = NDArray[np.float64]  # (2 + 2 K,): frames, uncertain frames, sums of probabilities, frames of each emotion


@dataclass(frozen=True, slots=True, eq=False)
class TrackLine:
    """One track as it is drawn: M bins, in the order of time, with gaps where the face was out of sight."""

    track: int
    bins: NDArray[np.int64]  # (M,) numbers of the bins; consecutive ones touch
    probabilities: NDArray[np.float32]  # (M, K) means of the smoothed probabilities; rows sum to 1
    emotions: NDArray[np.int64]  # (M,) index of the emotion that was shown for most of the bin
    uncertain: NDArray[np.float32]  # (M,) share of frames in 0..1
    thumbnail: Image  # (THUMBNAIL_PX, THUMBNAIL_PX, 3)

    def runs(self) -> list[slice]:
        """Stretches without a gap, as slices of the M bins."""
        cuts = np.flatnonzero(np.diff(self.bins) > 1) + 1
        ends = [0, *cuts.tolist(), len(self.bins)]
        return [slice(start, end) for start, end in pairwise(ends)]


@dataclass(slots=True, eq=False)
class _Line:
    thumbnail: Image
    worth: float
    bins: dict[int, Bin] = field(default_factory=dict)


class Timeline:
    """Collects what the pictures and pages of a film's tracks are drawn from."""

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels` are the model's K."""
        self.labels = tuple(labels)
        self.bin_s = FIRST_BIN_S
        self.origin_s: float | None = None  # time of the first frame, where bin 0 begins
        self.end_s = 0.0  # time of the last frame
        self.left_out = 0  # tracks that were too many
        self._lines: dict[int, _Line] = {}
        self._before: tuple[float, Sequence[TrackedFace]] | None = None

    def add(self, image: Image, time_s: float, faces: Sequence[TrackedFace]) -> None:
        """Count the faces of the next frame `(H, W, 3)`."""
        self.origin_s = time_s if self.origin_s is None else self.origin_s
        while time_s - self.origin_s >= MOST_BINS * self.bin_s:
            self._halve()
        place = self._bin(time_s)
        if self._before is not None and time_s - self._before[0] <= LONGEST_GAP_S:
            for missed in range(self._bin(self._before[0]) + 1, place):
                self._count(missed, self._before[1])
        self.end_s, self._before = time_s, (time_s, faces)
        for face in faces:
            self._see(image, face)
        self._count(place, faces)
        while len(self._lines) > MOST_TRACKS:
            self._forget()

    def lines(self, most: int | None = None) -> list[TrackLine]:
        """The `most` tracks that were seen for longest, in the order in which they came."""
        longest = sorted(self._lines, key=lambda track: -len(self._lines[track].bins))[:most]
        return [self._drawn(track, self._lines[track]) for track in sorted(longest)]

    @property
    def known(self) -> int:
        """All tracks that there were."""
        return len(self._lines) + self.left_out

    def _bin(self, time_s: float) -> int:
        return int((time_s - (self.origin_s or 0.0)) / self.bin_s)

    def _see(self, image: Image, face: TrackedFace) -> None:
        """Keep the best picture of each face: large, sharp, frontal."""
        quality = face.face.quality
        turn = abs(quality.turn_ratio or 0.0)
        worth = face.face.score * min(quality.size_px, 2 * THUMBNAIL_PX) * (1.2 - quality.blur) * (1.2 - turn)
        line = self._lines.get(face.track)
        if line is None:
            self._lines[face.track] = _Line(_thumbnail(image, face.face.box_xyxy), worth)
        elif worth > BETTER_RATIO * line.worth:
            line.thumbnail, line.worth = _thumbnail(image, face.face.box_xyxy), worth

    def _count(self, place: int, faces: Sequence[TrackedFace]) -> None:
        count = len(self.labels)
        for face in faces:
            line = self._lines.get(face.track)
            if line is None:  # forgotten
                continue
            held = line.bins.setdefault(place, np.zeros(2 + 2 * count))
            held[0] += 1
            held[1] += face.uncertain
            held[2 : 2 + count] += face.probabilities
            held[2 + count + self.labels.index(face.emotion)] += 1

    def _halve(self) -> None:
        """Bins of twice the width, half as many."""
        self.bin_s *= 2
        for line in self._lines.values():
            merged: dict[int, Bin] = {}
            for place, held in line.bins.items():
                merged[place // 2] = merged[place // 2] + held if place // 2 in merged else held
            line.bins = merged

    def _forget(self) -> None:
        now = self._bin(self.end_s)
        gone = [track for track, line in self._lines.items() if now not in line.bins] or list(self._lines)
        del self._lines[min(gone, key=lambda track: len(self._lines[track].bins))]
        self.left_out += 1

    def _drawn(self, track: int, line: _Line) -> TrackLine:
        places = sorted(line.bins)
        held = np.stack([line.bins[place] for place in places])
        count = len(self.labels)
        shares = held[:, 2 : 2 + count] / held[:, 2 : 2 + count].sum(axis=1, keepdims=True)
        return TrackLine(
            track=track,
            bins=np.array(places, np.int64),
            probabilities=shares.astype(np.float32),
            emotions=held[:, 2 + count :].argmax(axis=1),
            uncertain=(held[:, 1] / held[:, 0]).astype(np.float32),
            thumbnail=line.thumbnail,
        )


def _thumbnail(image: Image, box_xyxy: NDArray[np.float32]) -> Image:
    """A square around the box, `(THUMBNAIL_PX, THUMBNAIL_PX, 3)`; beyond the picture its edge is repeated."""
    left, top, right, bottom = (float(value) for value in box_xyxy)
    side = max(right - left, bottom - top) * (1 + 2 * THUMBNAIL_MARGIN)
    middle = ((left + right) / 2, (top + bottom) / 2)
    scale = THUMBNAIL_PX / max(side, 1.0)
    if scale < 0.5:  # warping samples single pixels
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        middle, scale = (scale * middle[0], scale * middle[1]), 1.0
    half = THUMBNAIL_PX / 2
    matrix = np.array([[scale, 0, half - scale * middle[0]], [0, scale, half - scale * middle[1]]])
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
