"""Ctrl-C that ends a long piece of work and leaves its files whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANG_UP = getattr(signal, "SIGHUP", None)  # a terminal that is closed, a lost connection; Windows has none
INTERRUPTED = 130  # the exit code, as shells say of a command that Ctrl-C ended


class Interruption:
    """Inside it, a signal ends reading and computing at once, and writing when what is begun is written."""

    def __init__(self) -> None:
        self.asked = False
        self._writing = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no signals
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
            if HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN:  # nohup ignores it: so it stays
                self._before[HANG_UP] = signal.signal(HANG_UP, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is done here is done to its end."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self._writing:
            raise KeyboardInterrupt
