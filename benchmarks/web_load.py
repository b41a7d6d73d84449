"""Load on `mien serve`: requests per second, latencies, memory at 1, 8 and 64 clients, and what one camera page gets.

    python benchmarks/web_load.py [--try]

Starts the service with two workers on loopback (no rate limit there) and sends 640 x 480 photos; each client keeps its
connection, asks again as soon as it is answered, and waits a second where it was turned away. A stage's figures are
the accepted requests per second, their p50, p95 and p99 in milliseconds from the first byte sent to the last byte
read, the p99 of refusals, counts by status, the workers' resident memory. Then a service of its own gets what one
camera page sends: one client, one frame in flight, faces looked for on 320 pixels.

Writes results/web_load.json and a section of docs/serving.md, and holds the run to the bars: no status but 200 and 503,
p99 of accepted requests under a second, memory at the end within 10 % of minute 1, 15 live answers a second. The exit
code is 1 where one is missed. Five minutes on two free cores.
"""

import argparse
import http.client
import io
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from page import ROOT, keep, table

from mien import bench

BOUNDARY = "load"
P99_MS = 1000
MEMORY_RATIO = 0.10
MINUTE_S = 60.0
LIVE_PER_S = 15.0
PAGE = ROOT / "docs" / "serving.md"


def main() -> int:
    """Parse the options, measure, keep; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--photo", type=Path, help="picture to send, resized to 640 x 480; a portrait if absent")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a stage")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--try", dest="only_try", action="store_true", help="print, and write neither figures nor page")
    options = parser.parse_args()
    figures = measure(options)
    text = section(figures)
    print(text)
    if not options.only_try:
        keep("web_load", figures, {"web-load": text}, PAGE)
    print("\n".join(f"{'holds' if kept else 'MISSED'}: {bar}" for bar, kept in figures["holds"].items()))
    return 0 if all(figures["holds"].values()) else 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What results/web_load.json keeps."""
    photo = options.photo or portrait()
    machine = bench.machine()
    with service(options) as memory:
        form = form_of(photo, quality=90)
        stages = [Stage(options.port, form, "full").run(n, options.seconds, memory) for n in options.clients]
        resident = {"minute_1_mb": round(memory.at(MINUTE_S)), "end_mb": round(memory.at(float("inf")))}
    with service(options) as of_live:
        live = Stage(options.port, form_of(photo, quality=80), "fast").run(1, options.seconds, of_live)
    return {
        "machine": machine,
        **{name: getattr(options, name) for name in ("model", "workers", "seconds")},
        "stages": stages,
        "memory": resident,
        "live": live,
        "holds": bars(stages, resident, live),
    }


def bars(stages: list[dict[str, Any]], resident: dict[str, int], live: dict[str, Any]) -> dict[str, bool]:
    """What the project asks of the service, and whether it holds."""
    statuses = {status for stage in stages for status in stage["statuses"]}
    growth_ratio = abs(resident["end_mb"] / resident["minute_1_mb"] - 1)
    return {
        "no error but 503": statuses <= {"200", "503"},
        f"p99 of accepted requests under {P99_MS} ms": all((one["p99_ms"] or P99_MS) < P99_MS for one in stages),
        f"memory within {MEMORY_RATIO:.0%} from minute 1 to the end": growth_ratio <= MEMORY_RATIO,
        f"{LIVE_PER_S:g} live answers a second": live["accepted_per_s"] >= LIVE_PER_S,
    }


def section(figures: dict[str, Any]) -> str:
    """The section of the page, from the figures alone."""
    machine, resident = figures["machine"], figures["memory"]
    heads = [
        "clients",
        "answered a second",
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "refused with 503",
        "broken",
        "memory, MB",
    ]
    rows = [
        [name, f"{one['accepted_per_s']:.1f}", *(_cell(one[f"p{share}_ms"]) for share in (50, 95, 99)),
         f"{one['statuses'].get('503', 0):,}", f"{_broken(one):,}", f"{one['resident_mb']:,}"]
        for name, one in (*((str(one["clients"]), one) for one in figures["stages"]), ("camera page", figures["live"]))
    ]  # fmt: skip
    missed = [bar for bar, kept in figures["holds"].items() if not kept]
    return "\n\n".join(
        (
            f"{machine['cpu']}, {machine['cpus']} cores, {figures['workers']} workers, `{figures['model']}`, "
            f"{figures['seconds']:g} s a stage, photos of 640 x 480; the clients run on the same cores. Times are "
            "those of answered requests; the memory is that of all workers. The camera page sends one frame at a "
            "time, with `detection=fast`.",
            table(heads, rows),
            f"Memory was {resident['minute_1_mb']:,} MB after a minute and {resident['end_mb']:,} MB at the end of the "
            f"stages. Bars missed: {', '.join(missed) or 'none'}.",
        )
    )


def _cell(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:,}"


def _broken(stage: dict[str, Any]) -> int:
    return sum(count for status, count in stage["statuses"].items() if status not in ("200", "503"))


@contextmanager
def service(options: argparse.Namespace) -> Iterator["Memory"]:
    """The service, ready; its workers' memory is looked at until the block ends."""
    serve = [sys.executable, "-m", "mien", "serve", "--model", options.model]
    command = [*serve, "--port", str(options.port), "--workers", str(options.workers)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_ready(options.port)
            yield Memory(process.pid)
        finally:
            process.terminate()


def portrait() -> Path:
    """The portrait that `mien demo` takes."""
    from mien.demo import portrait as fetched  # noqa: PLC0415 - where no photo is given

    return fetched()


def form_of(photo: Path, *, quality: int) -> bytes:
    """A multipart form with one JPEG of 640 x 480."""
    buffer = io.BytesIO()
    with PIL.Image.open(photo) as picture:
        picture.convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=quality)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    return head.encode() + buffer.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


def wait_ready(port: int, timeout_s: float = 120.0) -> None:
    """Return when the service answers."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise SystemExit(f"the service is not ready after {timeout_s} s")


class Memory:
    """Resident memory of the workers, looked at once a second."""

    def __init__(self, parent: int) -> None:
        """Of the processes below `parent`, from now on."""
        self._parent = parent
        self._started = time.monotonic()
        self._seen: list[tuple[float, float]] = []  # seconds, megabytes
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while (megabytes := self.now()) > 0:
            self._seen.append((time.monotonic() - self._started, megabytes))
            time.sleep(1.0)

    def now(self) -> float:
        """Megabytes at present; 0 when the workers have ended."""
        command = ["ps", "--ppid", str(self._parent), "-o", "rss="]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        return sum(int(line) for line in listed.stdout.split()) / 1024

    def at(self, seconds: float) -> float:
        """Megabytes at that time of the run; at its end where it was shorter. The median of five looks."""
        upto = [megabytes for when, megabytes in self._seen if when <= seconds]
        return float(np.median((upto or [self._seen[0][1]])[-5:]))


@dataclass
class Stage:
    """Clients that ask again as soon as they are answered; one that is turned away waits about a second, as told."""

    port: int
    form: bytes
    detection: str
    times_s: dict[int, list[float]] = field(default_factory=dict)  # by status; 0: the connection broke
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, clients: int, seconds: float, memory: Memory) -> dict[str, Any]:
        """Load for so long; what was measured."""
        started = time.monotonic()
        threads = [threading.Thread(target=self.ask_on, args=(started + seconds, seed)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed_s = time.monotonic() - started
        accepted, refused = self.times_s.get(200, []), self.times_s.get(503, [])
        measured = {
            "clients": clients,
            "accepted_per_s": round(len(accepted) / elapsed_s, 2),
            **{f"p{share}_ms": percentile_ms(accepted, share) for share in (50, 95, 99)},
            "refused_p99_ms": percentile_ms(refused, 99),
            "statuses": {str(status): len(times) for status, times in sorted(self.times_s.items())},
            "resident_mb": round(memory.now()),
        }
        print(json.dumps(measured), flush=True)
        return measured

    def ask_on(self, end: float, seed: int) -> None:
        """One client."""
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < end:
            started = time.monotonic()
            status = self.ask(connection)
            with self.lock:
                self.times_s.setdefault(status, []).append(time.monotonic() - started)
            if status != 200:
                time.sleep(chance.uniform(0.5, 1.5))
        connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> int:
        """The status of one request; 0 where the connection broke."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        try:
            connection.request("POST", f"/api/v1/analyze?detection={self.detection}", self.form, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0


def percentile_ms(times_s: list[float], share: float) -> int | None:
    """None of none."""
    return round(1000 * float(np.percentile(times_s, share))) if times_s else None


if __name__ == "__main__":
    sys.exit(main())
