"""Pictures out of a request: in memory only, their names and types not believed."""

import io
import unicodedata
from typing import IO, Any

import flask
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Request

from mien.images import Photo
from mien.pipeline import Analyzer
from mien.web.errors import Problem

MAX_NAME = 120  # characters of a file name that are repeated in the answer


class MemoryRequest(flask.Request):
    """A request whose files never touch a disk: Werkzeug's own spools those over 500 kB to a temporary file."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> IO[bytes]:
        """The size of the whole body is limited, so memory is."""
        return io.BytesIO()

    def make_form_data_parser(self) -> FormDataParser:
        """One that tells of damage: Werkzeug's own takes a damaged form for an empty one."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _load_form_data(self) -> None:
        """Unpack the form.

        Raises:
            Problem: it is damaged, or has too many parts.
        """
        try:
            super()._load_form_data()
        except UnicodeDecodeError as error:
            raise Problem(400, "the names of fields and files must be UTF-8") from error
        except ValueError as error:
            raise Problem(400, "the form is damaged or cut off: its parts are not as its boundary says") from error
        except RequestEntityTooLarge as error:
            if (self.content_length or 0) > (self.max_content_length or 0):
                raise
            raise Problem(413, "the form has too many parts, or a long text where a file belongs") from error


def check_multipart(request: Request) -> None:
    """Refuse other bodies by name, before their fields are missed.

    Raises:
        Problem: the body is not multipart/form-data.
    """
    if request.mimetype != "multipart/form-data":
        sent = request.mimetype or "an untyped body"
        raise Problem(415, f"send multipart/form-data with a field `image`, not {sent}")


def check_files(request: Request) -> None:
    """Refuse a text in the place of a picture, which the parser keeps apart from the files.

    Raises:
        Problem: the field `image` is no file, or one of several is none.
    """
    if "image" in request.form:
        raise Problem(422, "image: a text came in place of a file: send the file, with curl as -F image=@photo.jpg")


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
