"""The service in production: Granian in front of worker processes, each with its own models."""

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import cv2
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from mien import hub
from mien.errors import ConfigError
from mien.runtime import providers
from mien.runtime.cpus import available_cpus
from mien.runtime.predictor import Predictor
from mien.web import logs, metrics
from mien.web.app import create_app
from mien.web.edge import Edge
from mien.web.settings import Settings

LOG = logging.getLogger("_granian")  # of the process that watches the workers
CONNECTIONS = (
    4096  # of a worker at a time, each a file: Granian raises that limit of the system; more wait in the kernel
)
HEAD_MS = 10_000  # for the head of a request, from the connection or the last answer on
HEAD_BYTES = 64 * 1024  # of that head at most; times the connections, it is the largest part of what strangers can fill
PR_SET_PDEATHSIG = 1  # of prctl(2)
GRACE_S = 30  # for what is in flight when the service is told to stop
CRASHES, CRASH_WINDOW_S = 10, 10.0  # more exits of workers in that time mean a fault that starting again cannot heal
FAILED_STARTS = 3  # times the workers, in a row and while none serves: the same, however slowly they end


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen, and with how many processes."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2


def on_terminal(*streams: TextIO | None) -> bool:
    """Whether one of the streams is a terminal; None is a stream that a process began without."""
    return any(stream is not None and stream.isatty() for stream in streams)


class _Server(Granian):  # type: ignore[misc, valid-type]
    """Granian that puts a killed worker up again as often as it takes.

    Granian itself gives up when a worker ends twice within 5.5 s; a killed one is no reason to end the others.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._failed_starts = 0
        self._terminal = on_terminal(sys.stdin, sys.stdout, sys.stderr)

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """On SIGHUP: a terminal was closed, and the service ends with it; elsewhere new workers take over."""
        if self._terminal:
            self.signal_handler_interrupt()
        else:
            super().signal_handler_reload(*args, **kwargs)

    def _respawn_workers(self, workers: list[int], *args: Any, **kwargs: Any) -> None:
        served = metrics.workers_that_served(Path(os.environ[metrics.FOLDER]))
        self._failed_starts = 0 if served & {one.inner.pid for one in self.wrks} else self._failed_starts + len(workers)
        if self._failed_starts >= FAILED_STARTS * self.workers:
            LOG.error("no worker comes as far as to serve: ending")
            self.interrupt_children = workers  # so the exit code is 1
            self.signal_handler_interrupt()
            return
        super()._respawn_workers(workers, *args, **kwargs)
        self._crashes.extend([time.monotonic()] * len(workers))
        if len(self._crashes) < CRASHES or self._crashes[-1] - self._crashes[0] > CRASH_WINDOW_S:
            self.respawned_wrks.clear()


def app_from_environment() -> Edge:
    """What each worker process runs."""
    logs.configure()
    _end_with_parent()
    warnings.filterwarnings("ignore", module="PIL")  # about damaged files: an ImageError says it in one line
    if folder := os.environ.get(metrics.FOLDER):
        metrics.sweep_dead_workers(Path(folder))
    settings = Settings.from_environment()
    cv2.setNumThreads(settings.threads)  # or each worker's OpenCV takes all CPUs from the others
    app = create_app(settings)
    return Edge(app, settings, app.extensions["mien"].gate)


def _end_with_parent() -> None:
    """On Linux: a worker whose parent is killed ends as on SIGTERM, or it would keep the port and serve unwatched."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def check_models(settings: Settings) -> list[str]:
    """Load each model once, so that a wrong name ends the command and not every worker; gives their names.

    Raises:
        MienError: a model is unknown or corrupt, or the detector's file cannot be had.
    """
    hub.resolve(settings.detector)
    return [Predictor(providers.file_of(name), threads=1).spec.name for name in settings.models]


def free_address(address: Address) -> str:
    """The IP address of the host, whose port nobody has: Granian's sockets would share it, and its requests.

    Raises:
        OSError: somebody listens there, or the host is none of this machine.
    """
    family, _, _, _, (host, *_) = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an ended service do not count
        probe.bind((host, address.port))
    return str(host)


def serve(settings: Settings, address: Address) -> None:
    """Run until a signal ends it; requests in flight are finished first.

    Raises:
        ConfigError: the address cannot be listened on.
        OSError: there is no place for temporary files.
    """
    try:
        host = free_address(address)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"{address.host} is no address of this machine ({error}): choose another --host") from error
    except OSError as error:
        place = f"{address.host}:{address.port}"
        raise ConfigError(f"cannot listen on {place} ({error.strerror or error}): choose another --port") from error
    settings = replace(settings, threads=settings.threads or max(1, available_cpus() // address.workers))
    if multiprocessing.get_start_method(allow_none=True) is None:
        multiprocessing.set_start_method("spawn")  # forked workers would share the state of running threads
    with tempfile.TemporaryDirectory(prefix="mien-metrics-") as folder:
        os.environ.update(settings.to_environment())
        os.environ[metrics.FOLDER] = folder
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # or glibc keeps freed pictures in an arena a thread
        LOG.setLevel(logging.WARNING)
        server = _Server(
            "mien.web.serving:app_from_environment",
            address=host,
            port=address.port,
            interface=Interfaces.RSGI,
            factory=True,
            workers=address.workers,
            backpressure=CONNECTIONS,
            http=HTTPModes.http1,  # HTTP/2, which only proxies speak without TLS, would wait for ever for a request
            http1_settings=HTTP1Settings(header_read_timeout=HEAD_MS, max_buffer_size=HEAD_BYTES),
            websockets=False,
            respawn_failed_workers=True,
            workers_kill_timeout=GRACE_S,
            log_dictconfig=_log_config(),
        )
        server.serve()


def _log_config() -> dict[str, Any]:
    """Granian's own log in the form of ours."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"generic": {"()": "mien.web.logs.JsonLines"}, "access": {"()": "mien.web.logs.JsonLines"}},
        "handlers": {
            "console": {"formatter": "generic", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
            "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        },
        "loggers": {
            "_granian": {"handlers": ["console"], "level": "INFO", "propagate": False},
            "granian.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        },
    }
