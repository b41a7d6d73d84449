"""Labels against the ten taggers of FER+ (Barsoum et al. 2016)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.datasets.audit.findings import Finding, Problem, Suggestion
from mien.datasets.audit.pool import Pool
from mien.labels import FERPLUS_COLUMNS

NOT_A_FACE = FERPLUS_COLUMNS.index("NF")
CLEAR_SHARE = 0.5  # of the votes: what more taggers than not see
STRONG_SHARE, STRAY_SHARE = 0.8, 0.1  # relabel where so many see one class, and at most so many the label


def find_no_faces(pool: Pool) -> Iterator[Finding]:
    """Images that FER+ left out as no faces, or in which at least half of the taggers saw none."""
    if pool.votes is None:
        return
    totals = pool.votes.sum(axis=1)
    covered = np.isin(pool.sources, np.unique(pool.sources[totals > 0]))  # images of other sources have no votes at all
    for i in np.flatnonzero(covered & (totals == 0)).tolist():
        note = "FER+ leaves it out"
        yield Finding(problem=Problem.NOT_A_FACE, image=i, suggestion=Suggestion.EXCLUDE, score=1.0, note=note)
    share = pool.votes[:, NOT_A_FACE] / np.maximum(totals, 1)
    for i in np.flatnonzero(share >= CLEAR_SHARE).tolist():
        note = f"{pool.votes[i, NOT_A_FACE]} of {totals[i]} taggers"
        value = round(float(share[i]), 4)
        yield Finding(problem=Problem.NOT_A_FACE, image=i, suggestion=Suggestion.EXCLUDE, score=value, note=note)


def find_disagreement(pool: Pool) -> Iterator[Finding]:
    """Images of which most taggers see another class than the label, the surest first.

    The score is the share of the winner less that of the label. Where most say "unknown", "not a face" or a class
    that the data set does not have, there is no label to suggest.
    """
    if pool.votes is None:
        return
    shares = pool.votes / np.maximum(pool.votes.sum(axis=1, keepdims=True), 1)
    own = shares[np.arange(len(pool)), _columns(pool)[pool.classes]]
    winner = shares.argmax(axis=1)
    margin = shares.max(axis=1) - own
    doubted = np.flatnonzero((shares.max(axis=1) > CLEAR_SHARE) & (margin > 0))
    for i in doubted[np.argsort(-margin[doubted], kind="stable")].tolist():
        seen = FERPLUS_COLUMNS[winner[i]]
        strong = shares[i, winner[i]] >= STRONG_SHARE and own[i] <= STRAY_SHARE and seen in pool.labels
        yield Finding(
            problem=Problem.VOTES,
            image=i,
            suggestion=Suggestion.RELABEL if strong else Suggestion.REVIEW,
            suggested_label=seen if seen in pool.labels else "",
            score=round(float(margin[i]), 4),
            note=_spoken(pool.votes[i]),
        )


def plurality_agrees(pool: Pool) -> float | None:
    """Share of the images with votes whose most frequent vote is the label; None without votes.

    Where several are as frequent, the label counts by its chance among them.
    """
    if pool.votes is None or not pool.votes.any():
        return None
    voted = pool.votes.any(axis=1)
    most = pool.votes[voted] == pool.votes[voted].max(axis=1, keepdims=True)
    label = _columns(pool)[pool.classes[voted]]
    return float(np.mean(most[np.arange(len(label)), label] / most.sum(axis=1)))


def _columns(pool: Pool) -> NDArray[np.int64]:
    """(K,) column of the votes for each label; "unknown" for labels that FER+ has not."""
    other = FERPLUS_COLUMNS.index("unknown")
    return np.array([FERPLUS_COLUMNS.index(x) if x in FERPLUS_COLUMNS else other for x in pool.labels], np.int64)


def _spoken(counts: NDArray[np.uint8]) -> str:
    """Such as "8 sad, 2 neutral"."""
    order = np.argsort(-counts.astype(int), kind="stable")
    return ", ".join(f"{counts[c]} {FERPLUS_COLUMNS[c]}" for c in order if counts[c])
