"""The engine of one process: threads that decode, detect and classify, fed and emptied through bounded queues.

One thread does all that a group of pictures needs, so pictures wait nowhere; OpenCV and ONNX Runtime start no threads
of their own beneath it. Work runs ahead of the thread that writes by a fixed number of groups: memory stays flat.
"""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from types import TracebackType
from typing import TypeVar

import cv2

from mien.batch import analysis, parts, plan, reading, stores
from mien.batch.analysis import Scorer, Scores
from mien.batch.reading import Item
from mien.batch.sources import PARQUET, Unit
from mien.batch.stores import Folder
from mien.batch.work import PLAN_FILE, Counts, Done, Engine, Work
from mien.runtime.cpus import available_cpus

FETCHES = 16  # pictures of a store on their way at a time
NAMED = 20  # errors of a shard that are reported in words; the table has all

In = TypeVar("In")
Out = TypeVar("Out")


def ordered(pool: ThreadPoolExecutor, call: Callable[[In], Out], inputs: Iterable[In], *, ahead: int) -> Iterator[Out]:
    """`map` over a pool, in order, of which at most `ahead` inputs are taken before their turn."""
    waiting: deque[Future[Out]] = deque()
    try:
        for each in inputs:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(call, each))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class LocalEngine:
    """Threads with a loaded model; a context that gives OpenCV's threads back at its end."""

    def __init__(self, work: Work, model: bytes, *, threads: int) -> None:
        """Load the model; `threads` is the number of CPUs to use."""
        self._work, self._threads = work, threads
        self._folder = Folder(work.folder)
        self._scorer = Scorer(work, model)
        self._stack = ExitStack()

    def __enter__(self) -> "LocalEngine":
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        self._stack.callback(cv2.setNumThreads, before)
        self._stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="PIL")  # about damage and size: the column `error` says it
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self._threads, "mien-analyse"))
        self._fetchers = self._stack.enter_context(ThreadPoolExecutor(FETCHES, "mien-fetch"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self._pool, self._fetchers):  # after an error, what is still in line is for nobody
            pool.shutdown(cancel_futures=True)
        self._stack.close()

    def run(self, shards: Iterable[int]) -> Iterator[Done]:
        """Score shards in order and land each; news after every group."""
        groups = chain.from_iterable(analysis.groups(shard, self._items(shard)) for shard in shards)
        scored = ordered(self._pool, self._scorer.score, groups, ahead=2 * self._threads)
        for first in scored:
            yield from self._land(first, scored)

    def _land(self, scores: Scores, others: Iterator[Scores]) -> Iterator[Done]:
        """Write one shard, whose first group is scored and whose others follow."""
        shard, counts, room = scores.group.shard, Counts(), NAMED
        with parts.table_in(self._folder, parts.name_of(shard), self._scorer.schema, rows=parts.PART_ROWS) as writer:
            while True:
                writer.write(scores.table)
                news = Counts(len(scores.group.items), scores.faces, len(scores.errors))
                counts += news
                if scores.group.ends_shard:
                    break
                yield Done(shard=shard, counts=news, named=scores.errors[:room])
                room = max(0, room - len(scores.errors))
                scores = next(others)
            writer.close(parts.footer(self._work.job, shard, counts))
        yield Done(shard=shard, counts=news, named=scores.errors[:room], landed=True)

    def _items(self, shard: int) -> Iterator[Item]:
        units = plan.read(self._folder.place(PLAN_FILE), shard, shards=self._work.shards)
        found = (item for unit in units for item in reading.items(unit, root=self._work.root, column=self._work.column))
        return ordered(self._fetchers, reading.fetch, found, ahead=2 * FETCHES) if _remote(units) else found


def _remote(units: Iterable[Unit]) -> bool:
    """Whether pictures may have to be fetched one by one."""
    return any(unit.kind == PARQUET or stores.scheme_of(unit.address) for unit in units)


def engine(threads: int | None) -> Engine:
    """The engine with so many threads; None is one a CPU at hand."""

    def run(work: Work, model: bytes, shards: list[int]) -> Generator[Done]:
        with LocalEngine(work, model, threads=threads or available_cpus()) as local:
            yield from local.run(shards)

    return run
