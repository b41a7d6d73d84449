"""One audit: all that is looked for, in one call."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.datasets.audit import copies, label_errors, pictures, votes
from mien.datasets.audit.findings import Audit, Finding, Problem
from mien.datasets.audit.pictures import FindsFace
from mien.datasets.audit.pool import Pool


def audit(
    pool: Pool,
    *,
    finds_face: FindsFace | None = None,
    probabilities: NDArray[np.float32] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Copies, contradictions, leaks, images that show nothing, and votes; with more at hand, more.

    `finds_face` looks at every image, and `progress` is told how many it has seen and of how many. `probabilities`
    (N, K) are out of fold, for label errors. `about` goes into the summary.

    Raises:
        MissingExtraError: label errors need the `audit` extra.
        DataError: label errors need two classes.
    """
    same = copies.identities(pool)
    parts = [
        copies.find_identical(pool, same),
        copies.find_near(pool, same),
        pictures.find_flat(pool),
        votes.find_no_faces(pool),
        votes.find_disagreement(pool),
    ]
    if finds_face is not None:
        parts.append(pictures.find_faceless(pool, finds_face, progress=progress))
    facts: dict[str, Any] = {
        "distinct": len(np.unique(same)),
        "plurality_agrees": votes.plurality_agrees(pool),
        **(about or {}),
    }
    if probabilities is not None:
        parts.append(label_errors.find_label_errors(pool, probabilities))
        agreement = float(np.mean(probabilities.argmax(axis=1) == pool.classes))
        facts["label_errors"] = {**facts.get("label_errors", {}), "agreement": agreement}
    order = {problem: place for place, problem in enumerate(Problem)}
    found: list[Finding] = sorted(chain.from_iterable(parts), key=lambda finding: order[finding.problem])
    return Audit(pool, tuple(found), facts)
