"""A shard's pictures in order, as bytes or as a place to read them from; what cannot be read is an item as well."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mien.batch import sources, stores
from mien.batch.sources import FILE, PARQUET, Unit
from mien.errors import ConfigError, ImageError
from mien.images import DEFAULT_LIMITS, Photo, is_picture, read_photo

ROWS = 16  # of pictures in a Parquet file, in memory at a time
TAR_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error)


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to be; exactly one of `data`, `address` and `error` is set."""

    source: str  # what the table calls it
    data: bytes | None = None
    address: str | None = None  # still to be read
    error: str | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it waits for a store."""
        return self.address is not None and stores.scheme_of(self.address) is not None


class _Whole(tarfile.TarInfo):
    """A member whose header is damaged or cut is an error; `tarfile` takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed leaves it out
            raise  # the two blocks that end an archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"breaks off: {error}") from error


class _Named(io.BytesIO):
    """Bytes that errors call by their source."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def items(unit: Unit, *, root: str, column: str | None = None) -> Iterator[Item]:
    """The pictures of a unit; relative paths start at `root`, whatever the working folder of this process."""
    if unit.kind == FILE:
        yield _file(unit.address, root)
    elif unit.kind == PARQUET:
        yield from _rows(unit, root, column)
    else:
        yield from _members(unit, root)


def fetch(item: Item) -> Item:
    """Bring the bytes of a picture in a store; others pass."""
    if not item.is_remote:
        return item
    assert item.address is not None
    try:
        data = stores.read_file(item.address, limit=DEFAULT_LIMITS.max_bytes + 1)
    except (OSError, ConfigError) as error:
        missing = isinstance(error, FileNotFoundError)
        return Item(item.source, error="no such file: check the path" if missing else f"cannot be read ({error})")
    return replace(item, data=data, address=None)


def decode(item: Item, *, side_px: int | None = None) -> Photo:
    """The picture, upright RGB; a JPEG no larger than a detector that looks at `side_px` needs it.

    Raises:
        ImageError: it cannot be read; the message does not repeat the source.
    """
    if item.error is not None:
        raise ImageError(item.error)
    name = item.source if item.address is None else item.address
    try:
        return read_photo(name if item.data is None else _Named(item.data, name), side_px=side_px)
    except ImageError as error:
        raise ImageError(str(error).removeprefix(f"{name}: ").removeprefix(f"{name!r}: ")) from error


def _file(address: str, root: str) -> Item:
    return Item(address, address=absolute(address, root))


def absolute(address: str, root: str) -> str:
    """A local path as it is opened from any working folder; addresses of stores as they are."""
    return address if stores.scheme_of(address) else str(Path(root, address))


def _rows(unit: Unit, root: str, column: str | None) -> Iterator[Item]:
    """Rows of a Parquet file: paths are called by themselves, bytes `file.parquet#12` by the number of their row."""
    number = 0
    try:
        with stores.open_file(absolute(unit.address, root)) as file:
            table = pq.ParquetFile(file, pre_buffer=False)
            name = sources.picture_column(table.schema_arrow, unit.address, column)
            number = sum(table.metadata.row_group(i).num_rows for i in range(unit.first))
            groups = list(range(unit.first, unit.last))
            for batch in table.iter_batches(ROWS, row_groups=groups, columns=[name]):
                for value in _values(batch.column(0)):
                    yield _cell(value, f"{unit.address}#{number}", root)
                    number += 1
    except (OSError, pa.ArrowException) as error:
        yield Item(f"{unit.address}#{number}", error=f"this row and those after it cannot be read ({error})")


def _values(column: pa.Array) -> list[Any]:
    """The cells of a column of pictures; text that is no UTF-8 has its odd bytes escaped, as in a list."""
    kind = column.type
    if pa.types.is_struct(kind):
        fields = zip([kind.field(i).name for i in range(kind.num_fields)], column.flatten(), strict=True)
        values = {name: _values(field) for name, field in fields if name in ("bytes", "path")}
        return [dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True)]
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        cells = column.cast(pa.large_binary()).to_pylist()
        return [cell if cell is None else cell.decode("utf-8", "surrogateescape") for cell in cells]
    return list(column.to_pylist())


def _cell(value: Any, source: str, root: str) -> Item:
    """A cell of bytes, of a path, or a struct of both, of which the bytes go first."""
    if isinstance(value, dict):
        data = value.get("bytes")
        value = data if data is not None else value.get("path")
    if isinstance(value, bytes):
        return Item(source, data=value)
    if isinstance(value, str) and value:
        return _file(stores.local_form(value), root)
    return Item(source, error="the row holds no picture")


def _members(unit: Unit, root: str) -> Iterator[Item]:
    """Pictures of a tar archive, called `archive.tar#member`; other members are what WebDataset keeps beside them."""
    last = "its first member"
    try:
        with (
            stores.open_file(absolute(unit.address, root)) as file,
            tarfile.open(fileobj=file, mode="r|*", tarinfo=_Whole) as archive,
        ):
            for member in archive:
                if member.isfile() and is_picture(member.name):
                    yield _member(archive, member, f"{unit.address}#{member.name}")
                    last = member.name
    except TAR_DAMAGE as error:
        yield Item(unit.address, error=f"cannot be read after {last} ({error}): copy or download it again")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, source: str) -> Item:
    if member.size > DEFAULT_LIMITS.max_bytes:
        return Item(source, error=f"more than {DEFAULT_LIMITS.max_bytes / 2**20:,.0f} MiB: save it smaller")
    file = archive.extractfile(member)
    assert file is not None, "a regular member has content"
    return Item(source, data=file.read())
