"""Pictures with their faces marked: a box and a label each, in colours that colour-blind people tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from mien.fonts import lettering
from mien.results import Face, Image

Rect: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside
Rects: TypeAlias = NDArray[np.int64]  # (N, 4), each as Rect
Colour: TypeAlias = tuple[int, int, int]

# Okabe and Ito, "Color universal design", 2008: the eight stay apart with every kind of colour blindness
COLOURS: dict[str, Colour] = {
    "angry": (213, 94, 0),  # vermilion
    "disgust": (0, 158, 115),  # bluish green
    "fear": (204, 121, 167),  # reddish purple
    "happy": (240, 228, 66),  # yellow
    "neutral": (200, 200, 200),
    "sad": (0, 114, 178),  # blue
    "surprise": (86, 180, 233),  # sky blue
    "contempt": (230, 159, 0),  # orange
}
DARK, LIGHT = (16, 16, 16), (255, 255, 255)

SMALLEST_SIDE_PX = 480  # longer side of the result: smaller pictures are enlarged, else no label could be read
FONT_RATIO = 0.026  # of the longer side
SMALLEST_FONT_PX = 14
FONTS_A_FACE = 4.0  # a typical face is at least so many font sizes wide, so that labels do not bury small faces
COST_OF_A_LINE = 0.1  # a label one height away from its box, against one that covers a label's area of a face
GOOD_ENOUGH = 0.25  # a label may cover a quarter of its area of faces before places away from the box are tried
CHUNK = 128  # places weighed at a time, nearest first
GRID = 100  # places looked at along the longer side


def annotate(image: Image, faces: Sequence[Face]) -> Image:
    """Mark `faces` on a copy of `image`, `(H, W, 3)`; a picture under 480 px comes back enlarged.

    Where there are several faces, each label starts with the face's number, counted from 1 in the given order.
    A dashed box and a question mark stand for an uncertain face. Labels never overlap: one that fits nowhere near
    its box is joined to it by a line, one that fits nowhere at all is left out.
    """
    height, width = image.shape[:2]
    scale = max(1.0, SMALLEST_SIDE_PX / max(height, width))
    size_wh = (round(width * scale), round(height * scale))
    picture = PIL.Image.fromarray(image)
    picture = picture.copy() if scale == 1 else picture.resize(size_wh, PIL.Image.Resampling.LANCZOS)
    texts = [label_text(face, number=i if len(faces) > 1 else None) for i, face in enumerate(faces, start=1)]
    marks = [
        Mark(face.box_xyxy * scale, text, colour_of(face), face.uncertain)
        for face, text in zip(faces, texts, strict=True)
    ]
    _draw_marks(picture, marks, _font_px([_rect(mark.box_xyxy, size_wh) for mark in marks], size_wh))
    return np.array(picture)


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One face as it is drawn."""

    box_xyxy: NDArray[np.float32]  # (4,) pixels of the picture
    text: str
    colour: Colour
    dashed: bool = False


def draw_marks(image: Image, marks: Sequence[Mark]) -> Image:
    """Draw `marks` on a copy of `image`, `(H, W, 3)`, of the same size: labels as large in every frame of a film."""
    picture = PIL.Image.fromarray(image)  # a copy: the array's memory is not shared with what is drawn on
    _draw_marks(picture, marks, _font_px([], picture.size))
    return np.array(picture)


def _draw_marks(picture: PIL.Image.Image, marks: Sequence[Mark], font_px: int) -> None:
    boxes = [_rect(mark.box_xyxy, picture.size) for mark in marks]
    texts = [lettering(mark.text, font_px) for mark in marks]
    places = place_labels(boxes, [_label_wh(text, font) for text, font in texts], picture.size)
    draw = PIL.ImageDraw.Draw(picture)
    line_px = max(2, round(font_px / 7))
    for mark, box, place in zip(marks, boxes, places, strict=True):
        if place is not None and not _touches(place, box):
            _draw_leader(draw, place, box, mark.colour, line_px)
    for mark, box in zip(marks, boxes, strict=True):
        _draw_box(draw, box, mark.colour, line_px, dashed=mark.dashed)
    for mark, place, (text, font) in zip(marks, places, texts, strict=True):
        if place is not None:
            _draw_label(draw, place, text, font, mark.colour)


def label_text(face: Face, *, number: int | None = None) -> str:
    """`2 sad? 41 %`: number, emotion, doubt, confidence."""
    start = "" if number is None else f"{number} "
    return f"{start}{face.emotion}{'?' if face.uncertain else ''} {100 * face.confidence:.0f} %"


def colour_of(face: Face) -> Colour:
    """Colour of the face's emotion."""
    return colour_of_label(face.emotion, face.labels)


def colour_of_label(label: str, labels: Sequence[str]) -> Colour:
    """Colour of one of a model's labels; those beyond mien's own take the palette in turn."""
    if label in COLOURS:
        return COLOURS[label]
    return list(COLOURS.values())[labels.index(label) % len(COLOURS)]


def place_labels(
    boxes: Sequence[Rect], sizes_wh: Sequence[tuple[int, int]], picture_wh: tuple[int, int]
) -> list[Rect | None]:
    """Where each label goes: inside the picture, over no other label, near its box and over little of the faces.

    Large faces choose first. None where nothing is free.
    """
    places: list[Rect | None] = [None] * len(boxes)
    faces = np.array(boxes, np.int64).reshape(-1, 4)
    taken = np.empty((0, 4), np.int64)
    for i in sorted(range(len(boxes)), key=lambda i: -_area(boxes[i])):
        rects = _beside(boxes[i], sizes_wh[i], picture_wh)
        best = _best(rects, boxes[i], faces, taken)
        if best is None or best[1] > GOOD_ENOUGH:
            best = _best(np.vstack([rects, _anywhere(sizes_wh[i], picture_wh)]), boxes[i], faces, taken)
        if best is not None:
            places[i] = best[0]
            taken = np.vstack([taken, np.array(best[0])])
    return places


def _best(rects: Rects, box: Rect, faces: Rects, taken: Rects) -> tuple[Rect, float] | None:
    """The cheapest of the free places, and its cost: labels' areas of face covered, and the way to the box."""
    if not len(rects):
        return None
    height = int(rects[0, 3] - rects[0, 1])
    area = height * int(rects[0, 2] - rects[0, 0])
    cost_of_way = COST_OF_A_LINE * _distance(rects, box) / height
    nearest_first = np.argsort(cost_of_way, kind="stable")  # of equals the first: they come in order of taste
    best, best_cost = None, np.inf
    for start in range(0, len(rects), CHUNK):
        chunk = nearest_first[start : start + CHUNK]
        if cost_of_way[chunk[0]] >= best_cost:
            break
        cost = cost_of_way[chunk] + _overlaps(rects[chunk], faces).sum(axis=1) / area
        cost[(_overlaps(rects[chunk], taken) > 0).any(axis=1)] = np.inf
        if cost.min() < best_cost:
            best, best_cost = rects[chunk[cost.argmin()]], float(cost.min())
    if best is None:
        return None
    left, top, right, bottom = (int(value) for value in best)
    return (left, top, right, bottom), best_cost


def _beside(box: Rect, size_wh: tuple[int, int], picture_wh: tuple[int, int]) -> Rects:
    """Places that touch the box, best first; those above and below are shifted into the picture."""
    (left, top, right, bottom), (width, height) = box, size_wh
    corners = [
        *((left, top - height), (right - width, top - height)),  # above, flush with one side
        *((left, bottom), (right - width, bottom)),  # below
        *((left, top), (left, bottom - height)),  # inside
        *((right, top), (right, bottom - height), (left - width, top), (left - width, bottom - height)),  # beside
    ]
    shifted = [(min(max(x, 0), picture_wh[0] - width), y) for x, y in corners]
    inside = [(x, y, x + width, y + height) for x, y in shifted if x >= 0 and 0 <= y <= picture_wh[1] - height]
    return np.array(inside, np.int64).reshape(-1, 4)


def _anywhere(size_wh: tuple[int, int], picture_wh: tuple[int, int]) -> Rects:
    """Places on a grid over the whole picture."""
    step = max(1, size_wh[1] // 2, max(picture_wh) // GRID)
    lefts, tops = (np.arange(0, max(0, p - s + 1), step) for p, s in zip(picture_wh, size_wh, strict=True))
    corners = np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2).astype(np.int64)
    return np.hstack([corners, corners + np.array(size_wh)])


def _overlaps(rects: Rects, others: Rects) -> NDArray[np.int64]:
    """`(N, M)` pixels that each of `(N, 4)` shares with each of `(M, 4)`."""
    left, top, right, bottom = rects.T[:, :, None]
    width = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0])
    height = np.minimum(bottom, others[:, 3]) - np.maximum(top, others[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), np.int64)


def _distance(rects: Rects, box: Rect) -> NDArray[np.float64]:
    """`(N,)` pixels of empty space between each of `(N, 4)` and the box."""
    before, behind = np.array(box[:2]) - rects[:, 2:], rects[:, :2] - np.array(box[2:])
    gap = np.maximum(np.maximum(before, behind), 0)
    return np.asarray(np.hypot(gap[:, 0], gap[:, 1]), np.float64)


def _area(rect: Rect) -> int:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _rect(box_xyxy: NDArray[np.float32], picture_wh: tuple[int, int]) -> Rect:
    """A box in whole pixels, cut at the picture's edges; of one that is all but outside, one pixel is left."""
    left, top, right, bottom = (round(float(value)) for value in box_xyxy)
    left, top = (min(max(0, start), side - 1) for start, side in zip((left, top), picture_wh, strict=True))
    return left, top, max(left + 1, min(picture_wh[0], right)), max(top + 1, min(picture_wh[1], bottom))


def _font_px(boxes: Sequence[Rect], picture_wh: tuple[int, int]) -> int:
    """One size for all labels: fit for the picture, smaller where the faces are small."""
    fit = FONT_RATIO * max(picture_wh)
    if boxes:
        fit = min(fit, float(np.median([box[2] - box[0] for box in boxes])) / FONTS_A_FACE)
    return max(SMALLEST_FONT_PX, round(fit))


def _label_wh(text: str, font: PIL.ImageFont.FreeTypeFont) -> tuple[int, int]:
    return round(font.getlength(text) + font.size * 0.7), round(font.size * 1.45)


def _draw_label(
    draw: PIL.ImageDraw.ImageDraw, place: Rect, text: str, font: PIL.ImageFont.FreeTypeFont, colour: Colour
) -> None:
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    middle = ((left + right) / 2, (top + bottom) / 2)
    draw.text(middle, text, fill=_ink_on(colour), font=font, anchor="mm")


def _ink_on(colour: Colour) -> Colour:
    """Dark or light, whichever contrasts more (WCAG 2.2, relative luminance)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if luminance > 0.179 else LIGHT  # where both contrasts are equal


def _draw_box(draw: PIL.ImageDraw.ImageDraw, box: Rect, colour: Colour, line_px: int, *, dashed: bool) -> None:
    """An outline with a dark rim, so that it shows on any background."""
    left, top, right, bottom = box
    draw.rectangle((left - 1, top - 1, right, bottom), outline=DARK, width=line_px + 2)
    if not dashed:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line_px)
        return
    dash_px = 4 * line_px
    for x in range(left, right, 2 * dash_px):
        for y in (top, bottom - line_px):
            draw.rectangle((x, y, min(x + dash_px, right) - 1, y + line_px - 1), fill=colour)
    for y in range(top, bottom, 2 * dash_px):
        for x in (left, right - line_px):
            draw.rectangle((x, y, x + line_px - 1, min(y + dash_px, bottom) - 1), fill=colour)


def _touches(place: Rect, box: Rect) -> bool:
    return bool(_distance(np.array([place], np.int64), box)[0] == 0)


def _draw_leader(draw: PIL.ImageDraw.ImageDraw, place: Rect, box: Rect, colour: Colour, line_px: int) -> None:
    """A line from a label to the nearest point of its box."""
    start = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
    end = (min(max(start[0], box[0]), box[2]), min(max(start[1], box[1]), box[3]))
    draw.line((start, end), fill=DARK, width=line_px + 2)
    draw.line((start, end), fill=colour, width=line_px)
