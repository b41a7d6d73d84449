"""Chromium under Playwright, a service on a free port, and pictures for them; what browser tests share."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from flask import Flask
from werkzeug.serving import make_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MS = 60_000  # a busy machine draws slowly


@contextmanager
def running(app: Flask) -> Iterator[str]:
    """The address of `app`, served by threads of this process until the block ends."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def write_camera_video(portrait: Path, path: Path, *, frames: int = 40) -> Path:
    """A film `(480, 640)` of a portrait that moves to and fro, in the form that Chromium's fake camera reads."""
    picture = cv2.imread(str(portrait))
    assert picture is not None
    with path.open("wb") as film:
        for number in range(frames):
            turn = 2 * np.pi * number / frames
            matrix = np.array([[1, 0, 64 + 40 * np.sin(turn)], [0, 1, -16]], np.float64)
            frame = cv2.warpAffine(picture, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
            done, data = cv2.imencode(".jpg", frame)
            assert done
            film.write(data.tobytes())
    return path
