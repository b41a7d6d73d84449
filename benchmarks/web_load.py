"""Load on `mien serve`: requests per second, latencies and memory at 1, 8 and 64 clients, held to the project's bars.

Starts the service with two workers on loopback (no rate limit there) and sends 640 x 480 photos; each client keeps its
connection, asks again as soon as it is answered, and waits a second where it was turned away. Prints one JSON line a
stage: accepted requests per second, their p50, p95 and p99 in milliseconds from the first byte sent to the last byte
read, the p99 of refusals, counts by status, the workers' resident memory. The last line holds the run to the bars: no
status but 200 and 503, p99 of accepted requests under a second, memory at the end within 10 % of minute 1. The
exit code is 1 where a bar is missed. Three minutes on two free cores:

    python benchmarks/web_load.py

`--live` measures instead what one camera page gets: one client, one frame in flight, faces looked for on 320 pixels;
its bar is 15 answers a second.

    python benchmarks/web_load.py --live
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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

BOUNDARY = "load"
P99_MS = 1000
MEMORY_RATIO = 0.10
MINUTE_S = 60.0
LIVE_PER_S = 15.0


def main() -> int:
    """Parse the options, start the service, run the stages; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--photo", type=Path, help="picture to send, resized to 640 x 480; a portrait if absent")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a stage")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--live", action="store_true", help="one client, detection on 320 pixels, as the camera page")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    serve = [sys.executable, "-m", "mien", "serve", "--model", options.model]
    command = [*serve, "--port", str(options.port), "--workers", str(options.workers)]
    form = form_of(options.photo or portrait(), quality=80 if options.live else 90)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_ready(options.port)
            memory = Memory(process.pid)
            stages = [
                Stage(options.port, form, "fast" if options.live else "full").run(clients, options.seconds, memory)
                for clients in ([1] if options.live else options.clients)
            ]
        finally:
            process.terminate()
    verdict = live_verdict(stages) if options.live else load_verdict(stages, memory)
    print(json.dumps(verdict))
    return 0 if all(verdict["holds"].values()) else 1


def load_verdict(stages: list[dict[str, Any]], memory: "Memory") -> dict[str, Any]:
    """The bars of the service under load."""
    statuses = {int(status) for stage in stages for status in stage["statuses"]}
    early, late = memory.at(MINUTE_S), memory.at(float("inf"))
    holds = {
        "no error but 503": statuses <= {200, 503},
        f"p99 of accepted requests under {P99_MS} ms": all(stage["p99_ms"] < P99_MS for stage in stages),
        f"memory within {MEMORY_RATIO:.0%} from minute 1 to the end": abs(late / early - 1) <= MEMORY_RATIO,
    }
    return {"minute_1_mb": round(early), "end_mb": round(late), "holds": holds}


def live_verdict(stages: list[dict[str, Any]]) -> dict[str, Any]:
    """The bar of the camera page."""
    return {"holds": {f"{LIVE_PER_S:g} answers a second": stages[0]["accepted_per_s"] >= LIVE_PER_S}}


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
            **{f"p{share}_ms": round(1000 * percentile(accepted, share)) for share in (50, 95, 99)},
            "refused_p99_ms": round(1000 * percentile(refused, 99)) if refused else None,
            "statuses": dict(Counter({status: len(times) for status, times in self.times_s.items()})),
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


def percentile(times_s: list[float], share: float) -> float:
    """NaN of none."""
    return float(np.percentile(times_s, share)) if times_s else float("nan")


if __name__ == "__main__":
    sys.exit(main())
