"""An audit as files: `findings.csv` to act on, `audit.json`, and the list for `--exclude`."""

import csv
import io
import json
from pathlib import Path

from mien.datasets import exclusions
from mien.datasets.audit.findings import Audit, Finding

COLUMNS = (
    "split", "image", "problem", "group", "partner_split", "partner", "label", "partner_label", "suggestion",
    "suggested_label", "score", "note",
)  # fmt: skip


def to_csv(audit: Audit) -> str:
    """A row for each image and problem."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(audit, finding) for finding in audit.findings)
    return table.getvalue()


def exclusion_list(audit: Audit, also: tuple[str, ...] = ()) -> str:
    """The list that `--exclude` takes: each image with the problems that put it there.

    Raises:
        ConfigError: a name in `also` is no problem.
    """
    pool = audit.pool
    images = audit.excluded(also)
    named = exclusions.lines([(pool.splits[i], pool.names[i]) for i in images])
    problems: dict[int, set[str]] = {i: set() for i in images}
    for finding in audit.findings:
        if finding.image in problems:
            problems[finding.image].add(str(finding.problem))
    by_problem: dict[str, list[str]] = {}
    for line, image in zip(named, images, strict=True):
        by_problem.setdefault(", ".join(sorted(problems[image])), []).append(line)
    counted = f"# {len(images)} of {len(pool)} images, to leave out with --exclude; written by mien data audit"
    parts = [f"# {problem}: {len(lines)}\n" + "\n".join(lines) for problem, lines in sorted(by_problem.items())]
    return "\n".join([counted, *parts]) + "\n"


def write(audit: Audit, folder: Path) -> None:
    """Write `findings.csv` and `audit.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "findings.csv").write_text(to_csv(audit), encoding="utf-8")
    text = json.dumps(audit.summary(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "audit.json").write_text(text + "\n", encoding="utf-8")


def _row(audit: Audit, finding: Finding) -> tuple[object, ...]:
    pool, partner = audit.pool, finding.partner
    other = ("", "", "") if partner is None else _about(audit, partner)
    split, name, label = _about(audit, finding.image)
    group = "" if finding.group is None else f"{pool.splits[finding.group]}/{pool.names[finding.group]}"
    score = "" if finding.score is None else finding.score
    return (
        split, name, finding.problem, group, other[0], other[1], label, other[2], finding.suggestion,
        finding.suggested_label, score, finding.note,
    )  # fmt: skip


def _about(audit: Audit, image: int) -> tuple[str, str, str]:
    pool = audit.pool
    return pool.splits[image], pool.names[image], pool.labels[pool.classes[image]]
