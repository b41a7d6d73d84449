"""Pictures to try the page with: portraits that a package ships or `mien demo` has fetched, and a drawing."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mien import hub
from mien.files import in_package


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A picture and how the page presents it."""

    name: str  # in its address
    title: str
    credit: str
    path: Path
    mimetype: str


DRAWING = Sample(
    name="drawn-faces.webp",
    title="Four drawn faces",
    credit="drawn for mien",
    path=Path(__file__).parent / "static" / "img" / "drawn-faces.webp",
    mimetype="image/webp",
)
"""What every installation has."""
CANDIDATES = (
    (
        "grace-hopper.jpg",
        "Grace Hopper",
        "US Navy, public domain",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
    ),
    ("astronaut.png", "Eileen Collins", "NASA, public domain", "skimage", "data/astronaut.png"),
)
"""Address, title, credit, package that ships it, place in the package."""


@cache
def available() -> tuple[Sample, ...]:
    """Those that this installation has; nothing is fetched."""
    portraits = tuple(
        Sample(name=name, title=title, credit=credit, path=path, mimetype=_mimetype(name))
        for name, title, credit, package, place in CANDIDATES
        if (path := in_package(package, place) or _cached(name)) is not None
    )
    return (*portraits, DRAWING)


def _cached(name: str) -> Path | None:
    """The portrait that `mien demo` fetched, if it has run."""
    path = hub.home() / name.replace("-", "_")
    return path if path.is_file() else None


def _mimetype(name: str) -> str:
    return "image/png" if name.endswith(".png") else "image/jpeg"
