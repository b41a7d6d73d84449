"""Heatmaps over faces: a bare overlay for live views, and panels with scale bar, numbers and contours for figures."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.canvas import ABOVE, FAINT, INK, SIDE, SMALL_SIZE, TEXT_SIZE, TITLE_SIZE, Canvas, fit, wrap
from mien.explain.colour import over_face, scale_strip
from mien.explain.heatmap import METHODS, Heatmap

LEAST_PROBABILITY = 0.02  # an occlusion map that moves less than this is not blown up to full colour
FINE_PERCENTILE = 99
CONTOUR_AT = 0.5  # of the scale's end: drawn around the strongest places, dashed where they speak against


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One cell of a figure: a face, with or without a map, or the reason why there is none."""

    title: str
    captions: tuple[str, ...] = ()  # at most two lines under the picture
    crop: NDArray[np.uint8] | None = None  # (H, W[, 3])
    heatmap: Heatmap | None = None
    limit: float | None = None  # value * scale at the ends of the scale bar; the map's own where None
    note: str = ""  # stands where the picture would

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Put the panel's top left corner at `(x, y)`."""
        canvas.text(x, y + 14, fit(self.title, SIDE, TITLE_SIZE), size=TITLE_SIZE)
        top = y + ABOVE
        if self.crop is None:
            for i, line in enumerate(wrap(self.note, SIDE - 20, TEXT_SIZE)):
                canvas.text(x + SIDE / 2, top + 70 + 17 * i, line, size=TEXT_SIZE, colour=FAINT, anchor="middle")
            frame = [(x, top), (x + SIDE, top), (x + SIDE, top + SIDE), (x, top + SIDE), (x, top)]
            canvas.line(frame, colour="#bbbbbb", dash=4)
        else:
            _draw_face(canvas, self, x, top)
        for i, caption in enumerate(self.captions[:2]):
            line = fit(caption, SIDE, TEXT_SIZE)
            canvas.text(x, top + SIDE + 17 + 16 * i, line, size=TEXT_SIZE, colour=FAINT if i else INK)


def blend(
    crop: NDArray[np.uint8], heatmap: Heatmap, *, side_px: int = 384, limit: float | None = None
) -> NDArray[np.uint8]:
    """One overlay `(h, w, 3)` RGB, its shorter side `side_px`: for web and live views, which write their own captions.

    `limit` is the magnitude, in the method's unit, that gets the full colour; the map's own where None.
    """
    face = enlarged(crop, side_px)
    values = _shown(heatmap, face.shape[:2], display_limit(heatmap) if limit is None else limit)
    return over_face(face, values, signed=METHODS[heatmap.method].signed)


def display_limit(*heatmaps: Heatmap) -> float:
    """Magnitude in the method's unit that gets the full colour, common to all the maps.

    The largest one; of maps that differ from pixel to pixel the `FINE_PERCENTILE`th, as Smilkov et al. (2017) show
    them, lest a few pixels leave the rest dark. An occlusion map whose probability hardly moves stays faint.
    """
    magnitudes = np.concatenate([np.abs(heatmap.values).ravel() * heatmap.scale for heatmap in heatmaps])
    fine = all(METHODS[heatmap.method].fine for heatmap in heatmaps)
    limit = float(np.percentile(magnitudes, FINE_PERCENTILE)) if fine else 0.0
    least = LEAST_PROBABILITY if any(heatmap.method == "occlusion" for heatmap in heatmaps) else 0.0
    return max(limit or float(magnitudes.max(initial=0)), least) or 1.0


def original_panel(crop: NDArray[np.uint8], *captions: str, title: str = "Original") -> Panel:
    """The face as the network saw it."""
    return Panel(title, captions, crop=crop)


def heatmap_panel(
    crop: NDArray[np.uint8], heatmap: Heatmap, *, title: str | None = None, limit: float | None = None
) -> Panel:
    """The map over the face, with its label and probability written under it."""
    chance = "" if heatmap.probability is None else f" {percent(heatmap.probability)}"
    caption = f"{heatmap.label}{chance}"
    heading = METHODS[heatmap.method].title if title is None else title
    return Panel(heading, (caption,), crop=crop, heatmap=heatmap, limit=limit)


def enlarged(crop: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """`(h, w, 3)` RGB of a crop `(H, W[, 3])` with the shorter side `side_px`, smooth when it grows."""
    rgb = np.repeat(crop[..., None], 3, axis=2) if crop.ndim == 2 else crop
    scale = side_px / min(rgb.shape[:2])
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA), np.uint8)


def _draw_face(canvas: Canvas, panel: Panel, x: float, y: float) -> None:
    assert panel.crop is not None
    longer = max(panel.crop.shape[:2])
    height, width = (SIDE * length / longer for length in panel.crop.shape[:2])
    x_face, y_face = x + (SIDE - width) / 2, y + (SIDE - height) / 2
    face = enlarged(panel.crop, 2 * round(min(height, width)))
    if panel.heatmap is None:
        canvas.picture(x_face, y_face, width=width, height=height, pixels=face)
        return
    limit = display_limit(panel.heatmap) if panel.limit is None else panel.limit
    signed = METHODS[panel.heatmap.method].signed
    values = _shown(panel.heatmap, face.shape[:2], limit)
    pixels = over_face(face, values, signed=signed)
    canvas.picture(x_face, y_face, width=width, height=height, pixels=pixels)
    signs = () if METHODS[panel.heatmap.method].fine else (1, -1) if signed else (1,)  # outlines of specks say nothing
    for sign in signs:
        for outline in _contours(sign * values):
            points = [(x_face + px * width, y_face + py * height) for px, py in outline]
            canvas.line(points, colour="#000000", width=2.2, dash=0 if sign > 0 else 4)
            canvas.line(points, colour="#ffffff", width=1.1, dash=0 if sign > 0 else 4)
    _draw_scale(canvas, panel.heatmap, limit, x, y + SIDE + 28)


def _draw_scale(canvas: Canvas, heatmap: Heatmap, limit: float, x: float, y: float) -> None:
    """Bar with numbers at its ends (and 0 in the middle of a signed one) and what they mean."""
    method = METHODS[heatmap.method]
    canvas.picture(x, y, width=SIDE, height=9, pixels=scale_strip(256, 8, signed=method.signed))
    raw = heatmap.values * heatmap.scale
    most = (">" if raw.max() > limit * 1.001 else "") + _number(limit, signed=method.signed)
    canvas.text(x + SIDE, y + 21, most, size=SMALL_SIZE, anchor="end")
    if method.signed:
        least = ("<" if raw.min() < -limit * 1.001 else "") + _number(-limit, signed=True)
        canvas.text(x, y + 21, least, size=SMALL_SIZE)
    canvas.text(
        x + SIDE / 2 * method.signed, y + 21, "0", size=SMALL_SIZE, anchor="middle" if method.signed else "start"
    )
    meaning = fit(method.meaning, SIDE, SMALL_SIZE)
    canvas.text(x + SIDE / 2, y + 34, meaning, size=SMALL_SIZE, colour=FAINT, anchor="middle")


def _shown(heatmap: Heatmap, size_hw: tuple[int, int], limit: float) -> NDArray[np.float32]:
    """Values as shares of `limit`, enlarged to the face."""
    shares = heatmap.values * np.float32(heatmap.scale / limit)
    grown = cv2.resize(shares, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(grown, -1, 1).astype(np.float32)


def _contours(values: NDArray[np.float32]) -> list[list[tuple[float, float]]]:
    """Outlines of the places above `CONTOUR_AT`, as points in [0, 1]; specks are left out."""
    height, width = values.shape
    strong = (values >= CONTOUR_AT).astype(np.uint8)
    outlines, _ = cv2.findContours(strong, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    least = height * width / 400  # a dot smaller than 1/20 x 1/20 of the face says nothing at this size
    kept = [outline[:, 0, :] for outline in outlines if cv2.contourArea(outline) >= least]
    return [[(float(px + 0.5) / width, float(py + 0.5) / height) for px, py in [*line, line[0]]] for line in kept]


def _number(value: float, *, signed: bool) -> str:
    """Two significant digits, with a true minus sign."""
    text = f"{abs(value):.2g}" if 0.001 <= abs(value) < 1000 else f"{abs(value):.1e}"
    return ("−" if value < 0 else "+" if signed else "") + text


def percent(probability: float) -> str:
    """`93 %`; never a false 0 or 100."""
    if 0 < probability < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < probability < 1 else f"{probability:.0%}".replace("%", " %")
