"""docs/audit.md's figures of FER-2013, from an audit of it.

    mien data audit DATA --label-errors features --detector centerface --output AUDIT
    python benchmarks/audit_page.py AUDIT --data DATA

The slow parts may come from further audits of the same data (`audit_page.py AUDIT AUDIT ... --data DATA`); the first
has the rest. Label errors by features and by training stand beside each other, in the order of their audits. Figures go
to results/audit.json, and from there into the page.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import replace_section, table

from mien.datasets.audit.pool import Pool, open_pool
from mien.labels import FERPLUS_COLUMNS

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "audit.md", ROOT / "results" / "audit.json"
FACELESS, ERRORS, NOT_A_FACE = "no-face-found", "label-error", "not-a-face"


def main() -> None:
    """Gather the figures, keep them, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audits", type=Path, nargs="+", metavar="AUDIT", help="folder that mien data audit wrote")
    parser.add_argument("--data", type=Path, required=True, help="what was audited")
    options = parser.parse_args()
    found = gather(options.audits, open_pool(options.data))
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    replace_section("measured", section(found), PAGE)
    print(PAGE)


def gather(audits: Sequence[Path], pool: Pool) -> dict[str, Any]:
    """The summary, and how detector and label errors agree with FER+."""
    summaries = [json.loads((folder / "audit.json").read_text(encoding="utf-8")) for folder in audits]
    found: dict[str, Any] = {"summary": summaries[0], "ferplus": agreement(pool), "detectors": {}, "label_errors": []}
    excluded: set[tuple[str, str]] = set()
    numbers = {named: i for i, named in enumerate(zip(pool.splits, pool.names, strict=True))}
    for folder, summary in zip(audits, summaries, strict=True):
        with (folder / "findings.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        excluded |= {(row["split"], row["image"]) for row in rows if row["suggestion"] == "exclude"}
        images = {name: {numbers[row["split"], row["image"]] for row in rows if row["problem"] == name}
                  for name in (FACELESS, NOT_A_FACE)}  # fmt: skip
        if "detector" in summary:
            both = len(images[FACELESS] & images[NOT_A_FACE])
            found["detectors"][summary["detector"]] = {
                "no_face": len(images[FACELESS]), "not_a_face": len(images[NOT_A_FACE]), "both": both,
            }  # fmt: skip
        if "label_errors" in summary:
            doubted = {numbers[row["split"], row["image"]]: row for row in rows if row["problem"] == ERRORS}
            found["label_errors"].append({**summary["label_errors"], **witnessed(pool, doubted)})
    return {**found, "excluded": len(excluded)}


def agreement(pool: Pool) -> dict[str, dict[str, Any]]:
    """By class: images of PublicTest with votes, and the share of which FER+'s most frequent vote is the label."""
    matches, voted = _matches(pool), _voted(pool, "validation")
    table: dict[str, dict[str, Any]] = {}
    for k, label in enumerate(pool.labels):
        rows = voted & (pool.classes == k)
        own = matches[rows, FERPLUS_COLUMNS.index(label)]
        table[label] = {"images": int(rows.sum()), "agrees": float(own.mean())}
    return table


def witnessed(pool: Pool, doubted: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """What FER+'s taggers say of doubted PublicTest images; those of training images a model may have learnt from."""
    matches, voted = _matches(pool), _voted(pool, "validation")
    own = matches[np.arange(len(pool)), [FERPLUS_COLUMNS.index(pool.labels[k]) for k in pool.classes]]
    rows = np.array([i for i in doubted if voted[i]], np.int64)
    suggested = [FERPLUS_COLUMNS.index(doubted[i]["suggested_label"]) for i in rows.tolist()]
    return {
        "images": len(doubted),
        "witnessed": len(rows),
        "votes_differ": float(1 - own[rows].mean()),
        "votes_differ_overall": float(1 - own[voted].mean()),
        "votes_suggest_the_same": float(matches[rows, suggested].mean()),
    }


def section(found: Mapping[str, Any]) -> str:
    """All figures as Markdown."""
    return "\n\n".join([figures(found), by_class(found), *errors(found)])


def figures(found: Mapping[str, Any]) -> str:
    """What was found, a line each."""
    summary, problems = found["summary"], found["summary"]["problems"]
    images = sum(summary["images"].values())
    leak, near, constant = problems["leak"], problems["near-leak"], problems["constant"]
    votes = problems["votes"]
    twins = (
        f"{leak['by_split']['validation']}, in {leak['groups']} groups with {leak['by_split']['train']} training images"
    )
    beyond = f"{near['groups']} groups; {near['by_split']['validation']} PublicTest images, beyond the identical ones"
    black = f"{_split(constant)}, all black; {problems['almost-constant']['images']} images more almost constant"
    rows = [
        ["distinct images", f"{summary['distinct']:,} of {images:,}"],
        ["identical images with different labels", _grouped(problems["conflict"])],
        ["PublicTest images with a twin in Training", twins],
        ["identical images of one label in one split", _grouped(problems["duplicate"])],
        ["near copies across the splits", beyond],
        ["constant images", black],
        ["no faces, by FER+", _split(problems[NOT_A_FACE])],
    ]
    for detector in ("centerface", "yunet"):
        rows.append([f"no face found by `{detector}`", faceless(found["detectors"].get(detector), images)])
    agrees = f"{100 * summary['plurality_agrees']:.1f} % of the images with votes (ties by chance)"
    other = f"{votes['images']:,} images; of {votes['suggestions']['relabel']:,} of them they are sure"
    rows += [
        ["FER+'s most frequent vote is the label", agrees],
        ["more than half of FER+'s taggers see another class", other],
        *([f"likely label errors, {_how(one)}", f"{one['images']:,}"] for one in found["label_errors"]),
        *([] if found["label_errors"] else [["likely label errors", "not run"]]),
        ["suggested to be excluded", f"{found['excluded']:,} images; label errors never are"],
    ]
    return table(["what", "figure"], rows, text_columns=2)


def faceless(found: Mapping[str, int] | None, images: int) -> str:
    """How many images a detector finds no face in, and how many of them are none by FER+."""
    if found is None:
        return "not run"
    return (
        f"{found['no_face']:,} ({100 * found['no_face'] / images:.1f} %), among them {found['both']} of the "
        f"{found['not_a_face']} that are none by FER+"
    )


def by_class(found: Mapping[str, Any]) -> str:
    """FER+ against the label, class by class."""
    ferplus = found["ferplus"]
    shares = [f"{100 * row['agrees']:.0f}" for row in ferplus.values()]
    rows = [["images with votes", *(f"{row['images']}" for row in ferplus.values())]]
    return table(["of PublicTest", *ferplus], [*rows, ["FER+'s most frequent vote is the label, %", *shares]])


def errors(found: Mapping[str, Any]) -> list[str]:
    """Whether doubted labels are wrong, by people who never saw the classifier; nothing where none were looked for."""
    said = [_verdict(one) for one in found["label_errors"]]
    if not said:
        return []
    return [
        "Are the likely label errors errors? FER+ was tagged by other people. "
        f"{' '.join(said)} (Training images are left out of this: the packaged model learnt from FER+ votes there.)"
    ]


def _verdict(doubts: Mapping[str, Any]) -> str:
    """What FER+'s taggers say of the labels that one way of looking doubts."""
    differ, everywhere, same = (
        f"{100 * doubts[key]:.0f} %" for key in ("votes_differ", "votes_differ_overall", "votes_suggest_the_same")
    )
    return (
        f"Of the {doubts['witnessed']:,} PublicTest images with votes that {_how(doubts)}, doubt, its most frequent "
        f"vote is another class than the label in {differ} (of all PublicTest images: {everywhere}), and in {same} the "
        "very class that the classifier suggests."
    )


def _how(doubts: Mapping[str, Any]) -> str:
    """Such as "features of `default`, 5 folds", or "train of `baseline` (epochs=8), 5 folds"."""
    kind, _, name = doubts["how"].partition(" of ")
    changed = f" ({', '.join(doubts['settings'])})" if doubts.get("settings") else ""
    return f"{kind} of `{name}`{changed}, {doubts['folds']} folds"


def _matches(pool: Pool) -> NDArray[np.float64]:
    """`(N, 10)` whether a column of the votes is the most frequent one, shared among several."""
    assert pool.votes is not None
    most = (pool.votes == pool.votes.max(axis=1, keepdims=True)) & pool.votes.any(axis=1, keepdims=True)
    return np.asarray(most / np.maximum(most.sum(axis=1, keepdims=True), 1), np.float64)


def _voted(pool: Pool, split: str) -> NDArray[np.bool_]:
    assert pool.votes is not None
    return np.asarray(pool.votes.any(axis=1) & (np.array(pool.splits) == split), np.bool_)


def _grouped(problem: Mapping[str, Any]) -> str:
    return f"{problem['groups']:,} groups, {problem['images']:,} images"


def _split(problem: Mapping[str, Any]) -> str:
    return f"{problem['by_split']['train']} training and {problem['by_split']['validation']} PublicTest images"


if __name__ == "__main__":
    main()
