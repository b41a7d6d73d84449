"""What an audit finds: one row an image and problem."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mien.datasets.audit.pool import Pool
from mien.errors import ConfigError


class Problem(StrEnum):
    """Kinds of findings, the gravest first."""

    CONFLICT = "conflict"
    LEAK = "leak"
    DUPLICATE = "duplicate"
    NEAR_LEAK = "near-leak"
    NEAR_CONFLICT = "near-conflict"
    NEAR_DUPLICATE = "near-duplicate"
    CONSTANT = "constant"
    ALMOST_CONSTANT = "almost-constant"
    NOT_A_FACE = "not-a-face"
    NO_FACE_FOUND = "no-face-found"
    VOTES = "votes"
    LABEL_ERROR = "label-error"


MEANING: Mapping[Problem, str] = {
    Problem.CONFLICT: "Identical images that have different labels",
    Problem.LEAK: "Identical images in two splits",
    Problem.DUPLICATE: "Identical images in one split, with one label",
    Problem.NEAR_LEAK: "Nearly identical images in two splits",
    Problem.NEAR_CONFLICT: "Nearly identical images of one split with different labels",
    Problem.NEAR_DUPLICATE: "Nearly identical images in one split, with one label",
    Problem.CONSTANT: "Images of a single grey",
    Problem.ALMOST_CONSTANT: "Images of nearly a single grey",
    Problem.NOT_A_FACE: "No face, by FER+",
    Problem.NO_FACE_FOUND: "No face found by the detector",
    Problem.VOTES: "The label against the votes of FER+",
    Problem.LABEL_ERROR: "The label against cross-validated predictions",
}


class Suggestion(StrEnum):
    """What to do about an image; `exclude` alone goes into the list of `--write-exclusions` by itself."""

    EXCLUDE = "exclude"
    KEEP = "keep"  # the copy that stays
    RELABEL = "relabel"
    REVIEW = "review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One image and one problem; images are numbers in the pool."""

    problem: Problem
    image: int
    suggestion: Suggestion
    group: int | None = None  # equal for images that belong together, in one problem
    partner: int | None = None  # an image of the group: the copy in the other split, or with the other label
    score: float | None = None  # 0 to 1, its meaning depends on the problem
    suggested_label: str = ""
    note: str = ""


def check_problems(names: Iterable[str]) -> None:
    """See that each name is a problem.

    Raises:
        ConfigError: one is not.
    """
    if unknown := set(names) - set(Problem):
        raise ConfigError(f"{min(unknown)!r} is no problem: use one of {', '.join(Problem)}")


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """All findings on a pool, and the figures that sum them up."""

    pool: Pool
    findings: tuple[Finding, ...]
    about: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, with which model, folds, detector

    def of(self, problem: Problem) -> list[Finding]:
        """The findings of one kind, in their order."""
        return [finding for finding in self.findings if finding.problem is problem]

    def summary(self) -> dict[str, Any]:
        """JSON-safe figures: images and classes, distinct images, and for each problem its images, groups, splits."""
        pool = self.pool
        return {
            "images": dict(Counter(pool.splits)),
            "labels": list(pool.labels),
            "unreadable": list(pool.dataset.unreadable),
            **self.about,
            "problems": {
                str(problem): {
                    "meaning": MEANING[problem],
                    "images": len(found),
                    "groups": len({finding.group for finding in found} - {None}),
                    "by_split": dict(Counter(pool.splits[finding.image] for finding in found)),
                    "suggestions": dict(Counter(str(finding.suggestion) for finding in found)),
                }
                for problem in Problem
                if (found := self.of(problem))
            },
        }

    def excluded(self, also: tuple[str, ...] = ()) -> list[int]:
        """Images to leave out: those suggested, and every image that has one of the problems named in `also`.

        Raises:
            ConfigError: a name is no problem.
        """
        check_problems(also)
        return sorted({f.image for f in self.findings if f.suggestion is Suggestion.EXCLUDE or f.problem in also})
