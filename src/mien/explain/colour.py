"""Perceptual colour for heatmaps, without matplotlib.

Signed maps take cividis (Nunez et al. 2018) centred on zero: dark blue speaks against the label, yellow for it.
Its lightness rises evenly from end to end, so the sign survives in black and white and for colour-blind readers.
Unsigned maps take inferno, of which the bright end is the strong end.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

OPACITY = 0.88  # of the strongest values; the face stays visible below them
FACE_RANGE = (38, 205)  # grey levels of the face under a map, so that both ends of the colours stand out from it


def colours(values: NDArray[np.float32], *, signed: bool) -> NDArray[np.uint8]:
    """`(..., 3)` RGB of values in [-1, 1] (signed) or [0, 1]; values beyond are clipped."""
    # cividis is grey around its middle: the root leaves it early, and the scale bar shows the same bend
    levels = (np.sign(values) * np.sqrt(np.abs(values)) + 1) / 2 if signed else values
    indices = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    return np.asarray(_table(signed)[indices], np.uint8)


def opacity(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the colour of each value covers the face: 0 where nothing speaks, `OPACITY` at full strength."""
    strength = np.sqrt(np.clip(np.abs(values), 0, 1))  # weak values stay visible
    return np.asarray(OPACITY * strength, np.float32)


def over_face(face: NDArray[np.uint8], values: NDArray[np.float32], *, signed: bool) -> NDArray[np.uint8]:
    """Colour `values` `(H, W)` over a face `(H, W, 3)` RGB of the same size: `(H, W, 3)` RGB.

    The face is shown in grey, so that hue means the map alone.
    """
    low, high = FACE_RANGE
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 * (high - low) + low
    alpha = opacity(values)[..., None]
    blended = grey[..., None] * (1 - alpha) + colours(values, signed=signed) * alpha
    return np.rint(blended).astype(np.uint8)


def scale_strip(width_px: int, height_px: int, *, signed: bool) -> NDArray[np.uint8]:
    """A scale bar `(height, width, 3)`: the colours as they look over a face of middle grey."""
    ends = (-1.0, 1.0) if signed else (0.0, 1.0)
    values = np.tile(np.linspace(*ends, width_px, dtype=np.float32), (height_px, 1))
    face = np.full((height_px, width_px, 3), 128, np.uint8)
    return over_face(face, values, signed=signed)


def _table(signed: bool) -> NDArray[np.uint8]:
    """`(256, 3)` RGB."""
    table = cv2.COLORMAP_CIVIDIS if signed else cv2.COLORMAP_INFERNO
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, table)[:, 0, ::-1])
