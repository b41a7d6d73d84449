"""Runs one job in a child that is killed at random moments, again and again, then to its end. Run by test_kill.py.

    python tests/batch/killer.py KILLS SEED SOURCE OUT MODEL

A process of its own: it forks with everything imported and no thread running, so that a child starts in no time.
Prints how many shards had landed at each kill.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from mien.batch import job, local, parts
from mien.batch.job import Settings
from mien.batch.stores import Folder
from tests.batch.conftest import Silent


def work(source: str, output: str, model: str) -> None:
    """The whole job, from wherever it stands."""
    settings = Settings(source=source, output=output, model=model, detector="none", shard_images=8, resume=True)
    job.run(settings, local.engine(1), watch=Silent())


def landed(output: str) -> int:
    """Shards that have landed; -1 when the table is there."""
    return -1 if Path(output).exists() else len(parts.finished(Folder(output + job.PARTS_SUFFIX)))


def main() -> None:
    """Kill, kill, and finish."""
    kills, seed, *arguments = sys.argv[1:]
    rng = random.Random(int(seed))
    output = arguments[1]
    for _ in range(int(kills)):
        before = landed(output)
        child = os.fork()
        if not child:
            work(*arguments)
            os._exit(0)
        ends_s = time.monotonic() + 30
        while landed(output) == before and time.monotonic() < ends_s:  # it has to come on, or nothing would be tested
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))  # anywhere: in a picture, a write, a rename, or the last assembling
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.stdout.write(f"{landed(output)}\n")
        sys.stdout.flush()
    work(*arguments)


if __name__ == "__main__":
    main()
