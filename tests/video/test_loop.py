"""The live loop: fresh frames only, faults where they are noticed, and how late results are."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mien.errors import VideoError
from mien.video.frames import ClosedAfterUse, Frame, SourceInfo
from mien.video.loop import Newest, PaceMeter
from tests.video.conftest import coded


class Ticking(ClosedAfterUse):
    """A source that gives a frame every 5 ms, until it is stopped."""

    info = SourceInfo("ticking", live=True)
    broken = 0
    fault = None

    def __init__(self, count: int = 100_000, *, error: Exception | None = None) -> None:
        self._count, self._error = count, error
        self._stopped = threading.Event()
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for number in range(self._count):
            if self._stopped.wait(0.005):
                return
            self.given = number + 1
            yield Frame(coded(number % 256), 0.005 * number, number)
        if self._error:
            raise self._error

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self.closed = True


def test_a_slow_reader_sees_fresh_frames_and_never_a_queue() -> None:
    source = Ticking()
    ages, indices = [], []
    with Newest(source) as newest:
        for frame in newest:
            ages.append(time.monotonic() - frame.captured_s)
            indices.append(frame.index)
            if len(indices) == 12:
                break
            time.sleep(0.04)  # eight frames come meanwhile
    assert np.median(ages) < 0.05  # a queue would add 35 ms with each
    assert indices == sorted(set(indices))
    assert newest.dropped > 12
    assert len(indices) + newest.dropped in range(source.given - 2, source.given + 1)
    assert source.closed


def test_the_last_frame_is_not_lost() -> None:
    with Newest(Ticking(1)) as newest:
        time.sleep(0.01)
        assert [frame.index for frame in newest] == [0]


def test_a_fault_of_the_source_comes_out_where_frames_are_read() -> None:
    with Newest(Ticking(1, error=VideoError("unplugged"))) as newest, pytest.raises(VideoError, match="unplugged"):
        list(newest)


def test_closed_while_waiting_it_ends() -> None:
    newest = Newest(Ticking())
    frames = iter(newest)
    next(frames)
    threading.Timer(0.05, newest.close).start()
    assert len(list(frames)) < 100


def test_closed_before_it_began() -> None:
    source = Ticking()
    Newest(source).close()
    assert source.closed


def test_pace() -> None:
    meter = PaceMeter(window_s=2.0)
    assert meter.add(0.0, now_s=0.03).rate_hz == 0
    for number in range(1, 101):  # 20 a second, each 30 ms late
        pace = meter.add(0.05 * number, now_s=0.05 * number + 0.03, dropped=number)
    assert pace.rate_hz == pytest.approx(20)
    assert pace.delay_ms == pytest.approx(30)
    assert pace.dropped == 100
    assert len(meter._results) <= 42
