"""Copies: images that are the same pixel for pixel, or nearly so, within a split and across splits.

Two images are identical when their decoded pixels are. A packed data set holds decoded pixels, so files that differ in
compression or metadata alone are identical here.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mien.datasets.audit.findings import Finding, Problem, Suggestion
from mien.datasets.audit.pool import Pool
from mien.datasets.packed import pixel_digest

FREEDOM = {"test": 0, "validation": 1}
"""Which copy stays when two splits have one: what is measured on keeps its images, what is trained on loses them."""

SURE_CORRELATION = 0.95
"""Of the thumbnails of near copies: over it the training copy of an evaluated image is suggested to go."""


def identities(pool: Pool) -> NDArray[np.int64]:
    """(N,) the first image with the same decoded pixels."""
    first: dict[bytes, int] = {}
    found = np.empty(len(pool), np.int64)
    for i, image in enumerate(pool.images()):
        found[i] = first.setdefault(pixel_digest(image), i)
    return found


def find_identical(pool: Pool, same: NDArray[np.int64]) -> Iterator[Finding]:
    """Conflicts, leaks and duplicates among identical images; `same` (N,) as `identities` gives it.

    An image is named once for each problem that it has: a leak may be a conflict too.
    """
    for group, members in _groups(same):
        if len({int(pool.classes[i]) for i in members}) > 1:
            yield from _conflict(pool, group, members)
        if len({pool.splits[i] for i in members}) > 1:
            yield from _leak(pool, group, members)
        yield from _duplicates(pool, group, members)


def find_near(pool: Pool, same: NDArray[np.int64]) -> Iterator[Finding]:
    """Near copies: of identical images, the first of each split and label stands for all."""
    for group, members in _groups(pool.near_groups):
        shown: dict[tuple[int, str, int], int] = {}
        for i in members:
            shown.setdefault((int(same[i]), pool.splits[i], int(pool.classes[i])), i)
        for i in shown.values():
            others = [j for j in shown.values() if same[j] != same[i]]
            if others:
                yield _near(pool, group, i, others)


def _conflict(pool: Pool, group: int, members: Sequence[int]) -> Iterator[Finding]:
    for i in members:
        partner = next(j for j in members if pool.classes[j] != pool.classes[i])
        yield Finding(problem=Problem.CONFLICT, image=i, group=group, partner=partner, suggestion=Suggestion.EXCLUDE)


def _leak(pool: Pool, group: int, members: Sequence[int]) -> Iterator[Finding]:
    freest = min(_freedom(pool, i) for i in members)
    for i in members:
        partner = next(j for j in members if pool.splits[j] != pool.splits[i])
        suggestion = Suggestion.KEEP if _freedom(pool, i) == freest else Suggestion.EXCLUDE
        yield Finding(problem=Problem.LEAK, image=i, group=group, partner=partner, suggestion=suggestion)


def _duplicates(pool: Pool, group: int, members: Sequence[int]) -> Iterator[Finding]:
    alike: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for i in members:
        alike[pool.splits[i], int(pool.classes[i])].append(i)
    for first, *others in alike.values():
        for i in (first, *others) if others else ():
            suggestion = Suggestion.KEEP if i == first else Suggestion.EXCLUDE
            partner = others[0] if i == first else first
            yield Finding(problem=Problem.DUPLICATE, image=i, group=group, partner=partner, suggestion=suggestion)


def _near(pool: Pool, group: int, image: int, others: Sequence[int]) -> Finding:
    """The finding on `image`, beside the one of `others` that makes it gravest and, of these, looks most like it."""

    def gravity(j: int) -> tuple[bool, bool, float]:
        conflicts = bool(pool.classes[j] != pool.classes[image])
        return pool.splits[j] != pool.splits[image], conflicts, _correlation(pool, image, j)

    partner = max(others, key=gravity)
    leaks, conflicts, correlation = gravity(partner)
    problem = Problem.NEAR_LEAK if leaks else Problem.NEAR_CONFLICT if conflicts else Problem.NEAR_DUPLICATE
    freer = leaks and _freedom(pool, image) > _freedom(pool, partner)
    sure = freer and correlation > SURE_CORRELATION
    return Finding(
        problem=problem,
        image=image,
        group=group,
        partner=partner,
        score=round(correlation, 4),
        suggestion=Suggestion.EXCLUDE if sure else Suggestion.REVIEW,
        note="score: correlation of the thumbnails",
    )


def _correlation(pool: Pool, i: int, j: int) -> float:
    """Of two thumbnails; constant ones are alike."""
    a, b = (pool.thumbs[k].ravel() - pool.thumbs[k].mean() for k in (i, j))
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 1 else 1.0


def _freedom(pool: Pool, image: int) -> int:
    return FREEDOM.get(pool.splits[image], 2)


def _groups(numbers: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """Groups of two or more images by their smallest member."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(numbers.tolist()):
        members[number].append(i)
    return ((number, found) for number, found in members.items() if len(found) > 1)
