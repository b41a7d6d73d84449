"""What SOURCE names, as units of work in a fixed order: picture files, tar archives, row groups of Parquet files."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from mien.batch import stores
from mien.errors import ConfigError, DataError
from mien.images import is_picture

FILE, TAR, PARQUET = "file", "tar", "parquet"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LIST_SUFFIXES = (".txt", ".lst", ".list")
BYTES_COLUMNS = ("bytes", "image", "image_bytes", "jpg", "jpeg", "png", "webp", "content", "data", "img")
PATH_COLUMNS = ("path", "file", "file_path", "filepath", "filename", "file_name", "image_path", "url", "uri")
COLUMNS = (*BYTES_COLUMNS, *PATH_COLUMNS)
"""Names under which pictures, or where they are, stand in Parquet files; the first one that is there is read."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read in one go."""

    kind: str  # FILE, TAR or PARQUET
    address: str
    first: int = 0  # row groups of a Parquet file: from `first` up to, not including, `last`
    last: int = 0
    images: int | None = 1  # as far as is known before reading
    state: str = ""  # what tells another version of the file from this one: its size


def listing(
    source: str, *, column: str | None = None, skip: Callable[[str], None] = lambda _path: None
) -> Iterator[Unit]:
    """The units behind SOURCE, always in the same order: a folder, glob, list, or single file, here or in a store.

    Folders are searched with all below them, their own files first, each by name. `column` is what to read of
    Parquet files. `skip` hears of each file of a folder or glob that is left out for its name.

    Raises:
        DataError: nothing is there, or a Parquet file lacks the column or is damaged.
        ConfigError: the store cannot be opened, or `column` is given and no Parquet file is there.
    """
    found = tables = False
    for address in _addresses(stores.local_form(source), skip):
        tables = tables or _is_table(address)
        for unit in _units(address, column):
            found = True
            yield unit
    if not found:
        raise DataError(f"{source}: no pictures there: name a folder, glob, list, tar or Parquet file that holds some")
    if column is not None and not tables:
        raise ConfigError(f"{source}: holds no Parquet file that could have a column {column!r}: leave out --column")


def _addresses(source: str, skip: Callable[[str], None]) -> Iterator[str]:
    """Files behind SOURCE, or in a list of them."""
    if source.lower().endswith(LIST_SUFFIXES) and not any(sign in source for sign in "*?["):
        return _lines(source)
    return _matches(source, skip) if stores.scheme_of(source) is None else _remote_matches(source, skip)


def _lines(source: str) -> Iterator[str]:
    try:
        with stores.open_file(source) as file:
            for number, line in enumerate(file):
                text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")  # names need not be Unicode
                if address := text if number else text.removeprefix("\ufeff"):
                    yield stores.local_form(address)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}): check the path") from error


def _matches(source: str, skip: Callable[[str], None]) -> Iterator[str]:
    if os.path.isdir(source):  # noqa: PTH112 - keeps the source as typed
        yield from _inputs(_walk(source), skip)
    elif any(sign in source for sign in "*?[") and not os.path.lexists(source):
        # `**` matches files and the folders that hold them: only there is what was found kept, to be found once
        yield from _inputs(dict.fromkeys(_globbed(source)) if "**" in source else _globbed(source), skip)
    elif os.path.lexists(source):
        yield source
    else:
        raise DataError(f"{source}: no such file or folder: check the path")


def _inputs(paths: Iterable[str], skip: Callable[[str], None]) -> Iterator[str]:
    for path in paths:
        if is_input(path):
            yield path
        else:
            skip(path)


def _globbed(source: str) -> Iterator[str]:
    for match in sorted(glob(source, recursive=True)):  # noqa: PTH207 - keeps the source as typed
        if os.path.isdir(match):  # noqa: PTH112
            yield from _walk(match)
        else:
            yield match


def _walk(folder: str) -> Iterator[str]:
    """Files below a folder; a folder that may not be searched is an error, or its pictures would be missing."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: may not be searched ({error.strerror}): check its permissions") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(parent, name) for name in sorted(names))  # noqa: PTH118


def _remote_matches(source: str, skip: Callable[[str], None]) -> Iterator[str]:
    scheme = stores.scheme_of(source)
    fs, path = stores.open_store(source)
    assert scheme is not None
    try:
        if scheme in stores.WEB_SCHEMES:
            paths = [path]
        elif any(sign in path for sign in "*?["):
            paths = list(_inputs(stores.patiently(lambda: fs.glob(path)), skip))
        elif stores.patiently(lambda: fs.isfile(path)):
            paths = [path]
        else:
            paths = list(_inputs(stores.patiently(lambda: fs.find(path)), skip))
    except OSError as error:
        raise DataError(f"{source}: cannot be listed ({error}): check the address and your access") from error
    yield from (stores.address_of(scheme, match) for match in sorted(paths))


def is_input(path: str) -> bool:
    """Whether a file in a folder is taken, by its name; hidden ones are not."""
    name = PurePath(path).name.lower()
    return not name.startswith((".", "_")) and (name.endswith((*TAR_SUFFIXES, ".parquet")) or is_picture(name))


def _units(address: str, column: str | None) -> Iterator[Unit]:
    name = address.lower()
    if name.endswith(TAR_SUFFIXES):
        yield Unit(TAR, address, images=None, state=str(_size(address)))
    elif _is_table(address):
        yield from _row_groups(address, column)
    else:
        yield Unit(FILE, address)


def _is_table(address: str) -> bool:
    return address.lower().endswith(".parquet")


def _size(address: str) -> int:
    try:
        return stores.size_of(address)
    except FileNotFoundError as error:
        raise DataError(f"{address}: is not there, or its server does not answer: check the path") from error
    except OSError as error:
        raise DataError(f"{address}: cannot be opened ({error.strerror or error}): check the path") from error


def _row_groups(address: str, column: str | None) -> Iterator[Unit]:
    size = _size(address)
    try:
        with stores.open_file(address) as file:
            about = pq.ParquetFile(file)
            picture_column(about.schema_arrow, address, column)
            for number in range(about.num_row_groups):
                rows = about.metadata.row_group(number).num_rows
                yield Unit(PARQUET, address, number, number + 1, images=rows, state=str(size))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{address}: is no Parquet file that can be read ({error}): copy it again") from error


def picture_column(schema: pa.Schema, address: str, wanted: str | None) -> str:
    """The column of pictures: bytes, paths, or a struct of both, as Hugging Face's data sets have.

    Raises:
        DataError: there is none, or `wanted` is not there or of another type.
    """
    names = (wanted,) if wanted else COLUMNS
    name = next((name for name in names if name in schema.names and _holds_pictures(schema.field(name).type)), None)
    if name is None:
        what = f"no column {wanted!r} of bytes or text" if wanted else "no column of pictures or paths that mien knows"
        raise DataError(f"{address}: has {what}; of {', '.join(schema.names)}, name one with --column")
    return name


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_pictures(kind.field(i).type) for i in range(kind.num_fields) if _named(kind, i))
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(is_bytes(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _named(kind: pa.StructType, index: int) -> bool:
    return kind.field(index).name in ("bytes", "path")


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds the pictures themselves."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
