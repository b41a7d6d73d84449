"""Pictures out of a request: in memory only, their names and types not believed."""

import io
import unicodedata
from typing import IO, Any

import flask
from werkzeug.datastructures import FileStorage

from mien.images import Photo
from mien.pipeline import Analyzer

MAX_NAME = 120  # characters of a file name that are repeated in the answer


class MemoryRequest(flask.Request):
    """A request whose files never touch a disk: Werkzeug's own spools those over 500 kB to a temporary file."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> IO[bytes]:
        """The size of the whole body is limited, so memory is."""
        return io.BytesIO()


class Upload:
    """One picture of a request."""

    def __init__(self, storage: FileStorage) -> None:
        """Take over the bytes of a form file."""
        self.name = clean_name(storage.filename)
        self._file = storage.stream

    def read(self, analyzer: Analyzer) -> Photo:
        """The picture as the analyzer reads it; its kind is told by its first bytes alone.

        Raises:
            ImageError: it is none, is damaged, or is over a limit; the message starts with the picture's name.
        """
        return analyzer.read(_Named(self._file, self.name))  # type: ignore[arg-type]


class _Named:
    """A file object under the name that messages use."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def clean_name(name: str | None) -> str:
    """A client's file name without folders and unprintable characters, shortened; `upload` where nothing is left."""
    base = (name or "").replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in base if unicodedata.category(letter)[0] != "C").strip()
    return printable[:MAX_NAME] or "upload"
