"""Load on `mien serve`: requests per second, latencies and memory at 1, 8 and 64 clients.

Starts the service with two workers on loopback (no rate limit there), sends 640 x 480 photos, and prints one JSON line
a stage: requests/s, p50, p95 and p99 of accepted requests in milliseconds, counts by status, resident memory of the
workers after the first tenth and at the end.

    python benchmarks/web_load.py --model default --seconds 60
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
from pathlib import Path

import numpy as np
import PIL.Image

BOUNDARY = "load"


def main() -> None:
    """Parse the options, start the service, run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--photo", type=Path, help="picture to send, resized to 640 x 480; noise if absent")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a stage")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--detection", choices=["full", "fast"], default="full")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    serve = [sys.executable, "-m", "mien", "serve", "--model", options.model]
    command = [*serve, "--port", str(options.port), "--workers", str(options.workers)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_ready(options.port)
            for clients in options.clients:
                stage = Stage(options.port, body_of(options.photo), options.detection)
                print(json.dumps(stage.run(clients, options.seconds, process.pid)), flush=True)
        finally:
            process.terminate()


def body_of(photo: Path | None) -> bytes:
    """A multipart form with one JPEG of 640 x 480."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    picture = PIL.Image.fromarray(noise) if photo is None else PIL.Image.open(photo).convert("RGB").resize((640, 480))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
    return head.encode() + buffer.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


def wait_ready(port: int, timeout_s: float = 120.0) -> None:
    """Return when the service answers."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the service is not ready after {timeout_s} s")


def workers_mb(parent: int) -> float:
    """Resident memory of the processes below `parent`."""
    listed = subprocess.run(["ps", "--ppid", str(parent), "-o", "rss="], capture_output=True, text=True, check=False)
    return sum(int(line) for line in listed.stdout.split()) / 1024


class Stage:
    """Clients that ask again as soon as they are answered; one that is turned away waits as it is told."""

    def __init__(self, port: int, body: bytes, detection: str) -> None:
        self.port = port
        self.body = body
        self.path = f"/api/v1/analyze?detection={detection}"
        self.times_s: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.lock = threading.Lock()

    def run(self, clients: int, seconds: float, parent: int) -> dict[str, object]:
        """Load for so long; what was measured."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.ask, args=(end, number)) for number in range(clients)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(seconds / 10)
        early_mb = workers_mb(parent)
        for thread in threads:
            thread.join()
        elapsed_s = time.monotonic() - started
        p50, p95, p99 = np.percentile(self.times_s or [float("nan")], [50, 95, 99]) * 1000
        return {
            "clients": clients,
            "accepted_per_s": round(len(self.times_s) / elapsed_s, 2),
            "p50_ms": round(p50),
            "p95_ms": round(p95),
            "p99_ms": round(p99),
            "statuses": dict(self.statuses),
            "early_mb": round(early_mb),
            "end_mb": round(workers_mb(parent)),
        }

    def ask(self, end: float, seed: int) -> None:
        """One client; status 0 counts connections that broke."""
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                connection.request("POST", self.path, self.body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
            with self.lock:
                self.statuses[status] += 1
                if status == 200:
                    self.times_s.append(time.monotonic() - started)
            if status != 200:
                time.sleep(chance.uniform(0.5, 1.5))


if __name__ == "__main__":
    main()
