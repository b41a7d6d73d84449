"""Networks by name: each is a function that registers itself with what inference needs to know of it."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

from mien.errors import ModelError
from mien.preprocess import InputSpec

if TYPE_CHECKING:
    from torch import nn

GREY = InputSpec(mean=(0.5077,), std=(0.2551,))
"""48 x 48 grey, with mean and deviation of FER-2013's training images."""

IMAGENET = InputSpec(channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""RGB with ImageNet's mean and deviation; give it the size of the network at hand by `dataclasses.replace`."""

TIMM_OPTIONS = ("channels", "input_size")
"""Options that only networks of timm have; the others have what their authors published."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered network."""

    name: str
    build: Callable[..., "nn.Module"]
    input: InputSpec
    source: str  # paper, report or repository
    summary: str  # first line of the function's docstring
    pretrained: tuple[str, ...] = ()  # starts that `--pretrained` accepts, beside a path and none
    figure: str = ""  # accuracy on PublicTest that the source gives
    licence: str = "Apache-2.0"  # of the network, and of starts under another one


_entries: dict[str, Entry] = {}


def register(
    *,
    input: InputSpec,  # noqa: A002 - the field's name
    source: str,
    pretrained: tuple[str, ...] = (),
    figure: str = "",
    licence: str = "Apache-2.0",
) -> Callable[[Callable[..., "nn.Module"]], Callable[..., "nn.Module"]]:
    """Register the decorated function under its own name, underscores as hyphens."""

    def keep(build: Callable[..., "nn.Module"]) -> Callable[..., "nn.Module"]:
        key = build.__name__.replace("_", "-")
        if key in _entries:
            raise ValueError(f"{key} is registered twice")
        summary = (build.__doc__ or "").strip().split("\n")[0]
        _entries[key] = Entry(
            name=key,
            build=build,
            input=input,
            source=source,
            summary=summary,
            pretrained=pretrained,
            figure=figure,
            licence=licence,
        )
        return build

    return keep


def names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_entries))


def info(name: str) -> Entry:
    """The entry called `name`; `timm:NAME` stands for any network of timm.

    Raises:
        ModelError: there is none.
    """
    if name.startswith("timm:"):
        from mien.models.timm_net import timm_entry  # noqa: PLC0415 - it needs this module

        return timm_entry(name)
    if name not in _entries:
        raise ModelError(f"{name!r} is no network: use one of {', '.join(names())}, or timm:NAME")
    return _entries[name]


def create(name: str, num_classes: int = 7, **options: object) -> "nn.Module":
    """The network called `name` with random weights from torch's global generator.

    Raises:
        ModelError: there is no such network, or it has no such option.
    """
    entry = info(name)
    for option in options.keys() - signature(entry.build).parameters.keys():
        those = "networks of timm" if option in TIMM_OPTIONS else "other networks"
        raise ModelError(f"{name}: {option} is for {those}: leave it out")
    try:
        return entry.build(num_classes, **options)
    except (TypeError, ValueError) as error:  # an option that is out of range
        raise ModelError(f"{name}: {error}") from error
