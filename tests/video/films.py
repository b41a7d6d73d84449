"""Films made from portraits that installed packages ship and from drawn faces, with the truth about every frame.

A film is a list of `Role`s on a background: who, and where they are at each time. Roles that come later in the list
stand in front. The truth of a frame says which person is where, and how much of the face is to be seen.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tests.drawing import draw_face

Rgb = NDArray[np.uint8]  # (H, W, 3)

SIZE_WH = (640, 480)
RATE_HZ = 30.0
IN_SIGHT_RATIO = 0.5  # of the face: with less of it to be seen, nobody is expected to find it


@dataclass(frozen=True, eq=False)
class Actor:
    """A picture that can be put anywhere in a film."""

    picture: Rgb
    alpha: NDArray[np.float32]  # (h, w) in [0, 1]
    face_xyxy: tuple[float, float, float, float] | None  # pixels of `picture`; None for a thing


@dataclass(frozen=True)
class Pose:
    """Where an actor is: centre of the face (or of the thing), height of the face in pixels, turn in the plane."""

    x: float
    y: float
    height_px: float
    turn_deg: float = 0.0


@dataclass(frozen=True, eq=False)
class Role:
    """An actor in a film; `path` gives the pose at a time in seconds, or None while they are away."""

    name: str
    path: Callable[[float], Pose | None]
    actor: Actor | Callable[[float], Actor]  # the second for a face that changes its expression


@dataclass(frozen=True)
class Truth:
    """One person in one frame."""

    person: str
    box_xyxy: tuple[float, float, float, float]
    visible_ratio: float  # of the face, 0..1


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame and what it shows; people who are quite out of sight are in no truth."""

    image: Rgb
    time_s: float
    truth: tuple[Truth, ...] = field(default=())

    @property
    def in_sight(self) -> tuple[Truth, ...]:
        """Those whom one can be expected to find."""
        return tuple(truth for truth in self.truth if truth.visible_ratio >= IN_SIGHT_RATIO)


def film(
    roles: Sequence[Role],
    *,
    duration_s: float,
    rate_hz: float = RATE_HZ,
    size_wh: tuple[int, int] = SIZE_WH,
    start_s: float = 0.0,
    scene: int = 0,
    noise: float = 3.0,
    light: Callable[[float], float] = lambda _: 1.0,
) -> Iterator[Shot]:
    """The frames of a scene; `scene` chooses the background and the noise, `light` the brightness at a time."""
    rng = np.random.default_rng(scene)
    behind = background(size_wh, scene)
    grain = rng.normal(0, noise, (*behind.shape[:2], 3)).astype(np.float32)
    for index in range(round(duration_s * rate_hz)):
        time_s = index / rate_hz
        picture, truth = _compose(behind, roles, time_s)
        picture = picture * np.float32(light(time_s)) + np.roll(grain, rng.integers(0, size_wh), axis=(1, 0))
        yield Shot(np.clip(np.rint(picture), 0, 255).astype(np.uint8), start_s + time_s, truth)


def background(size_wh: tuple[int, int], scene: int) -> NDArray[np.float32]:
    """A room without people `(H, W, 3)`: soft bluish shapes, in which nobody sees a face; others for each `scene`."""
    width, height = size_wh
    rng = np.random.default_rng(1000 + scene)
    tints = rng.uniform((0.6, 0.8, 1), (0.8, 1, 1.2), (6, 8, 3))
    coarse = (rng.uniform(40, 200, (6, 8, 1)) * tints).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32).clip(0, 255)


def _compose(
    behind: NDArray[np.float32], roles: Sequence[Role], time_s: float
) -> tuple[NDArray[np.float32], tuple[Truth, ...]]:
    picture = behind.copy()
    shown: list[tuple[str, NDArray[np.float64], tuple[float, float, float, float], NDArray[np.float32]]] = []
    covers: list[NDArray[np.float32]] = []
    for role in roles:
        pose = role.path(time_s)
        actor = role.actor(time_s) if callable(role.actor) else role.actor
        if pose is None:
            continue
        matrix = _placing(actor, pose)
        alpha = _put(picture, actor, matrix)
        covers.append(alpha)
        if actor.face_xyxy is not None:
            shown.append((role.name, matrix, actor.face_xyxy, alpha))
    truths = []
    for name, matrix, face, own in shown:
        front = covers[next(i for i, cover in enumerate(covers) if cover is own) + 1 :]
        box, visible = _sight(matrix, face, front, behind.shape[:2])
        if visible > 0:
            truths.append(Truth(name, box, visible))
    return picture, tuple(truths)


def _placing(actor: Actor, pose: Pose) -> NDArray[np.float64]:
    """The `(2, 3)` similarity from the actor's picture to the film."""
    height, width = actor.alpha.shape
    left, top, right, bottom = actor.face_xyxy or (0, 0, width, height)
    scale = pose.height_px / (bottom - top)
    matrix = cv2.getRotationMatrix2D(((left + right) / 2, (top + bottom) / 2), -pose.turn_deg, scale)
    matrix[:, 2] += (pose.x - (left + right) / 2, pose.y - (top + bottom) / 2)
    return np.asarray(matrix, np.float64)


def _put(picture: NDArray[np.float32], actor: Actor, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Draw an actor into the picture, and return the `(H, W)` alpha that it was drawn with."""
    size_wh = picture.shape[1::-1]
    scale = float(np.hypot(*matrix[:, 0]))
    source, alpha = actor.picture, actor.alpha
    if scale < 0.75:  # shrink by area first: bilinear sampling alone would flicker
        smaller_wh = (max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale)))
        fx, fy = alpha.shape[1] / smaller_wh[0], alpha.shape[0] / smaller_wh[1]
        source, alpha = (cv2.resize(a, smaller_wh, interpolation=cv2.INTER_AREA) for a in (source, alpha))
        matrix = matrix @ np.array([[fx, 0, fx / 2 - 0.5], [0, fy, fy / 2 - 0.5], [0, 0, 1]])
    cover = np.zeros(picture.shape[:2], np.float32)
    corners = np.array([(x, y) for x in (0, alpha.shape[1]) for y in (0, alpha.shape[0])]) @ matrix[:, :2].T
    low, high = (corners + matrix[:, 2]).min(axis=0), (corners + matrix[:, 2]).max(axis=0)
    x0, y0 = np.clip(np.floor(low).astype(int) - 1, 0, size_wh)
    x1, y1 = np.clip(np.ceil(high).astype(int) + 1, 0, size_wh)
    if x1 <= x0 or y1 <= y0:
        return cover  # quite outside
    matrix = matrix - np.array([[0, 0, x0], [0, 0, y0]])
    part, inside_wh = np.s_[y0:y1, x0:x1], (int(x1 - x0), int(y1 - y0))
    drawn = cv2.warpAffine(source, matrix, inside_wh, flags=cv2.INTER_LINEAR).astype(np.float32)
    cover[part] = cv2.warpAffine(alpha, matrix, inside_wh, flags=cv2.INTER_LINEAR)
    picture[part] += cover[part][..., None] * (drawn - picture[part])
    return cover


def _sight(
    matrix: NDArray[np.float64],
    face_xyxy: tuple[float, float, float, float],
    front: Sequence[NDArray[np.float32]],
    size_hw: tuple[int, ...],
) -> tuple[tuple[float, float, float, float], float]:
    """Upright box of the placed face, and how much of it is in the picture with nothing before it."""
    left, top, right, bottom = face_xyxy
    scale = float(np.hypot(*matrix[:, 0]))
    x, y = matrix[:, :2] @ ((left + right) / 2, (top + bottom) / 2) + matrix[:, 2]
    half_w, half_h = scale * (right - left) / 2, scale * (bottom - top) / 2
    box = (float(x - half_w), float(y - half_h), float(x + half_w), float(y + half_h))
    x0, y0, x1, y1 = (int(np.clip(round(v), 0, limit)) for v, limit in zip(box, (*size_hw[::-1],) * 2, strict=True))
    if x1 <= x0 or y1 <= y0:
        return box, 0.0
    free = np.ones((y1 - y0, x1 - x0), np.float32)
    for cover in front:
        free *= 1 - cover[y0:y1, x0:x1]
    return box, float(free.sum()) / max(4 * half_w * half_h, 1)


def _feathered(height: int, width: int, *, edge: float = 0.12, power: float = 2.0) -> NDArray[np.float32]:
    """An ellipse `(height, width)` that fades over the outer `edge` of its radius; a higher power squares it."""
    y, x = np.mgrid[0:height, 0:width]
    across, down = np.abs((x + 0.5) / width * 2 - 1), np.abs((y + 0.5) / height * 2 - 1)
    radius = (across**power + down**power) ** (1 / power)
    return np.clip((1 - radius) / edge, 0, 1).astype(np.float32)


def _cut_out(picture: Rgb, face_xyxy: tuple[float, float, float, float], *, margin: float) -> Actor:
    """The head around a face, of a larger picture."""
    left, top, right, bottom = face_xyxy
    width, height = right - left, bottom - top
    x0, y0 = max(0, round(left - margin * width)), max(0, round(top - margin * height))
    x1 = min(picture.shape[1], round(right + margin * width))
    y1 = min(picture.shape[0], round(bottom + margin * height))
    cut = np.ascontiguousarray(picture[y0:y1, x0:x1])
    return Actor(cut, _feathered(*cut.shape[:2]), (left - x0, top - y0, right - x0, bottom - y0))


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} ships the portraits: pip install 'mien[dev]'")
    return Path(spec.origin).parent


@cache
def grace_hopper() -> Actor:
    """A portrait photograph (public domain, in matplotlib's wheel); the box was read off by eye."""
    path = _package_folder("matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    return _cut_out(np.asarray(PIL.Image.open(path).convert("RGB")), (190, 128, 346, 335), margin=0.45)


@cache
def astronaut() -> Actor:
    """A portrait photograph (NASA, public domain, in scikit-image's wheel); the box was read off by eye."""
    path = _package_folder("skimage") / "data" / "astronaut.png"
    return _cut_out(np.asarray(PIL.Image.open(path).convert("RGB")), (178, 66, 270, 180), margin=0.45)


@cache
def lfw(number: int) -> Actor:
    """One of a hundred people of Labeled Faces in the Wild, 25 x 25 grey (in scikit-image's wheel), enlarged."""
    tiny = np.load(_package_folder("skimage") / "data" / "lfw_subset.npy")[number]
    grey = cv2.resize((255 * tiny).astype(np.float32), (125, 125), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(grey[..., None] * (1.0, 0.9, 0.82), 0, 255).astype(np.uint8)
    return Actor(picture, _feathered(125, 125, power=8), (12, 6, 110, 121))


def pasted(grey: NDArray[np.uint8]) -> Actor:
    """A 48 x 48 grey face of FER-2013, enlarged."""
    large = cv2.resize(grey, (144, 144), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(large[..., None] * (1.0, 0.9, 0.82), 0, 255).astype(np.uint8)
    return Actor(picture, _feathered(144, 144, power=8), (15, 9, 129, 141))


@cache
def drawn(emotion: str, seed: int = 0) -> Actor:
    """A drawn face that shows an emotion, for tests that bring their own detector: none of mien's sees a face in it."""
    grey = draw_face(emotion, np.random.default_rng(seed), 150)
    picture = np.clip(grey[..., None] * (1.0, 0.88, 0.78), 0, 255).astype(np.uint8)
    return Actor(picture, np.ones((150, 150), np.float32), (13, 13, 134, 150))


def post(width: int = 60, height: int = 480) -> Actor:
    """A striped post to walk behind."""
    stripes = np.where(np.arange(height) // 24 % 2, 70, 190).astype(np.uint8)
    picture = np.repeat(np.repeat(stripes[:, None, None], width, axis=1), 3, axis=2)
    return Actor(np.ascontiguousarray(picture), np.ones((height, width), np.float32), None)


def still(x: float, y: float, height_px: float) -> Callable[[float], Pose]:
    """Stays where it is."""
    return lambda _: Pose(x, y, height_px)


def walk(
    start: tuple[float, float], end: tuple[float, float], *, height_px: float, duration_s: float, sway_px: float = 6.0
) -> Callable[[float], Pose]:
    """From `start` to `end`, with the up and down and the nodding of a walk."""

    def path(time_s: float) -> Pose:
        along = time_s / duration_s
        x, y = (a + (b - a) * along for a, b in zip(start, end, strict=True))
        step = 2 * math.pi * 1.8 * time_s
        return Pose(x, y + sway_px * math.sin(step), height_px, 3 * math.sin(step / 2))

    return path


def hover(
    x: float, y: float, height_px: float, *, reach_px: float = 60.0, phase: float = 0.0
) -> Callable[[float], Pose]:
    """Moves about in front of a camera: sideways, nearer and farther, tilting the head."""

    def path(time_s: float) -> Pose:
        turn = 2 * math.pi * time_s
        return Pose(
            x + reach_px * math.sin(0.31 * turn + phase),
            y + 0.4 * reach_px * math.sin(0.47 * turn + 2 * phase),
            height_px * (1 + 0.15 * math.sin(0.23 * turn + phase)),
            8 * math.sin(0.37 * turn + phase),
        )

    return path


def one_face(*, duration_s: float, size_wh: tuple[int, int] = SIZE_WH, rate_hz: float = RATE_HZ) -> Iterator[Shot]:
    """One person before a camera."""
    width, height = size_wh
    unit = height / 480
    path = hover(width / 2, height / 2, 170 * unit, reach_px=70 * unit)
    return film([Role("grace", path, grace_hopper())], duration_s=duration_s, size_wh=size_wh, rate_hz=rate_hz)


def crossing(
    a: Actor, b: Actor, *, duration_s: float = 3.0, scene: int = 1, height_px: float = 110.0
) -> Iterator[Shot]:
    """Two people walk past each other; `b` is in front."""
    roles = [
        Role("a", walk((80, 235), (560, 245), height_px=height_px, duration_s=duration_s), a),
        Role("b", walk((560, 250), (80, 240), height_px=1.15 * height_px, duration_s=duration_s, sway_px=5), b),
    ]
    return film(roles, duration_s=duration_s, scene=scene)


def behind_post(actor: Actor, *, duration_s: float = 3.0, scene: int = 2, width: int = 120) -> Iterator[Shot]:
    """Somebody walks behind a post that hides the face for a moment."""
    roles = [
        Role("a", walk((80, 240), (560, 240), height_px=110, duration_s=duration_s), actor),
        Role("post", still(320, 240, 480), post(width)),
    ]
    return film(roles, duration_s=duration_s, scene=scene)


def group(actors: Sequence[Actor], *, duration_s: float, scene: int = 7) -> Iterator[Shot]:
    """People side by side before a camera, who move without hiding each other."""
    width = SIZE_WH[0] / len(actors)
    roles = [
        Role(f"{number}", hover(width * (number + 0.5), 240, 0.68 * width, reach_px=0.12 * width, phase=number), actor)
        for number, actor in enumerate(actors)
    ]
    return film(roles, duration_s=duration_s, scene=scene)


def crowd(actors: Sequence[Actor], *, duration_s: float = 6.0, scene: int = 6) -> Iterator[Shot]:
    """People who wander about, each at another pace, and pass before each other; the later ones in front."""
    roles = []
    for number, actor in enumerate(actors):
        x, phase = 640 * (number + 0.5) / len(actors), 1.7 * number
        roles.append(Role(f"{number}", hover(x, 240, 95 + 8 * number, reach_px=150, phase=phase), actor))
    return film(roles, duration_s=duration_s, scene=scene)


def cut(a: Actor, b: Actor, *, before_s: float = 1.0, after_s: float = 1.0) -> Iterator[Shot]:
    """Two scenes with a hard cut between them; both people are at the same place of the picture."""
    yield from film([Role("a", hover(320, 240, 150, reach_px=20), a)], duration_s=before_s, scene=3)
    second = film([Role("b", hover(320, 240, 150, reach_px=20), b)], duration_s=after_s, scene=4, start_s=before_s)
    yield from second


def changing(
    faces: Mapping[float, Actor], *, duration_s: float, rate_hz: float = RATE_HZ, scene: int = 5, noise: float = 18.0
) -> Iterator[Shot]:
    """One face that changes: from each time in seconds on it is that actor.

    Filmed badly, so that decisions flicker: little light, much noise, a trembling hand, a lamp that is not steady.
    """
    times = sorted(faces)

    def actor_at(time_s: float) -> Actor:
        return faces[max((t for t in times if t <= time_s + 1e-9), default=times[0])]

    def tremble(time_s: float) -> Pose:
        pose = hover(320, 240, 130, reach_px=30)(time_s)
        rng = np.random.default_rng(round(1000 * time_s))
        x, y, turn = rng.normal(0, (1.5, 1.5, 1.5))
        return Pose(pose.x + x, pose.y + y, pose.height_px, pose.turn_deg + turn)

    role = Role("a", tremble, actor_at)
    lamp = lambda time_s: 0.55 + 0.1 * math.sin(2 * math.pi * 7.3 * time_s)  # noqa: E731
    return film([role], duration_s=duration_s, rate_hz=rate_hz, scene=scene, noise=noise, light=lamp)
