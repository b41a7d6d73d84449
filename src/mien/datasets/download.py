"""FER-2013 from Kaggle with the user's own token, and FER+ from its repository; checked, and safe to run again."""

import contextlib
import hashlib
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from mien import hub
from mien.datasets.layout import list_items
from mien.datasets.packed import replace_folder
from mien.datasets.trees import FolderTree, folder_sha256
from mien.errors import DataError, DownloadError, MissingExtraError, require

FERPLUS_URL = "https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv"
FERPLUS_URL_VARIABLE = "MIEN_FERPLUS_URL"
"""Environment variable that names a mirror of the FER+ file; what comes from there is checked all the same."""
FERPLUS_SIZE = 1_602_762  # bytes
FERPLUS_SHA256 = "9206e20d62f56475939f516847d61753e4860caeac9718b560129541b776fc2c"

FER2013_HANDLE = "msambare/fer2013"
FER2013_COUNTS = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}
FER2013_SHA256 = "ac94398e2e108f8b0f678794021ed8685e10477d05b2b232c7f32a10d179e63d"
"""`folder_sha256` of the 32,298 Training and PublicTest files; PrivateTest is counted only, as it was held out."""

FER2013_BY_HAND = (
    "fetch it by hand: sign in at https://www.kaggle.com/datasets/msambare/fer2013, press Download, "
    "and give the zip to `mien data prepare`"
)
FERPLUS_BY_HAND = f"fetch it by hand: save {FERPLUS_URL} and give it to `mien data prepare --ferplus`"


def download_ferplus(out: Path, *, progress: hub.Progress | None = None) -> Path:
    """Fetch `fer2013new.csv` into the folder `out`, unless it is there.

    Raises:
        DownloadError: it cannot be fetched, or is not the pinned file; the message says how to fetch it by hand.
    """
    url = os.environ.get(FERPLUS_URL_VARIABLE) or FERPLUS_URL
    path = out / "fer2013new.csv"
    try:
        return hub.download(url, path, size=FERPLUS_SIZE, sha256=FERPLUS_SHA256, progress=progress)
    except DownloadError as error:
        raise DownloadError(f"{error}; or {FERPLUS_BY_HAND}") from error


def download_fer2013(out: Path) -> Path:
    """Fetch FER-2013's folders from Kaggle into `out`/fer2013, unless they are there, whole and unchanged.

    Kaggle's client finds the user's token itself (KAGGLE_API_TOKEN, or ~/.kaggle), shows its progress on stderr, and
    goes on with a download that was cut.

    Raises:
        DownloadError: Kaggle cannot be reached or refuses, or what came is not FER-2013; the message says how to fetch
            it by hand.
        MissingExtraError: the extra `data` is not installed.
    """
    target = out / "fer2013"
    if target.is_dir() and not fer2013_fault(target):
        return target
    fetched = _fetch_from_kaggle()
    if fault := fer2013_fault(fetched):
        raise DownloadError(f"{fetched} is not FER-2013 as Kaggle has it: {fault}; or {FER2013_BY_HAND}")
    partial = target.with_name("fer2013.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(fetched, partial)
        replace_folder(partial, target)
    except OSError as error:
        raise DownloadError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def fer2013_fault(folder: Path) -> str:
    """What is wrong with a FER-2013 folder, against the pinned counts and hash; empty where nothing is."""
    try:
        items = list_items(FolderTree(folder).entries(), str(folder)).items
        found = Counter(item.usage for item in items)
        for usage, n in FER2013_COUNTS.items():
            if found[usage] != n:
                return f"{found[usage]:,} {usage} images, not {n:,}"
        hashes = {
            item.path: hashlib.sha256((folder / item.path).read_bytes()).hexdigest()
            for item in items
            if item.usage in ("Training", "PublicTest")
        }
    except (OSError, DataError) as error:
        return str(error)
    return "" if folder_sha256(hashes) == FER2013_SHA256 else "its files have other content than the published ones"


def _fetch_from_kaggle() -> Path:
    try:
        kagglehub = require("kagglehub", "data")
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}; or {FER2013_BY_HAND}") from error
    own = [kind for kind in vars(kagglehub.exceptions).values() if isinstance(kind, type)]
    faults: tuple[type[Exception], ...] = (OSError, ValueError, *(kind for kind in own if issubclass(kind, Exception)))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for data
            return Path(kagglehub.dataset_download(FER2013_HANDLE))
    except faults as error:
        reason = " ".join(str(error).split())[:300]
        raise DownloadError(
            f"Kaggle does not give {FER2013_HANDLE}: {reason}; put your token (kaggle.com, Settings, API) into "
            f"~/.kaggle or KAGGLE_API_TOKEN, or {FER2013_BY_HAND}"
        ) from error
