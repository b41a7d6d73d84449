"""A page of pictures, lines and text that is written as PNG or SVG from one layout, with Pillow alone."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from mien import fonts
from mien.errors import ConfigError
from mien.files import printable

INK = "#1c1c1c"
FAINT = "#6b6b6b"
SVG_FONTS = "Aileron, 'Helvetica Neue', Helvetica, Arial, sans-serif"  # Aileron is Pillow's own, in the PNG
BAND_PX = 2048  # of the enlarged page, painted at a time; a multiple of OVERSAMPLE
OVERSAMPLE = 2  # Pillow's lines have no anti-aliasing: draw larger, then reduce

SIDE = 190.0  # of one cell's picture or chart, in page units; a PNG has two pixels a unit
GAP, MARGIN = 22.0, 18.0
ABOVE, BELOW = 22.0, 82.0  # room over a picture for its title, and under it for captions and scale bar
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 14.0, 12.0, 10.0

Point = tuple[float, float]


class Cell(Protocol):
    """What a figure is made of: overlay panels and charts."""

    def draw(self, canvas: "Canvas", x: float, y: float) -> None:
        """Put the cell's top left corner at `(x, y)`; it is `SIDE` wide and `ABOVE + SIDE + BELOW` high."""


@dataclass(frozen=True, slots=True)
class _Picture:
    x: float
    y: float
    width: float
    height: float
    pixels: NDArray[np.uint8]  # (h, w, 3) RGB

    @property
    def rows(self) -> tuple[float, float]:
        """Where it begins and ends on the page, from above."""
        return self.y - 1, self.y + self.height + 1


@dataclass(frozen=True, slots=True)
class _Line:
    points: tuple[Point, ...]
    colour: str
    width: float
    dash: float  # length of dashes and gaps; 0: solid

    @property
    def rows(self) -> tuple[float, float]:
        """Where it begins and ends on the page, from above."""
        return min(y for _, y in self.points) - self.width, max(y for _, y in self.points) + self.width


@dataclass(frozen=True, slots=True)
class _Text:
    x: float
    y: float  # of the baseline
    text: str
    size: float
    colour: str
    anchor: str  # start, middle, end

    @property
    def rows(self) -> tuple[float, float]:
        """Where it begins and ends on the page, from above."""
        return self.y - 2 * self.size, self.y + self.size


class Canvas:
    """Shapes in page units, origin top left; `png` and `svg` render them alike."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._shapes: list[_Picture | _Line | _Text] = []

    def picture(self, x: float, y: float, *, width: float, height: float, pixels: NDArray[np.uint8]) -> None:
        """Place an RGB picture `(h, w, 3)`, enlarged or reduced to the given size."""
        self._shapes.append(_Picture(x, y, width, height, pixels))

    def line(self, points: list[Point], *, colour: str = INK, width: float = 1.0, dash: float = 0.0) -> None:
        """A line through `points`."""
        self._shapes.append(_Line(tuple(points), colour, width, dash))

    def text(
        self, x: float, y: float, text: str, *, size: float = 11, colour: str = INK, anchor: str = "start"
    ) -> None:
        """One line of text on baseline `y`; `x` is its start, middle or end as `anchor` says."""
        self._shapes.append(_Text(x, y, text, size, colour, anchor))

    def png(self, *, pixels_per_unit: int = 2) -> PIL.Image.Image:
        """The page as an RGB image."""
        scale = pixels_per_unit * OVERSAMPLE
        width, height = round(self.width * scale), round(self.height * scale)
        page = PIL.Image.new("RGB", (-(-width // OVERSAMPLE), -(-height // OVERSAMPLE)))
        for top in range(0, height, BAND_PX):  # painted large, a page of hundreds of rows would take gigabytes
            band = self._band(scale, width, top, min(BAND_PX, height - top))
            page.paste(band.reduce(OVERSAMPLE), (0, top // OVERSAMPLE))
        return page

    def _band(self, scale: float, width: int, top: int, height: int) -> PIL.Image.Image:
        """The page's rows from `top` on, in pixels of `scale` a unit."""
        image = PIL.Image.new("RGB", (width, height), "white")
        draw = PIL.ImageDraw.Draw(image)
        for shape in self._shapes:
            first, last = (edge * scale - top for edge in shape.rows)
            if last < 0 or first > height:
                continue
            if isinstance(shape, _Picture):
                size = (round(shape.width * scale), round(shape.height * scale))
                placed = PIL.Image.fromarray(shape.pixels).resize(size, PIL.Image.Resampling.BICUBIC)
                image.paste(placed, (round(shape.x * scale), round(shape.y * scale) - top))
            elif isinstance(shape, _Line):
                for piece in _dashes(shape.points, shape.dash):
                    xy = [(x * scale, y * scale - top) for x, y in piece]
                    draw.line(xy, fill=shape.colour, width=max(1, round(shape.width * scale)), joint="curve")
            else:
                anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
                xy_text = (shape.x * scale, shape.y * scale - top)
                text, font = fonts.lettering(shape.text, shape.size * scale)
                draw.text(xy_text, text, shape.colour, font, anchor)
        return image

    def svg(self) -> str:
        """The page as a self-contained SVG document: text stays text, pictures are embedded."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{SVG_FONTS}">',
            '<rect width="100%" height="100%" fill="white"/>',
            *(_svg_shape(shape) for shape in self._shapes),
            "</svg>\n",
        ]
        return "\n".join(parts)

    def save(self, path: Path) -> None:
        """Write the page; the suffix, `.png` or `.svg`, chooses the format.

        Raises:
            ConfigError: another suffix, or the file cannot be written.
        """
        try:
            if path.suffix.lower() == ".svg":
                path.write_text(self.svg(), encoding="utf-8")
            elif path.suffix.lower() == ".png":
                self.png().save(path)
            else:
                raise ConfigError(f"{path}: pictures are written as .png or .svg")
        except OSError as error:
            raise ConfigError(f"{path}: cannot write it: {error.strerror or error}") from error


def figure(rows: Sequence[Sequence[Cell]], *, title: str = "") -> Canvas:
    """Cells in rows, all of one size.

    Raises:
        ValueError: there is no cell.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ValueError("a figure needs at least one cell")
    head = 30.0 if title else 0.0
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    canvas = Canvas(width, 2 * MARGIN + head + len(rows) * (ABOVE + SIDE + BELOW))
    if title:
        canvas.text(MARGIN, MARGIN + 14, fit(title, width - 2 * MARGIN, 16), size=16)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            cell.draw(canvas, MARGIN + c * (SIDE + GAP), MARGIN + head + r * (ABOVE + SIDE + BELOW))
    return canvas


def text_width(text: str, size: float) -> float:
    """Width of one line in page units, in the PNG's font."""
    return fonts.text_width(text, size * 4) / 4  # measured large: hinting rounds small sizes


def fit(text: str, width: float, size: float) -> str:
    """`text`, shortened in its middle until it is no wider than `width`."""
    if text_width(text, size) <= width:
        return text
    keep = len(text)
    while keep > 1:
        keep -= 1
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if text_width(short, size) <= width:
            return short
    return "…"


def wrap(text: str, width: float, size: float) -> list[str]:
    """`text` in lines no wider than `width`, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, width, size))
    return lines


def _dashes(points: tuple[Point, ...], dash: float) -> list[list[Point]]:
    """The line cut into dashes of length `dash`, with gaps as long; whole when `dash` is 0."""
    if dash <= 0:
        return [list(points)]
    corners = np.array(points, np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    pieces: list[list[Point]] = []
    for start in np.arange(0, along[-1], 2 * dash):
        end = min(start + dash, along[-1])
        stops = [start, *along[(along > start) & (along < end)], end]
        xs, ys = (np.interp(stops, along, column).tolist() for column in corners.T)
        pieces.append(list(zip(xs, ys, strict=True)))
    return pieces


def _svg_shape(shape: _Picture | _Line | _Text) -> str:
    if isinstance(shape, _Picture):
        buffer = io.BytesIO()
        PIL.Image.fromarray(shape.pixels).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
        return f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    if isinstance(shape, _Line):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash > 0 else ""
        style = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}" stroke-linejoin="round"{dash}'
        return f'<polyline points="{points}" {style}/>'
    place = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
    return f'<text {place} fill="{shape.colour}">{escape(printable(shape.text))}</text>'
