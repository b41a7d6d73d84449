"""The pictures of an audit: which faces to show for a problem, and how they stand together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from mien import fonts
from mien.datasets.audit.findings import Audit, Finding, Problem

SHOWN = 48  # groups or images of a problem; all of them are in findings.csv
MEMBERS = 6  # of a group
FACE_PX, PAD_PX, LINE_PX, TEXT_PX = 120, 10, 19, 15  # of the PNG
WIDTH_PX = 1240
INK, FAINT, FRAME = "#1c1c1c", "#5f5f5f", "#b9b9b9"


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One face with what is said under it."""

    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3)
    label: str
    split: str
    name: str
    note: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Faces that belong together."""

    faces: tuple[Shown, ...]
    more: int = 0  # members that are not shown
    caption: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The groups of one problem."""

    problem: Problem
    groups: tuple[Group, ...]
    total: int  # groups, or images where the problem has no groups
    unit: str = field(default="images")  # what the total counts


def sheet(audit: Audit, problem: Problem) -> Sheet:
    """What to show of a problem: large groups and doubtful near copies first; single images, the classes in turn."""
    found = audit.of(problem)
    if found and found[0].group is None:
        singles = [Group((_shown(audit, one),), caption=one.note) for one in _in_turn(audit, found)[:SHOWN]]
        return Sheet(problem, tuple(singles), len(found))
    groups: dict[int, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.group if finding.group is not None else finding.image, []).append(finding)
    ordered = sorted(groups.values(), key=_interest)
    return Sheet(problem, tuple(_group(audit, members) for members in ordered[:SHOWN]), len(groups), "groups")


def draw(shown: Sheet) -> PIL.Image.Image:
    """The sheet as a picture; groups stand in frames, one row after the other."""
    rows = list(_rows(shown.groups))
    height = FACE_PX + 4 * LINE_PX + 3 * PAD_PX
    image = PIL.Image.new("RGB", (WIDTH_PX, PAD_PX + len(rows) * height), "white")
    pen = PIL.ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        x = PAD_PX
        for group in row:
            _draw_group(image, pen, group, x, PAD_PX + number * height)
            x += _width(group) + PAD_PX
    return image


def _interest(members: Sequence[Finding]) -> tuple[float, int]:
    """Near copies: the least alike first. Others: the largest group first."""
    scores = [finding.score for finding in members if finding.score is not None]
    return (min(scores), 0) if scores else (0.0, -len(members))


def _group(audit: Audit, members: Sequence[Finding]) -> Group:
    """Members of different labels and splits before repeated ones."""
    ordered = _in_turn(audit, members, by_split=True)
    scores = [finding.score for finding in members if finding.score is not None]
    caption = f"correlation {min(scores):.2f}" if scores else ""
    faces = tuple(_shown(audit, finding) for finding in ordered[:MEMBERS])
    return Group(faces, len(members) - len(faces), caption)


def _in_turn(audit: Audit, findings: Sequence[Finding], *, by_split: bool = False) -> list[Finding]:
    """One of each class (and split), then the next of each, in their order."""
    seen: Counter[tuple[int, str]] = Counter()
    turns = []
    for finding in findings:
        key = int(audit.pool.classes[finding.image]), audit.pool.splits[finding.image] if by_split else ""
        turns.append(seen[key])
        seen[key] += 1
    return [findings[i] for i in np.argsort(turns, kind="stable")]


def _shown(audit: Audit, finding: Finding) -> Shown:
    pool, i = audit.pool, finding.image
    label = pool.labels[pool.classes[i]]
    proposal = f" {finding.suggested_label}" if finding.suggestion == "relabel" else ""
    return Shown(pool[i], label, pool.splits[i], pool.names[i], finding.note, f"{finding.suggestion}{proposal}")


def _width(group: Group) -> int:
    return len(group.faces) * (FACE_PX + PAD_PX) + PAD_PX + (50 if group.more else 0)


def _rows(groups: Sequence[Group]) -> Iterator[list[Group]]:
    row: list[Group] = []
    for group in groups:
        if row and PAD_PX + sum(_width(other) + PAD_PX for other in (*row, group)) > WIDTH_PX:
            yield row
            row = []
        row.append(group)
    if row:
        yield row


def _draw_group(image: PIL.Image.Image, pen: PIL.ImageDraw.ImageDraw, group: Group, left: int, top: int) -> None:
    bottom = top + FACE_PX + 4 * LINE_PX + 2 * PAD_PX
    pen.rectangle((left, top, left + _width(group), bottom), outline=FRAME)
    below = top + PAD_PX + FACE_PX + LINE_PX
    for number, face in enumerate(group.faces):
        x = left + PAD_PX + number * (FACE_PX + PAD_PX)
        enlarged = PIL.Image.fromarray(face.pixels).convert("RGB").resize((FACE_PX, FACE_PX))
        image.paste(enlarged, (x, top + PAD_PX))
        for line, (text, colour) in enumerate(
            ((f"{face.label}, {face.split}", INK), (face.suggestion, FAINT)),
        ):
            _text(pen, (x, below + line * LINE_PX), text, colour, FACE_PX)
    if group.more:
        _text(pen, (left + _width(group) - 46, top + PAD_PX + FACE_PX // 2), f"+{group.more}", FAINT, 46)
    for line, text in enumerate(_wrapped(group.caption, _width(group) - 2 * PAD_PX)[:2]):
        _text(pen, (left + PAD_PX, below + (2 + line) * LINE_PX), text, FAINT, _width(group))


def _text(pen: PIL.ImageDraw.ImageDraw, xy: tuple[int, int], text: str, colour: str, width: int) -> None:
    while len(text) > 1 and fonts.text_width(text, TEXT_PX) > width:
        text = text[:-2] + "…"
    shown, font = fonts.lettering(text, TEXT_PX)
    pen.text(xy, shown, colour, font, anchor="ls")


def _wrapped(text: str, width: int) -> list[str]:
    found: list[str] = []
    for word in text.split():
        longer = f"{found[-1]} {word}" if found else word
        if found and fonts.text_width(longer, TEXT_PX) <= width:
            found[-1] = longer
        else:
            found.append(word)
    return found
