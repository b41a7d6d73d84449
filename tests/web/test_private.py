"""Private mode in a real browser: the same numbers as the server's, and not one request while it runs."""

import base64
import io
import json
import select
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import PIL.Image
import pytest
from flask import Flask
from numpy.typing import NDArray
from tests.web import browser as browsers
from tests.web.test_browser import check_accessible, look

from mien.web import Settings, create_app, private

pytest.importorskip("playwright", reason="pip install playwright")
pytestmark = [
    pytest.mark.skipif(browsers.CHROMIUM is None, reason="apt-get install chromium"),
    pytest.mark.skipif(not private.available(), reason="make private (needs npm)"),
]

FRAMES = 50
PROBABILITY_TOLERANCE = 0.02
BOX_TOLERANCE_PX = 1.5


@pytest.fixture(scope="module")
def service() -> Flask:
    return create_app(Settings(max_waiting=20, max_wait_s=60, max_seconds=120))


@pytest.fixture(scope="module")
def address(service: Flask) -> Iterator[str]:
    with browsers.running(service) as url:
        yield url


@pytest.fixture(scope="module")
def quick_address() -> Iterator[str]:
    """A service whose live page looks for faces on 224 pixels: half the work, where only the frames are counted."""
    with browsers.running(create_app(Settings(fast_side_px=224))) as url:
        yield url


class CountingProxy:
    """Passes HTTP on, and notes every address that is asked for; once closed it notes and answers nothing more."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client):
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = client.recv(65536)
                if not chunk:
                    return
                head += chunk
            start, _, rest = head.partition(b"\r\n")
            method, url, version = start.decode("latin-1").split(" ")
            self.asked.append(f"{method} {url}")
            if self.closed or method == "CONNECT":  # nothing here speaks TLS: the browser's own calls home end here
                return
            parts = urlsplit(url)
            place = parts.path + (f"?{parts.query}" if parts.query else "")
            lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith((b"connection", b"proxy-"))]
            with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as server:
                server.sendall(f"{method} {place} {version}\r\nConnection: close\r\n".encode() + b"\r\n".join(lines))
                shuttle(client, server)


def shuttle(client: socket.socket, server: socket.socket) -> None:
    """Copy bytes both ways until the server has answered."""
    while True:
        readable, _, _ = select.select([client, server], [], [], 60)
        for one, other in ((client, server), (server, client)):
            if one in readable:
                data = one.recv(65536)
                if not data:
                    return
                other.sendall(data)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(grace_hopper: Path, astronaut: Path, drawn_photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Portraits as they are, small, turned, cut at the edge, side by side; a drawing; nobody."""
    grace = np.asarray(PIL.Image.open(grace_hopper).convert("RGB"))
    eileen = np.asarray(PIL.Image.open(astronaut).convert("RGB"))
    turn = cv2.getRotationMatrix2D((256, 200), 25, 0.8)
    return {
        "portrait": encoded(grace),
        "small": encoded(np.asarray(PIL.Image.fromarray(eileen).resize((130, 130)))),
        "turned": encoded(np.asarray(cv2.warpAffine(eileen, turn, (640, 480)), np.uint8)),
        "at the edge": encoded(eileen[:, 190:]),
        "two": encoded(np.concatenate([grace[:512], eileen], axis=1)),
        "large": encoded(np.asarray(PIL.Image.fromarray(grace).resize((1500, 1757)))),
        "drawing": encoded(drawn_photo),
        "nobody": encoded(np.full((240, 320, 3), 90, np.uint8)),
    }


ANALYZE = """async ([data, detection]) => {
    const { analyzePrivately } = await import("/static/js/private.js");
    const blob = await (await fetch(`data:image/png;base64,${data}`)).blob();
    return analyzePrivately(await createImageBitmap(blob, { colorSpaceConversion: "none" }), detection);
}"""


def test_the_browser_and_the_server_agree(
    chromium: Any, address: str, grace_hopper: Path, astronaut: Path, drawn_photo: NDArray[np.uint8]
) -> None:
    context = chromium.new_context(bypass_csp=True)  # so that the test can bring its pictures as data: addresses
    page = context.new_page()
    page.set_default_timeout(browsers.PATIENCE_MS)
    page.goto(address)
    seen = 0
    for name, data in pictures(grace_hopper, astronaut, drawn_photo).items():
        for detection in ("full", "fast"):
            expected = answered(address, data, detection)
            found = page.evaluate(ANALYZE, [base64.b64encode(data).decode(), detection])
            assert found["model"] == {**expected["model"], "provider": "wasm"}
            assert [found["width"], found["height"]] == [expected["width"], expected["height"]]
            assert len(found["faces"]) == len(expected["faces"]), (name, detection)
            for face, other in zip(found["faces"], expected["faces"], strict=True):
                compare(face, other, f"{name}, {detection}")
                seen += 1
    context.close()
    assert seen >= 14


def answered(address: str, picture: bytes, detection: str) -> dict[str, Any]:
    """The server's result."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = head + picture + b"\r\n--b--\r\n"
    request = urllib.request.Request(f"{address}/api/v1/analyze?detection={detection}", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        (result,) = json.load(answer)
    assert isinstance(result, dict)
    return result


def compare(face: dict[str, Any], other: dict[str, Any], name: str) -> None:
    """The browser's face and the server's."""
    assert face["box_xyxy"] == pytest.approx(other["box_xyxy"], abs=BOX_TOLERANCE_PX), name
    for point, expected in zip(face["landmarks"], other["landmarks"], strict=True):
        assert point == pytest.approx(expected, abs=BOX_TOLERANCE_PX), name
    assert face["score"] == pytest.approx(other["score"], abs=0.01), name
    assert list(face["probabilities"]) == list(other["probabilities"])
    assert face["probabilities"] == pytest.approx(other["probabilities"], abs=PROBABILITY_TOLERANCE), name
    assert face["confidence"] == max(face["probabilities"].values())
    assert face["quality"]["size_px"] == pytest.approx(other["quality"]["size_px"], abs=2 * BOX_TOLERANCE_PX)
    assert face["quality"]["blur"] == pytest.approx(other["quality"]["blur"], abs=0.02)
    assert face["quality"]["tilt_deg"] == pytest.approx(other["quality"]["tilt_deg"], abs=1)
    assert face["quality"]["turn_ratio"] == pytest.approx(other["quality"]["turn_ratio"], abs=0.03)


def test_no_frame_leaves_the_browser(chromium: Any, quick_address: str) -> None:
    proxy = CountingProxy()
    context = chromium.new_context(
        permissions=["camera"], proxy={"server": proxy.address, "bypass": "<-loopback>"}, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.set_default_timeout(browsers.PATIENCE_MS)
        faults: list[str] = []
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{quick_address}/live")
        page.get_by_role("switch", name="Private mode").check()
        page.get_by_text("On: frames are analysed inside this browser. They never leave this machine.").wait_for()
        assert any("/private/centerface.onnx" in url for url in proxy.asked)
        loaded = len(proxy.asked)
        proxy.closed = True
        page.get_by_role("button", name="Start camera").click()
        page.wait_for_function(
            "(count) => Number(document.getElementById('stage').dataset.frames) >= count", arg=FRAMES, timeout=300_000
        )
        assert page.locator(".live-face").count() == 1
        assert page.locator("#problem").is_hidden()
        assert proxy.asked[loaded:] == []
        assert faults == []
        check_accessible(page)
        look(page, "live-private")
    finally:
        context.close()
        proxy.stop()


def test_photos_stay_in_the_browser(chromium: Any, address: str, grace_hopper: Path) -> None:
    context = chromium.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(browsers.PATIENCE_MS)
    page.goto(address)
    page.get_by_role("switch", name="Private mode").check()
    page.get_by_text("They never leave this machine.").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_input_files("#file", grace_hopper)
    page.locator(".face .bars").wait_for()
    assert page.get_by_role("button", name="Show what it looked at").count() == 0  # the server makes the maps
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    page.get_by_role("alert").filter(has_text="private mode sends it nowhere else").wait_for()
    assert [url for url in asked if not url.startswith("blob:")] == []
    check_accessible(page)
    look(page, "photos-private")
    page.goto(f"{address}/live")
    assert page.get_by_role("switch", name="Private mode").is_checked()  # a choice of privacy is not forgotten
    page.get_by_role("switch", name="Private mode").uncheck()
    page.reload()
    assert not page.get_by_role("switch", name="Private mode").is_checked()
    context.close()


def test_its_worker_may_connect_to_nothing(service: Flask) -> None:
    client = service.test_client()
    with client.get("/static/js/private/worker.js") as script:
        policy = script.headers["Content-Security-Policy"]
    assert "connect-src" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'")
    assert "wasm-unsafe-eval" not in client.get("/live").headers["Content-Security-Policy"]
