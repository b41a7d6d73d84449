"""The networks, by name (needs the `train` extra)."""

from mien.errors import require

require("torch", "train")

from mien.models import (  # noqa: E402 - importing registers them
    attention,  # noqa: F401
    baseline,  # noqa: F401
    lite,  # noqa: F401
    resnet,  # noqa: F401
    resnet9,  # noqa: F401
    senet,  # noqa: F401
    vgg,  # noqa: F401
)
from mien.models.registry import Entry, create, info, names, register  # noqa: E402

__all__ = ["Entry", "create", "info", "names", "register"]
