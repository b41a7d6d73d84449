"""mien: calibrated emotion recognition in face images.

>>> import mien
>>> for face in mien.load().analyze("photo.jpg"):
...     print(face.emotion, face.confidence)

Names load when they are first used, so that `import mien` costs next to nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mien.errors import MienError

if TYPE_CHECKING:
    from mien import labels, models
    from mien.pipeline import Analyzer, load
    from mien.results import Face

# ONNX Runtime 1.32 keeps an id of the device in the home folder and reports its sessions to Microsoft. It looks for the
# variable when it is imported; what it offers afterwards, to be quiet, comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Analyzer", "Face", "MienError", "__version__", "labels", "load", "models"]

_HOMES = {"Analyzer": "mien.pipeline", "load": "mien.pipeline", "Face": "mien.results"}
_MODULES = ("labels", "models")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"mien.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next look-up finds it without this function
        return value
    raise AttributeError(f"module 'mien' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
