"""How well a tracker did, against the truth of a film."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from tests.video.films import Shot

Box = Sequence[float]
Named = tuple[str | int, Box]
"""A person or track, and the box (4,) in one frame."""

SAME_BOX_IOU = 0.5  # the paper's and MOTChallenge's


@dataclass(frozen=True)
class Identity:
    """Identity measures; counts are of boxes over all frames."""

    true_positives: int  # boxes of a person under the one track that is counted as theirs
    truths: int
    found: int

    @property
    def idf1(self) -> float:
        """Ratio of correctly identified boxes to the mean number of true and found ones, 0..1."""
        return 2 * self.true_positives / max(self.truths + self.found, 1)


def identity(truth: Sequence[Sequence[Named]], found: Sequence[Sequence[Named]]) -> Identity:
    """IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016.

    Each person is given at most one track and each track at most one person, so that as many boxes as can be agree
    (section 3.2: the bipartite match of whole trajectories that makes fewest mistakes).
    """
    together: Counter[tuple[str | int, str | int]] = Counter()
    for people, tracks in zip(truth, found, strict=True):
        for person, true_box in people:
            for track, box in tracks:
                together[person, track] += iou(true_box, box) >= SAME_BOX_IOU
    people_names = sorted({str(name) for name, _ in together})
    track_names = sorted({str(name) for _, name in together})
    shared = np.zeros((len(people_names), len(track_names)), np.int64)
    for (person, track), count in together.items():
        shared[people_names.index(str(person)), track_names.index(str(track))] = count
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return Identity(int(shared[rows, columns].sum()), sum(map(len, truth)), sum(map(len, found)))


def identity_in_film(shots: Sequence[Shot], found: Sequence[Sequence[Named]]) -> Identity:
    """IDF1 of a film, for those in sight; who is more than half hidden need not be found, but may be.

    As benchmarks of detection treat regions to ignore: a box that is nobody's in sight and lies by half or more on
    somebody who is hidden does not count.
    """
    truth = [[(one.person, one.box_xyxy) for one in shot.in_sight] for shot in shots]
    counted = []
    for shot, people, tracks in zip(shots, truth, found, strict=True):
        hidden = [one.box_xyxy for one in shot.truth if one not in shot.in_sight]
        in_sight = [box for _, box in people]
        counted.append([named for named in tracks if _is_counted(named[1], in_sight, hidden)])
    return identity(truth, counted)


def _is_counted(box: Box, in_sight: Sequence[Box], hidden: Sequence[Box]) -> bool:
    somebodys = any(iou(box, other) >= SAME_BOX_IOU for other in in_sight)
    return somebodys or not any(inside_ratio(box, other) >= 0.5 for other in hidden)


def inside_ratio(box: Box, other: Box) -> float:
    """The share of a box that lies inside another."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return float(max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes left, top, right, bottom."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def switches(names: Sequence[str]) -> int:
    """How often a sequence of decisions changes."""
    return sum(a != b for a, b in pairwise(names))
