"""Groups of pictures to rows: each picture stands for itself, all faces of a group share calls of the network."""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import pyarrow as pa

from mien.batch import reading, rows
from mien.batch.reading import Item
from mien.batch.rows import Scored
from mien.batch.work import Work
from mien.errors import ImageError
from mien.faces import detect
from mien.images import Photo
from mien.pipeline import Analyzer
from mien.runtime.predictor import Predictor

GROUP_IMAGES = 64  # at most, in one task of a thread: the network's own chunk
GROUP_BYTES = 16 << 20  # of encoded pictures that wait for a thread; a single picture may be larger
GROUP_PIXELS = 16_000_000  # decoded at a time in a thread, 48 MB; a single picture may be larger
PICTURE_FAULTS = (ImageError, ValueError, cv2.error, MemoryError)
"""What one odd picture can raise. A ModelError is no picture's fault and ends the job."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures of one shard that follow each other."""

    shard: int
    items: tuple[Item, ...]
    ends_shard: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """The rows of a group."""

    group: Group
    table: pa.Table
    faces: int
    errors: tuple[str, ...]  # `source: fault`, a picture each


def groups(shard: int, items: Iterable[Item]) -> Iterator[Group]:
    """A shard's items in groups, the last of which may be empty: a shard always ends."""
    held: list[Item] = []
    size = 0
    for item in items:
        held.append(item)
        size += len(item.data or b"")
        if len(held) == GROUP_IMAGES or size >= GROUP_BYTES:
            yield Group(shard, tuple(held), ends_shard=False)
            held, size = [], 0
    yield Group(shard, tuple(held), ends_shard=True)


class Scorer:
    """One network for all threads, and a detector for each: a detector serves one call at a time."""

    def __init__(self, work: Work, model: bytes) -> None:
        """Load the model once.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._predictor = Predictor(model, threads=1)  # threads are spent on pictures, not within a call
        self._detector = work.detector
        parameters = {**work.parameters, "provider": self._predictor.info.provider}
        self._provenance = {**work.provenance, "parameters": json.dumps(parameters, sort_keys=True)}
        self._schema = rows.schema_of(self._predictor.spec.labels)
        self._own = threading.local()

    @property
    def schema(self) -> pa.Schema:
        """Columns of every table."""
        return self._schema

    def score(self, group: Group) -> Scores:
        """Rows of a group of pictures, whatever is wrong with some of them."""
        scored = list(self._scored(group.items))
        table = rows.table_of(scored, self._schema, self._provenance)
        errors = tuple(f"{picture.source}: {picture.error}" for picture in scored if picture.error is not None)
        return Scores(group, table, sum(len(picture.faces) for picture in scored), errors)

    def _analyzer(self) -> Analyzer:
        if not hasattr(self._own, "analyzer"):
            self._own.analyzer = Analyzer(self._predictor, detect.create(self._detector))
        analyzer: Analyzer = self._own.analyzer
        return analyzer

    def _scored(self, items: Sequence[Item]) -> Iterator[Scored]:
        pictures: list[tuple[Item, Photo | Scored]] = []
        pixels = 0
        side_px = getattr(self._analyzer().detector, "max_side_px", None)
        for item in items:
            picture = _decoded(item, side_px)
            pictures.append((item, picture))
            pixels += 0 if isinstance(picture, Scored) else picture.image.shape[0] * picture.image.shape[1]
            if pixels >= GROUP_PIXELS:
                yield from self._together(pictures)
                pictures, pixels = [], 0
        yield from self._together(pictures)

    def _together(self, pictures: Sequence[tuple[Item, Photo | Scored]]) -> Iterator[Scored]:
        """Faces of decoded pictures in one call; where that fails, one by one, to find the picture at fault."""
        images = [picture for _, picture in pictures if not isinstance(picture, Scored)]
        try:
            faces = iter(self._analyzer().analyze_many(images))
        except PICTURE_FAULTS as error:
            for pair in pictures:
                yield from [_failed(pair[0], error)] if len(pictures) == 1 else self._together([pair])
            return
        for item, picture in pictures:
            if isinstance(picture, Scored):
                yield picture
            else:
                yield Scored(item.source, picture.width, picture.height, tuple(next(faces)))


def _decoded(item: Item, side_px: int | None) -> Photo | Scored:
    try:
        return reading.decode(item, side_px=side_px)
    except PICTURE_FAULTS as error:
        return _failed(item, error)


def _failed(item: Item, error: BaseException) -> Scored:
    return Scored(item.source, error=str(error) or type(error).__name__)
