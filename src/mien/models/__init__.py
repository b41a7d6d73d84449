"""The networks, by name (needs the `train` extra)."""

from mien.errors import require

require("torch", "train")

from mien.models import baseline, resnet9, vgg  # noqa: E402, F401 - importing registers them
from mien.models.registry import Entry, create, info, names, register  # noqa: E402

__all__ = ["Entry", "create", "info", "names", "register"]
