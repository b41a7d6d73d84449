"""Detectors by name."""

from mien import hub
from mien.errors import ConfigError
from mien.faces.centerface import CenterFace
from mien.faces.detections import Detections, Detector
from mien.faces.whole import WholePicture
from mien.faces.yunet import YuNet

__all__ = ["MAX_SIDE_PX", "NAMES", "SCORE_THRESHOLDS", "Detections", "Detector", "create"]

NAMES = ("centerface", "yunet", "none")
SCORE_THRESHOLDS = {"centerface": 0.4, "yunet": 0.5, "none": 0.0}
MAX_SIDE_PX = 1280  # larger pictures are shrunk: a face of 20 px there is 1/64 of the picture's width


def create(name: str, *, score_threshold: float | None = None, max_side_px: int = MAX_SIDE_PX) -> Detector:
    """The detector called `name`, with its weights loaded.

    `score_threshold` in [0, 1] trades missed faces for false ones; None is the detector's own default.

    Raises:
        ConfigError: the name is unknown, or an option is out of range.
        ModelError: the weights are missing or damaged.
        DownloadError: the weights have to be fetched and cannot be.
    """
    if name not in NAMES:
        raise ConfigError(f"{name!r} is no detector: use one of {', '.join(NAMES)}")
    threshold = SCORE_THRESHOLDS[name] if score_threshold is None else score_threshold
    if not 0 <= threshold < 1:
        raise ConfigError(f"score_threshold is {threshold}: it must be at least 0 and below 1")
    if max_side_px < 32:
        raise ConfigError(f"max_side_px is {max_side_px}: it must be 32 or more")
    if name == "none":
        return WholePicture()
    kind = CenterFace if name == "centerface" else YuNet
    return kind(hub.resolve(name), score_threshold=threshold, max_side_px=max_side_px)
