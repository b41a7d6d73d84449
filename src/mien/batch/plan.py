"""The work cut into shards, on disk: one JSON line a shard, then where each line begins, so that any one is read alone.

A listing of a hundred million files would not fit into memory; a plan takes 8 bytes a shard there.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from mien.batch import stores
from mien.batch.sources import PARQUET, TAR, Unit
from mien.errors import DataError

OFFSET_BYTES = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a plan without opening it."""

    sha256: str  # of all shards: equal hashes are the same work
    shards: int
    images: int | None  # None where archives count theirs only when they are read

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return asdict(self)


def cut(units: Iterable[Unit], *, shard_images: int) -> Iterator[list[Unit]]:
    """Units in shards of at least `shard_images` images, except the last one; a tar archive is a shard of its own.

    Row groups of one Parquet file that follow each other become one unit.
    """
    shard: list[Unit] = []
    images = 0
    for unit in units:
        if unit.kind == TAR:
            yield from [shard] if shard else []
            yield [unit]
            shard, images = [], 0
            continue
        _append(shard, unit)
        images += unit.images or 0
        if images >= shard_images:
            yield shard
            shard, images = [], 0
    if shard:
        yield shard


def _append(shard: list[Unit], unit: Unit) -> None:
    last = shard[-1] if shard else None
    if last and unit.kind == last.kind == PARQUET and (unit.address, unit.first) == (last.address, last.last):
        images = (last.images or 0) + (unit.images or 0)
        shard[-1] = Unit(PARQUET, unit.address, last.first, unit.last, images, unit.state)
    else:
        shard.append(unit)


def write(path: Path, shards: Iterable[list[Unit]], *, watch: Callable[[int], None] | None = None) -> Plan:
    """Write shards to `path`; `watch` is told the number of units from time to time."""
    digest = hashlib.sha256()
    offsets = array("q", [0])
    units, images = 0, 0
    known = True
    with path.open("wb") as file:
        for shard in shards:
            line = (json.dumps([astuple(unit) for unit in shard]) + "\n").encode("ascii")  # lone surrogates escaped
            digest.update(line)
            file.write(line)
            offsets.append(offsets[-1] + len(line))
            known = known and all(unit.images is not None for unit in shard)
            images += sum(unit.images or 0 for unit in shard)
            units += len(shard)
            if watch:
                watch(units)
        file.write(offsets.tobytes())
    return Plan(digest.hexdigest(), len(offsets) - 1, images if known else None)


def read(address: str, number: int, *, shards: int) -> list[Unit]:
    """Shard `number` of the plan of `shards` shards at `address`.

    Raises:
        DataError: the plan cannot be read, or is damaged.
    """
    try:
        with stores.open_file(address) as file:
            file.seek(stores.size_of(address) - (shards + 1 - number) * OFFSET_BYTES)
            start, end = array("q", file.read(2 * OFFSET_BYTES))
            file.seek(start)
            return [Unit(*fields) for fields in json.loads(file.read(end - start))]
    except OSError as error:
        cure = "go on with --resume when it can"
        raise DataError(f"{address}: the plan of the job cannot be read ({error}): {cure}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{address}: the plan of the job is damaged ({error}): start the job anew") from error
