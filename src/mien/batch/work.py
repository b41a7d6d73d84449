"""What a worker has to know, on this machine or another."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

PLAN_FILE = "_plan"  # in the folder of parts; readers of Parquet folders pass over names with `_` in front
JOB_FILE = "_job.json"
TRY_PREFIX = "_try-"  # how often a shard was begun and not landed


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job as its workers see it; pickles."""

    job: str  # digest of all that decides what the rows are
    folder: str  # of the parts and the plan: an address, or a path that every worker sees
    shards: int
    root: str  # where relative paths start
    column: str | None  # of Parquet sources
    detector: str
    version: str  # mien's
    provenance: Mapping[str, str]  # the last columns of every row, but for `parameters`
    parameters: Mapping[str, Any]  # to which the worker adds what ran its model
    witness: str | None = None  # a file of the source that the driver saw: a worker that does not must not go on


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a group of pictures, a shard, or a job."""

    images: int = 0
    faces: int = 0
    errors: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.images + other.images, self.faces + other.faces, self.errors + other.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """News from an engine: pictures that are done, and whether their shard has landed with them."""

    shard: int
    counts: Counts
    named: tuple[str, ...] = ()  # the first of the errors
    landed: bool = False


Engine = Callable[[Work, bytes, list[int]], Generator[Done]]
"""Scores the shards of a list with a model, lands each, in any order, and tells of it; closed, it stops."""
