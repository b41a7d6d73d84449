"""One family of errors. Each names the thing, the fault and the cure in one sentence."""

from importlib import import_module
from types import ModuleType


class MienError(Exception):
    """Anything that mien can explain. The command line prints it as one line, without a traceback."""


class ImageError(MienError):
    """A picture cannot be read, or is over a limit."""


class VideoError(MienError):
    """A film, stream or camera cannot be read, or a film or table not be written."""


class DataError(MienError):
    """A data set is missing, malformed, or has no images in a split that is needed."""


class ConfigError(MienError):
    """A recipe, setting or option is unknown or out of range."""


class ModelError(MienError):
    """A model is unknown, corrupt, or does not fit what is asked of it."""


class TrainingError(MienError):
    """Training cannot go on, for example because the loss is not finite."""


class DownloadError(MienError):
    """A file cannot be fetched, or what came is not what was pinned."""


class MissingExtraError(MienError):
    """An optional package is not installed."""


def first_sentence(error: Exception) -> str:
    """What went wrong; torch goes on with a page of advice."""
    return str(error).partition("\n")[0].partition(". ")[0]


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Raises:
        MissingExtraError: the package, or one that it imports, is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is missing: pip install 'mien[{extra}]'") from error
