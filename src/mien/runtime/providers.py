"""Which library runs a model: ONNX Runtime on the CPU, on CUDA or TensorRT, or OpenVINO; and whether int8 is worth it.

`MIEN_PROVIDER` names one, or `auto`, which is the default: CUDA where the installed ONNX Runtime has it and it works;
else what `mien bench --remember` found to be the fastest for this very model file on this machine; else the CPU
provider of ONNX Runtime. Every result names the provider, and the file that answered.
"""

import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort

from mien import hub
from mien.errors import ConfigError, ModelError
from mien.files import write_whole
from mien.runtime.session import EXECUTION_PROVIDERS, Session, create_session

VARIABLE = "MIEN_PROVIDER"
NAMES = ("cpu", "openvino", "cuda", "tensorrt")
DEFAULT, UNQUANTISED = "default", "default-fp16"  # one network, in int8 and in fp32 arithmetic


def installed() -> tuple[str, ...]:
    """The providers whose packages are here, `cpu` first; whether a GPU's works shows when a model is loaded."""
    inside = [name for name, (first, *_) in EXECUTION_PROVIDERS.items() if first in ort.get_available_providers()]
    beside = ["openvino"] if find_spec("openvino") is not None else []
    return tuple(name for name in NAMES if name in [*inside, *beside])


def open_session(
    model: bytes, *, name: str, sha256: str, threads: int | None = None, provider: str | None = None
) -> tuple[Session, str]:
    """The model on a provider, and that provider's name; None is `MIEN_PROVIDER`, or `auto`.

    Raises:
        ConfigError: the provider is unknown.
        MissingExtraError: its package is not installed.
        ModelError: the model cannot be loaded, or the named provider does not work on this machine.
    """
    wanted = provider or os.environ.get(VARIABLE) or "auto"
    if wanted not in (*NAMES, "auto"):
        raise ConfigError(f"{wanted!r} is no provider: set {VARIABLE} to auto, {', '.join(NAMES)}")
    if wanted != "auto":
        return _open(model, wanted, name=name, threads=threads), wanted
    if "cuda" in installed():
        try:
            return _open(model, "cuda", name=name, threads=threads), "cuda"
        except ModelError:  # no driver, or no GPU: a damaged model fails again below, and is reported there
            pass
    chosen = remembered().get(sha256, "cpu")
    try:
        return _open(model, chosen, name=name, threads=threads), chosen
    except ModelError:
        if chosen == "cpu":
            raise
    return _open(model, "cpu", name=name, threads=threads), "cpu"  # what was measured once works no longer


def _open(model: bytes, provider: str, *, name: str, threads: int | None) -> Session:
    if provider == "openvino":
        from mien.runtime.openvino import OpenVinoSession  # noqa: PLC0415 - most have no use for it

        return OpenVinoSession(model, name=name, threads=threads)
    session: Session = create_session(model, name=name, threads=threads, provider=provider)
    return session


def file_of(name_or_path: str | Path) -> Path:
    """As `hub.resolve`, but `default` is `default-fp16` where `mien bench --remember` found that int8 gains nothing.

    Where `MIEN_PROVIDER` names a provider, `default` is itself: what was measured may hold for another provider only.

    Raises:
        ModelError: nothing is called that.
        DownloadError: the file has to be fetched and cannot be.
    """
    path = hub.resolve(name_or_path)
    if (
        str(name_or_path) != DEFAULT
        or (os.environ.get(VARIABLE) or "auto") != "auto"
        or not (faster := _kept("default"))
    ):
        return path
    return hub.resolve(UNQUANTISED) if faster.get(hub.sha256_of(path)) == UNQUANTISED else path


def remember(fastest: Mapping[str, str], *, default: Mapping[str, str] | None = None) -> Path:
    """Keep what was measured on this machine; returns the file.

    `fastest` is the fastest provider by model hash, for `auto`; `default` is `DEFAULT` or `UNQUANTISED`, whichever is
    faster, by the hash of the default, for `file_of`.
    """
    path = _memory()
    tables = {"fastest": {**remembered(), **fastest}, "default": {**_kept("default"), **(default or {})}}
    write_whole(path, json.dumps({"machine": machine_key(), **tables}, indent=1))
    return path


def remembered() -> dict[str, str]:
    """The fastest provider by model hash; empty on another machine, with other versions, or before any measurement."""
    here = installed()
    return {model: name for model, name in _kept("fastest").items() if name in here}


def _kept(table: str) -> dict[str, str]:
    """A table by model hash of what was measured on this very machine."""
    try:
        kept = json.loads(_memory().read_text(encoding="utf-8"))
        if kept["machine"] != machine_key():
            return {}
        return {str(model): str(name) for model, name in kept[table].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or damaged, which is as good
        return {}


def machine_key() -> str:
    """What a measurement holds for: the CPU and the versions of the libraries."""
    libraries = (f"{package} {_version(package)}" for package in ("onnxruntime", "openvino"))
    return ", ".join([cpu_name(), platform.machine(), *libraries])


@cache
def cpu_name() -> str:
    """The CPU's name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow, and needed by few

    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _memory() -> Path:
    return hub.home() / "providers.json"
