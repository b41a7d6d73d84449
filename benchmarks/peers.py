"""mien and its peers on the same face crops, in one run, in turn.

    python benchmarks/peers.py --data DATA [--limit N] [--only fer "mien default"]

installs each peer into an environment of its own (once; fer and what-the-face bring several gigabytes), starts
all of them, and measures on FER-2013's PublicTest (the validation split of a packed data set): accuracy with its
interval, macro-F1, log-loss, ECE; latency of one crop and throughput of 64 in a call, round after round with every peer
in turn, so that whatever else the machine does meets all; time from the start of the process to the first prediction;
size of the environment. Every peer runs with its own preprocessing and its own number of threads, past its face
detector: crops go in, probabilities come out.

Writes results/peers.json, and from it a section of docs/benchmarks.md and its picture. `--page` only writes
these again. With cached environments the whole takes about five minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import PAGE
from peer_environments import PEERS, Environment, InstallError, Peer, prepare
from peers_page import write_page

from mien import bench, hub
from mien.datasets import packed
from mien.evaluation import metrics
from mien.labels import FER7
from mien.runtime.predictor import Predictor

ROOT = Path(__file__).parents[1]
MARK = "@peers "  # as in peer_runners/protocol.py
BATCH = 64
CALLS_OF_ONE, CALLS_OF_BATCH = 20, 2  # a peer and round


class PeerError(Exception):
    """A peer failed; the message says how."""


@dataclass
class Runner:
    """A peer's process that has made its first prediction."""

    process: subprocess.Popen[str]
    first_s: float  # from the start of the process

    @classmethod
    def start(cls, environment: Environment, crops: Path, count: int) -> "Runner":
        """Start the process and wait for its first prediction.

        Raises:
            PeerError: it ends or says that it cannot.
        """
        log = (environment.folder / f"{environment.peer.name.replace('/', '_')}.log").open("w", encoding="utf-8")
        with log:
            before = time.perf_counter()
            process = subprocess.Popen(
                environment.command(crops, count),
                cwd=environment.folder,
                env=environment.variables(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        runner = cls(process, 0.0)
        try:
            runner._read()
        except PeerError:
            runner.stop()
            raise
        runner.first_s = time.perf_counter() - before
        return runner

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request of the protocol.

        Raises:
            PeerError: the process ends or reports a fault.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
                if "fault" in answer:
                    raise PeerError(answer["fault"])
                return answer
        raise PeerError("the process ended without an answer")


def accuracy_figures(probabilities: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Any]:
    """The figures of `mien evaluate`, for `(N, 7)` probabilities of any peer."""
    correct = probabilities.argmax(axis=1) == targets
    confusion = metrics.confusion_matrix(targets, probabilities.argmax(axis=1), len(FER7))
    scores = metrics.class_scores(confusion)
    return {
        "n": len(targets),
        "accuracy": float(correct.mean()),
        "accuracy_ci95": list(metrics.wilson_interval(int(correct.sum()), len(targets))),
        "macro_f1": scores.macro(scores.f1),
        "log_loss": metrics.log_loss(probabilities, targets),
        "ece": metrics.reliability(probabilities, targets).ece,
        "recall": dict(zip(FER7, scores.recall.tolist(), strict=True)),
    }


def start_all(
    peers: Sequence[Peer], cache: Path, crops: Path, count: int
) -> tuple[dict[str, tuple[Environment, Runner]], list[dict[str, Any]]]:
    """The running peers by name, and an entry for each that could not be run."""
    running, failed = {}, []
    for peer in peers:
        try:
            environment = prepare(peer, cache)
            running[peer.name] = (environment, Runner.start(environment, crops, count))
        except (InstallError, PeerError) as error:
            print(f"{peer.name}: not run: {error}", file=sys.stderr, flush=True)
            reason = in_brief(str(error))
            failed.append({"name": peer.name, "what": peer.what, "version": peer.requirement, "not_run": reason})
    return running, failed


def in_brief(fault: str) -> str:
    """One line of plain text without this user's folders."""
    plain = " ".join(fault.replace(os.fspath(Path.home()), "~").encode("ascii", "ignore").decode().split())
    return plain if len(plain) <= 300 else plain[:300] + " ..."


def timings(running: dict[str, tuple[Environment, Runner]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every call, by peer and size of the call; the peers in turn, in another order each round."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"1": [], str(BATCH): []} for name in running}
    names = list(running)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            runner = running[name][1]
            for batch, calls in ((1, CALLS_OF_ONE), (BATCH, CALLS_OF_BATCH)):
                found = runner.ask(op="time", batch=batch, repetitions=calls)["seconds"]
                if number:  # the first round warms up
                    seconds[name][str(batch)] += found
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    split = packed.load(options.data, only=("validation",)).split("validation")
    chosen = np.arange(len(split))[: options.limit]
    images, targets = np.ascontiguousarray(split.images[chosen]), np.asarray(split.labels[chosen], np.int64)
    peers = [peer for peer in PEERS if not options.only or peer.name in options.only]
    with tempfile.TemporaryDirectory() as folder:
        crops, answer = Path(folder) / "crops.u8", Path(folder) / "probabilities.f32"
        images.tofile(crops)
        running, failed = start_all(peers, options.cache, crops, len(images))
        try:
            entries, right = [], {}
            for name, (environment, runner) in running.items():
                runner.ask(op="score", batch=BATCH, output=os.fspath(answer))
                probabilities = np.fromfile(answer, np.float32).reshape(len(images), len(FER7))
                right[name] = probabilities.argmax(axis=1) == targets
                peer = environment.peer
                entry = {"name": name, "what": peer.what, "version": peer.requirement or "this checkout"}
                entries.append({**entry, **accuracy_figures(probabilities, targets), "mb": environment.megabytes()})
                print(f"{name}: {entries[-1]['accuracy']:.2%}", file=sys.stderr, flush=True)
            for name, calls in timings(running, options.rounds).items():
                one, many = np.array(calls["1"]), np.array(calls[str(BATCH)])
                entry = next(entry for entry in entries if entry["name"] == name)
                entry |= {"p50_ms": 1000 * float(np.median(one)), "p95_ms": 1000 * float(np.quantile(one, 0.95))}
                entry["faces_per_s"] = BATCH / float(np.median(many))
        finally:
            for _, runner in running.values():
                runner.stop()
        for entry in entries:  # alone on the machine, after the start above has warmed the disk's cache
            entry["first_s"] = first_prediction_s(running[entry["name"]][0], crops, len(images), options.starts)
    add_mcnemar(entries, right)
    model = Predictor(hub.resolve("default"), threads=1)
    return {
        "machine": bench.machine(),
        "data": {"split": "validation (PublicTest)", "digest": split.digest, "n": len(images)},
        "rounds": options.rounds,
        "trained_on": str(model.spec.training.get("device", "unknown")),
        "peers": entries + failed,
    }


def first_prediction_s(environment: Environment, crops: Path, count: int, starts: int) -> float:
    """Median of several starts."""
    seconds = []
    for _ in range(starts):
        runner = Runner.start(environment, crops, count)
        runner.stop()
        seconds.append(runner.first_s)
    return float(np.median(seconds))


def add_mcnemar(entries: list[dict[str, Any]], right: dict[str, NDArray[np.bool_]]) -> None:
    """To each peer the exact McNemar test against mien's default on the same faces."""
    default = right.get("mien default")
    for entry in entries:
        if default is not None and entry["name"] != "mien default":
            entry["mcnemar_p"] = metrics.mcnemar(default, right[entry["name"]]).p_value


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="packed data set with a validation split")
    parser.add_argument("--limit", type=int, help="only the first N faces: a try; writes neither figures nor page")
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS], help="only these peers: a try")
    parser.add_argument("--rounds", type=int, default=15, help="of timing, every peer in turn (default 15)")
    parser.add_argument("--starts", type=int, default=3, help="of each process (default 3)")
    parser.add_argument("--cache", type=Path, default=hub.home() / "peers", help="folder of the environments")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "peers.json")
    parser.add_argument("--docs", type=Path, default=PAGE, help="the page that gets the section")
    parser.add_argument("--page", action="store_true", help="write the page from --output again, measure nothing")
    options = parser.parse_args()
    options.cache = options.cache.expanduser().resolve()
    if not options.page and options.data is None:
        parser.error("--data is needed")
    return options


def main() -> None:
    """Measure, keep, write the page."""
    options = parse()
    if options.page:
        write_page(json.loads(options.output.read_text(encoding="utf-8")), options.docs)
        return
    figures = measure(options)
    if options.limit or options.only:
        print(json.dumps(figures["peers"], indent=1))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write_page(figures, options.docs)


if __name__ == "__main__":
    main()
