"""Finished shards as Parquet files of their own, and the one table that they become."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mien.batch import stores
from mien.batch.stores import Folder
from mien.batch.work import Counts
from mien.errors import ConfigError, DataError

ROW_GROUP_ROWS = 65_536  # of the final table; also what assembling holds in memory
PART_ROWS = 8_192  # the same of a part
READERS = 16  # footers at a time: a store answers each after its own delay
COMPRESSION = "zstd"
NAME = re.compile(r"part-(\d{7,})\.parquet")
PREFIX = "mien."  # of the entries in the footer of a part
TABLE_KEY = "mien.batch"  # the entry in the footer of the table


def name_of(shard: int) -> str:
    """The file of a shard; names sort as the shards do."""
    return f"part-{shard:07}.parquet"


def finished(folder: Folder) -> set[int]:
    """Shards that have landed."""
    return {int(match[1]) for name in folder.names() if (match := NAME.fullmatch(name))}


class TableWriter:
    """A Parquet file written in row groups of `rows`, which is also what it keeps in memory."""

    def __init__(self, path: str, schema: pa.Schema, *, rows: int) -> None:
        """Create the file."""
        self._writer = pq.ParquetWriter(path, schema, compression=COMPRESSION)
        self._schema, self._rows = schema, rows
        self._held: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._held.append(table)
        if sum(map(len, self._held)) >= self._rows:
            self._flush()

    def close(self, metadata: Mapping[str, str]) -> None:
        """Write what is left, and `metadata` into the footer."""
        if self._held:
            self._flush()
        self._writer.add_key_value_metadata(dict(metadata))
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file."""
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows)
        self._held = []


@contextmanager
def table_in(folder: Folder, name: str, schema: pa.Schema, *, rows: int) -> Iterator[TableWriter]:
    """A table that comes into the folder in one step when the body has closed it, and not at all if it raises."""
    with folder.writing(name) as path:
        writer = TableWriter(path, schema, rows=rows)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise


def footer(job: str, shard: int, counts: Counts) -> dict[str, str]:
    """What a part says of itself."""
    about = {"job": job, "shard": shard, "images": counts.images, "faces": counts.faces, "errors": counts.errors}
    return {PREFIX + key: str(value) for key, value in about.items()}


def counts_of(folder: Folder, shards: Sequence[int], *, job: str) -> Counts:
    """The sum over finished shards, from their footers.

    Raises:
        DataError: a part is damaged, or of another job.
    """
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(lambda shard: _counts(folder, shard, job), shards), Counts())


def _counts(folder: Folder, shard: int, job: str) -> Counts:
    with _open_part(folder, shard, job) as part:
        return _counts_in(part)


def _counts_in(part: pq.ParquetFile) -> Counts:
    about = part.metadata.metadata
    return Counts(*(int(about[f"{PREFIX}{key}".encode()]) for key in ("images", "faces", "errors")))


def assemble(folder: Folder, shards: int, target: str, *, job: str, about: Mapping[str, Any]) -> Counts:
    """Write the parts, one after the other, as one Parquet file, in memory for `ROW_GROUP_ROWS` rows.

    `about` goes into its footer with the sum of the parts' counts, which is returned.

    Raises:
        DataError: a part is missing, damaged, or of another job; `target` is not touched then.
    """
    parent, name = folder_and_name(target)
    counts = Counts()
    with _open_part(folder, 0, job) as first:
        schema = first.schema_arrow.remove_metadata()
    with table_in(parent, name, schema, rows=ROW_GROUP_ROWS) as writer:
        for shard in range(shards):
            with _open_part(folder, shard, job) as part:
                counts += _counts_in(part)
                for group in range(part.num_row_groups):
                    with _faults_of(folder.place(name_of(shard))):
                        table = part.read_row_group(group)
                    writer.write(table.replace_schema_metadata(None))
        writer.close({TABLE_KEY: json.dumps({**about, "counts": asdict(counts)})})
    return counts


def about_table(address: str) -> dict[str, Any]:
    """What a finished table says of its job, and its counts; empty where it is none of `assemble`'s.

    Raises:
        ConfigError: it is no Parquet file that can be read.
    """
    try:
        with stores.open_file(address) as file:
            about = pq.ParquetFile(file).metadata.metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{address} exists and cannot be read ({error}): remove it, or name another OUT") from error
    return dict(json.loads(about.get(TABLE_KEY.encode(), b"{}")))


def folder_and_name(target: str) -> tuple[Folder, str]:
    """Where a file goes."""
    if stores.scheme_of(target) is None:
        return Folder(str(Path(target).parent)), Path(target).name
    parent, _, name = target.rpartition("/")
    return Folder(parent), name


@contextmanager
def _open_part(folder: Folder, shard: int, job: str) -> Iterator[pq.ParquetFile]:
    """A part of this job, open for reading."""
    place = folder.place(name_of(shard))
    with ExitStack() as stack:
        with _faults_of(place):
            part = pq.ParquetFile(stack.enter_context(stores.open_file(place)))
            about = part.metadata.metadata or {}
        if (about.get(b"mien.job"), about.get(b"mien.shard")) != (job.encode(), str(shard).encode()):
            raise DataError(f"{place} is of another job: remove it and go on with --resume")
        yield part


@contextmanager
def _faults_of(place: str) -> Iterator[None]:
    """What can go wrong with a part while it is read, as `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{place} is missing: go on with --resume, which makes it again") from error
    except pa.ArrowException as error:
        raise DataError(f"{place} is damaged ({error}): remove it and go on with --resume") from error
    except OSError as error:  # of the store or disk, or pyarrow's word for damage
        raise DataError(f"{place} cannot be read ({error}): go on with --resume; if it stays so, remove it") from error
