"""Which detection is which track: overlap, direction and looks, put together and solved exactly.

The order of business is ByteTrack's (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection
Box", ECCV 2022, arXiv:2110.06864): clear detections are matched with all tracks first, then unclear ones with the
tracks that are left, and only clear ones may begin a track. Direction of movement and the recovery of lost tracks come
from OC-SORT (Cao et al., "Observation-Centric SORT", CVPR 2023, arXiv:2203.14360), where both rest on what was
observed, not on what a filter made of it. There is no Kalman filter: between detections optical flow has seen where
the faces went.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_IOU = 0.25  # under it a box is not the same face a moment later
UNCLEAR_IOU = 0.5  # for unclear detections: ByteTrack's value for its second round
DIRECTION_WEIGHT = 0.2  # OC-SORT's
LOOKS_WEIGHT = 1.0  # tells two faces apart that cover each other, where both overlap the detection
STRANGER_LOOKS = 0.2  # FER-2013: 4 in 100 pairs of crops of one face are less alike, half of all strangers are
EXPECTED_LOOKS = 0.35  # for a lost face that comes back where it should: half of it may still be hidden
SAME_LOOKS = 0.5  # crops of one face: 99 in 100 are more alike; strangers: 6 in 100
REACH_RATIO = 1.0  # of a face's side: how far from where it is expected a lost face may come back
REACH_PER_S_RATIO = 1.5  # and so much more for every second that it was away
SIZE_CHANGE = 1.6  # of the side, either way, of a face that comes back

Boxes = NDArray[np.float32]  # (N, 4): left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What is known of T tracks at the time of a detection; parallel arrays."""

    boxes_xyxy: Boxes  # (T, 4) where flow, or its last speed, brought each
    seen_xyxy: Boxes  # (T, 4) where each was last seen for certain
    velocities: NDArray[np.float32]  # (T, 2) px/s
    away_s: NDArray[np.float32]  # (T,) since then; 0 for a track that is in sight
    looks: NDArray[np.float32]  # (T, L) unit vectors


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """D detections of one frame; parallel arrays."""

    boxes_xyxy: Boxes  # (D, 4)
    looks: NDArray[np.float32]  # (D, L) unit vectors
    clear: NDArray[np.bool_]  # (D,) sure enough to begin a track


def iou_matrix(a_xyxy: Boxes, b_xyxy: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every box of `(N, 4)` with every box of `(M, 4)`: `(N, M)` in [0, 1]."""
    top_left = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    bottom_right = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    areas_a = (a_xyxy[:, 2:] - a_xyxy[:, :2]).prod(axis=1)
    areas_b = (b_xyxy[:, 2:] - b_xyxy[:, :2]).prod(axis=1)
    union = areas_a[:, None] + areas_b[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0), np.float32)


def assign(scores: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pairs (row, column) of `(N, M)` scores with the largest sum, each row and column once; only positive scores pair.

    The Hungarian method by shortest augmenting paths, O(N² M): Jonker and Volgenant, "A shortest augmenting path
    algorithm for dense and sparse linear assignment problems", Computing 38, 1987. SciPy has it too, in 100 MB.
    """
    gains = np.clip(np.asarray(scores, np.float64), 0, None)  # a forbidden pair is worth as much as none
    if gains.shape[0] > gains.shape[1]:
        return sorted((row, column) for column, row in assign(gains.T))
    rows, columns = gains.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, np.intp)  # of each column, from 1; column 0 stands for the row that is placed now
    for row in range(1, rows + 1):
        row_of[0] = row
        _augment(-gains, row_of, row_price, column_price)
    pairs = ((int(row) - 1, column) for column, row in enumerate(row_of[1:]) if row)
    return sorted((row, column) for row, column in pairs if gains[row, column] > 0)


def _augment(
    costs: NDArray[np.float64],
    row_of: NDArray[np.intp],
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
) -> None:
    """Give the row in `row_of[0]` a column along the cheapest chain of swaps; all but `costs` change in place."""
    columns = costs.shape[1]
    distance, via = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.intp)
    done = np.zeros(columns + 1, np.bool_)
    column = 0
    while row_of[column]:
        done[column] = True
        row = row_of[column]
        reduced = np.append(np.inf, costs[row - 1] - row_price[row] - column_price[1:])
        nearer = ~done & (reduced < distance)
        distance[nearer], via[nearer] = reduced[nearer], column
        following = int(np.where(done, np.inf, distance).argmin())
        step = distance[following]
        row_price[row_of[done]] += step
        column_price[done] -= step
        distance[~done] -= step
        column = following
    while column:
        row_of[column] = row_of[via[column]]
        column = int(via[column])


def match(tracks: Candidates, found: Observations) -> list[tuple[int, int]]:
    """Pairs (track, detection), each at most once, of those that are where they should be: ByteTrack's two rounds."""
    looks = tracks.looks @ found.looks.T
    ious = iou_matrix(tracks.boxes_xyxy, found.boxes_xyxy)
    here = (tracks.away_s == 0)[:, None]
    alike = looks >= np.where(here, STRANGER_LOOKS, EXPECTED_LOOKS)
    near = ious + DIRECTION_WEIGHT * _directions(tracks, found.boxes_xyxy) + LOOKS_WEIGHT * np.clip(looks, 0, 1)
    pairs = assign(np.where((ious >= MIN_IOU) & alike & found.clear, near, 0))
    left = np.ones_like(alike)
    for track, detection in pairs:
        left[track], left[:, detection] = False, False
    return sorted(pairs + assign(np.where((ious >= UNCLEAR_IOU) & alike & here & left & ~found.clear, ious, 0)))


def _directions(tracks: Candidates, boxes_xyxy: Boxes) -> NDArray[np.float32]:
    """How well each detection lies in each track's direction of movement: `(T, D)` in [-0.5, 0.5], 0 at rest."""
    steps = _centres(boxes_xyxy)[None] - _centres(tracks.seen_xyxy)[:, None]
    speeds = np.linalg.norm(tracks.velocities, axis=1)
    lengths = np.linalg.norm(steps, axis=2) * speeds[:, None]
    dots = (steps * tracks.velocities[:, None]).sum(axis=2)
    cosines = np.divide(dots, lengths, out=np.zeros_like(lengths), where=lengths > 1e-6)
    agreement = 0.5 - np.arccos(np.clip(cosines, -1, 1)) / np.pi
    brisk = np.minimum(speeds / np.maximum(_sides(tracks.seen_xyxy), 1e-6), 1)  # the direction of trembling is chance
    return np.asarray(agreement * brisk[:, None], np.float32)


def within_reach(tracks: Candidates, boxes_xyxy: Boxes) -> NDArray[np.bool_]:
    """Whether lost tracks can have come to `(D, 4)` boxes, from where they were last seen or along their way: `(T, D)`.

    OC-SORT's recovery: a lost face is looked for around where it was last observed, not only where it should be.
    """
    sides, found_sides = _sides(tracks.seen_xyxy)[:, None], _sides(boxes_xyxy)[None]
    reach_px = sides * (REACH_RATIO + REACH_PER_S_RATIO * tracks.away_s[:, None])
    centres = _centres(boxes_xyxy)[None]
    from_seen, from_path = (
        np.linalg.norm(centres - _centres(boxes)[:, None], axis=2) for boxes in (tracks.seen_xyxy, tracks.boxes_xyxy)
    )
    change = np.maximum(sides, found_sides) / np.maximum(np.minimum(sides, found_sides), 1e-6)
    return np.asarray((np.minimum(from_seen, from_path) <= reach_px) & (change <= SIZE_CHANGE))


def _centres(boxes_xyxy: Boxes) -> NDArray[np.float32]:
    return np.asarray((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, np.float32)


def _sides(boxes_xyxy: Boxes) -> NDArray[np.float32]:
    """Longer sides, `(N,)`: that of an upright face is the height, which something before one half of it leaves."""
    return np.asarray((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1), np.float32)


def covered_ratio(box_xyxy: Boxes, others: Sequence[Boxes]) -> float:
    """The share of a `(4,)` box that one of the others covers, in [0, 1]."""
    if not len(others):
        return 0.0
    stacked = np.stack(others)
    top_left = np.maximum(box_xyxy[:2], stacked[:, :2])
    bottom_right = np.minimum(box_xyxy[2:], stacked[:, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
    return float(shared.max() / max((box_xyxy[2:] - box_xyxy[:2]).prod(), 1e-6))
