"""Cartoon faces with the seven emotions: drawn from a seed, plain to the eye, learnable by a tiny network."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.datasets.packed import Split
from mien.labels import FER7, FERPLUS_COLUMNS

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = FER2013_LANDMARKS
MOUTH_X, MOUTH_Y = (LEFT_MOUTH[0] + RIGHT_MOUTH[0]) / 2, LEFT_MOUTH[1]
SUPERSAMPLING = 4
SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the muscles do; lengths in crop units, so 0.01 is half a pixel of a 48 px crop."""

    brow_lift: float = 0.0  # of the whole brow, up positive
    brow_tilt: float = 0.0  # inner end lifted over the outer one; negative is a scowl
    brow_arch: float = 0.015
    eye_open: float = 0.030  # half height of the opening
    lid_droop: float = 0.0  # outer corner lower than the inner one
    mouth_curve: float = 0.0  # corners over the middle: positive smiles
    mouth_open: float = 0.0  # half height of the opening
    mouth_width: float = 0.155  # half width
    mouth_squareness: float = 0.0  # 0 an ellipse, 1 nearly a rectangle
    upper_lip_lift: float = 0.0  # sneer
    teeth: bool = False
    nose_wrinkle: bool = False
    frown_lines: bool = False
    cheeks: bool = False


LOOKS = {
    "angry": Look(
        brow_lift=-0.035, brow_tilt=-0.075, brow_arch=0.0, eye_open=0.020, mouth_curve=-0.022, mouth_open=0.022,
        mouth_width=0.12, mouth_squareness=1.0, teeth=True, frown_lines=True,
    ),
    "disgust": Look(
        brow_lift=-0.03, brow_tilt=-0.02, eye_open=0.014, mouth_curve=-0.05, mouth_open=0.012, mouth_width=0.12,
        upper_lip_lift=0.038, nose_wrinkle=True, cheeks=True,
    ),
    "fear": Look(
        brow_lift=0.035, brow_tilt=0.045, brow_arch=0.0, eye_open=0.056, mouth_curve=-0.015, mouth_open=0.035,
        mouth_width=0.165, mouth_squareness=1.0, teeth=True,
    ),
    "happy": Look(
        brow_lift=0.01, eye_open=0.024, mouth_curve=0.075, mouth_open=0.035, mouth_width=0.19, teeth=True, cheeks=True,
    ),
    "neutral": Look(),
    "sad": Look(
        brow_lift=0.0, brow_tilt=0.065, brow_arch=0.0, eye_open=0.021, lid_droop=0.022, mouth_curve=-0.06,
        mouth_width=0.125,
    ),
    "surprise": Look(
        brow_lift=0.035, brow_arch=0.034, eye_open=0.052, mouth_open=0.085, mouth_width=0.085,
    ),
}  # fmt: skip

_JITTERED = {  # standard deviation of each person's own way of doing it
    "brow_lift": 0.006, "brow_tilt": 0.007, "brow_arch": 0.004, "eye_open": 0.003, "mouth_curve": 0.006,
    "mouth_open": 0.003, "mouth_width": 0.008,
}  # fmt: skip


def draw_face(emotion: str, rng: np.random.Generator, size_px: int = 48) -> NDArray[np.uint8]:
    """One grey face `(size_px, size_px)`, geometry and framing as in FER-2013's crops.

    Skin, hair, light, pose (about ±8°) and strength of the expression vary with `rng`.

    Raises:
        KeyError: the emotion is none of the seven.
    """
    look = _jitter(LOOKS[emotion], rng)
    skin, ink, background = rng.uniform(140, 215), rng.uniform(15, 55), rng.uniform(40, 230)
    pen = _Pen(size_px * SUPERSAMPLING, _pose(rng), background)
    _head(pen, skin, hair=rng.uniform(20, 110), fringe=rng.uniform(0.05, 0.15))
    _eyes(pen, look, skin, ink)
    _nose(pen, look, skin)
    _mouth(pen, look, skin, ink)
    shade = np.linspace(-1, 1, size_px)
    light = rng.uniform(-18, 18) * shade[None, :] + rng.uniform(-10, 10) * shade[:, None]
    small = cv2.resize(pen.canvas, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.float64)
    noisy = small + light + rng.normal(0, 4, small.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def draw_split(per_class: int, seed: int, *, size_px: int = 48, votes: bool = False) -> Split:
    """`7 * per_class` faces in turn (angry, disgust, ..., angry, ...); `votes` adds ten FER+ taggers each."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(FER7)), per_class)
    images = np.stack([draw_face(FER7[label], rng, size_px) for label in labels])
    names = tuple(f"{FER7[label]}/drawn_{number:05}.png" for number, label in enumerate(labels))
    return Split(images, labels, names, votes=_tag(labels, rng) if votes else None)


def draw_photo(seed: int = 0, *, faces: int = 1) -> NDArray[np.uint8]:
    """A picture `(480, 640, 3)` RGB: a tinted gradient with up to three drawn faces of 150 px side by side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:480, 0:640]
    photo = np.stack([60 + x / 8, 90 + y / 6, 140 + (x + y) / 16], axis=-1)
    for number in range(faces):
        face = draw_face(FER7[(3 + number) % 7], rng, 150).astype(np.float64)
        left = 60 + 190 * number
        photo[150:300, left : left + 150] = face[..., None] * (1.0, 0.88, 0.78)
    return np.clip(np.rint(photo + rng.normal(0, 2, photo.shape)), 0, 255).astype(np.uint8)


def _tag(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Ten taggers an image; each agrees with the label with probability 0.8."""
    columns = np.array([FERPLUS_COLUMNS.index(name) for name in FER7])
    chances = np.full((len(labels), 10), 0.2 / 9)
    chances[np.arange(len(labels)), columns[labels]] = 0.8
    return rng.multinomial(10, chances).astype(np.uint8)


def _jitter(look: Look, rng: np.random.Generator) -> Look:
    values = {name: getattr(look, name) for name in Look.__dataclass_fields__}
    for name, deviation in _JITTERED.items():
        closed = name == "mouth_open" and values[name] == 0
        values[name] = 0.0 if closed else values[name] + float(rng.normal(0, deviation))
    values["eye_open"] = max(values["eye_open"], 0.010)
    return Look(**values)


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Similarity `(2, 3)` in crop units around the middle of the face."""
    angle, scale = rng.normal(0, np.deg2rad(4)), rng.uniform(0.93, 1.07)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([0.49, 0.55])
    return np.column_stack([turn, middle - turn @ middle + rng.uniform(-0.025, 0.025, 2)])


class _Pen:
    """Draws curves given in crop units onto a supersampled canvas, under one pose."""

    def __init__(self, side_px: int, pose: NDArray[np.float64], background: float) -> None:
        self.canvas = np.full((side_px, side_px), round(background), np.uint8)
        self.pose = pose

    def _fixed_point(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        posed = points @ self.pose[:, :2].T + self.pose[:, 2]
        return np.rint(posed * len(self.canvas) * (1 << SUBPIXEL_BITS)).astype(np.int32)

    def fill(self, points: NDArray[np.float64], grey: float) -> None:
        cv2.fillPoly(self.canvas, [self._fixed_point(points)], round(grey), cv2.LINE_AA, SUBPIXEL_BITS)

    def line(self, points: NDArray[np.float64], grey: float, width: float) -> None:
        thick = max(1, round(width * len(self.canvas)))
        cv2.polylines(self.canvas, [self._fixed_point(points)], False, round(grey), thick, cv2.LINE_AA, SUBPIXEL_BITS)


def _oval(x: float, y: float, half_width: float, half_height: float, squareness: float = 0.0) -> NDArray[np.float64]:
    """Superellipse outline `(64, 2)`; squareness 1 has the exponent 5."""
    turn, power = np.linspace(0, 2 * np.pi, 64), 2 / (2 + 3 * squareness)
    cosine, sine = np.cos(turn), np.sin(turn)
    across = np.sign(cosine) * np.abs(cosine) ** power
    down = np.sign(sine) * np.abs(sine) ** power
    return np.column_stack([x + half_width * across, y + half_height * down])


def _arc(left: tuple[float, float], right: tuple[float, float], sag: float) -> NDArray[np.float64]:
    """Parabola from `left` to `right`, its middle `sag` below the chord."""
    along = np.linspace(0, 1, 24)
    chord = np.outer(1 - along, left) + np.outer(along, right)
    return chord + np.column_stack([np.zeros(24), 4 * sag * along * (1 - along)])


def _head(pen: _Pen, skin: float, *, hair: float, fringe: float) -> None:
    scalp = _oval(0.49, 0.44, 0.47, 0.50)
    pen.fill(scalp, hair)
    pen.fill(_oval(0.49, 1.05, 0.20, 0.20), skin * 0.8)  # neck
    pen.fill(_oval(0.49, 0.56, 0.405, 0.47), skin)
    pen.fill(scalp[scalp[:, 1] < fringe], hair)


def _eyes(pen: _Pen, look: Look, skin: float, ink: float) -> None:
    for (x, y), inward in ((LEFT_EYE, 1.0), (RIGHT_EYE, -1.0)):
        opening = _oval(x, y, 0.075, look.eye_open)
        opening[:, 1] -= inward * (opening[:, 0] - x) / 0.075 * look.lid_droop
        pen.fill(opening, 245)
        iris = min(0.030, look.eye_open * 1.05)
        pen.fill(_oval(x, y, 0.030, iris), ink)
        top = opening[opening[:, 1].argsort()]
        pen.line(np.array([opening[32], top[0], opening[0]]), ink, 0.008)
        pen.line(opening, ink + 20, 0.012)
        brow_y = y - 0.115 - look.brow_lift
        inner = (x + inward * 0.085, brow_y - look.brow_tilt / 2)
        outer = (x - inward * 0.095, brow_y + look.brow_tilt / 2)
        pen.line(_arc(outer, inner, -look.brow_arch), ink, 0.032)
    if look.frown_lines:
        for shift in (-0.018, 0.018):
            pen.line(np.array([[0.49 + shift, 0.27], [0.49 + shift * 0.8, 0.345]]), skin * 0.55, 0.012)


def _nose(pen: _Pen, look: Look, skin: float) -> None:
    x, y = NOSE
    pen.line(_arc((x - 0.055, y + 0.01), (x + 0.055, y + 0.01), 0.025), skin * 0.6, 0.014)
    pen.line(np.array([[x + 0.02, 0.42], [x + 0.045, y - 0.03]]), skin * 0.8, 0.012)
    if look.nose_wrinkle:
        for height in (0.40, 0.435, 0.47):
            pen.line(_arc((x - 0.05, height), (x + 0.06, height), -0.018), skin * 0.5, 0.013)
    if look.cheeks:
        for side in (-1, 1):
            fold = _arc((x + side * 0.085, y), (x + side * 0.205, y + 0.13), -0.02)
            pen.line(fold, skin * 0.68, 0.014)


def _mouth(pen: _Pen, look: Look, skin: float, ink: float) -> None:
    curve, width, lift = look.mouth_curve, look.mouth_width, look.upper_lip_lift

    def bend(points: NDArray[np.float64]) -> NDArray[np.float64]:
        across = (points[:, 0] - MOUTH_X) / width
        sneer = lift * np.exp(-(((across + 0.35) / 0.4) ** 2))  # to the viewer's left: nobody sneers evenly
        return points + np.column_stack([np.zeros(len(points)), curve * (0.5 - across**2) - sneer])

    lips = skin * 0.50
    if not look.mouth_open:
        line = np.column_stack([np.linspace(MOUTH_X - width, MOUTH_X + width, 32), np.full(32, MOUTH_Y)])
        pen.line(bend(line), lips, 0.045)
        pen.line(bend(line), ink, 0.018)
        return
    y = MOUTH_Y + 0.2 * look.mouth_open
    pen.fill(bend(_oval(MOUTH_X, y, width + 0.02, look.mouth_open + 0.02, look.mouth_squareness)), lips)
    pen.fill(bend(_oval(MOUTH_X, y, width, look.mouth_open, look.mouth_squareness)), ink)
    if look.teeth:
        half = look.mouth_open * (0.75 if look.mouth_squareness else 0.45)
        height = y if look.mouth_squareness else y - look.mouth_open * 0.4
        pen.fill(bend(_oval(MOUTH_X, height, width * 0.86, half, 1.0)), 235)
    if look.mouth_squareness and look.mouth_curve < -0.018:  # bared, clenched
        pen.line(bend(np.column_stack([np.linspace(MOUTH_X - width, MOUTH_X + width, 16), np.full(16, y)])), ink, 0.014)
