"""The pages in a real browser: Debian's Chromium under Playwright. One browser for all tests of this file."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web import browser as browsers
from tests.web.conftest import Picture, served

from mien.web import Settings, create_app
from mien.web.service import Served

pytest.importorskip("playwright", reason="pip install playwright")
pytestmark = pytest.mark.skipif(browsers.CHROMIUM is None, reason="apt-get install chromium")

SHOTS = os.environ.get("MIEN_SCREENSHOTS")  # a folder: screenshots of every state are kept there
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def address(tiny_onnx: Path) -> Iterator[str]:
    settings = Settings(max_waiting=20, max_wait_s=60, max_seconds=120)
    models = [served(tiny_onnx, name, settings=settings) for name in ("tiny", "other")]
    with browsers.running(create_app(settings, models=models)) as url:
        yield url


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A page of desktop width on which no script fails, nothing is blocked and no other host is asked."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["camera"], reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(browsers.PATIENCE_MS)
    faults: list[str] = []

    def hear(said: Any) -> None:
        if said.type == "error" and "422" not in said.text:  # a wrong file is answered so
            faults.append(said.text)

    def watch(asked: Any) -> None:
        if not asked.url.startswith((address, "blob:", "data:")):
            faults.append(asked.url)

    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", hear)
    page.on("request", watch)
    yield page
    context.close()
    assert faults == []


def look(page: Any, name: str) -> None:
    """Keep pictures of the page's state in both widths and schemes, where they are asked for."""
    if SHOTS is None:
        return
    for width, (across, down) in WIDTHS.items():
        page.set_viewport_size({"width": across, "height": down})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=Path(SHOTS, f"{name}-{width}-{scheme}.png"), full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def check_accessible(page: Any) -> None:
    """axe-core finds nothing serious, in both schemes and at both widths."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("pip install axe-playwright-python")
    script = (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    for width, scheme in (("desktop", "light"), ("phone", "dark")):
        page.set_viewport_size(dict(zip(("width", "height"), WIDTHS[width], strict=True)))
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("async () => (await axe.run()).violations")
        serious = [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in found]
        assert serious == [], (width, scheme)
        overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"the page is {overflow} px wider than the {width}"
    page.set_viewport_size({"width": 1280, "height": 900})


def upload(page: Any, *pictures: bytes, names: tuple[str, ...] = ()) -> None:
    given = names or tuple(f"{number}.png" for number in range(len(pictures)))
    files = [{"name": n, "mimeType": "image/png", "buffer": data} for n, data in zip(given, pictures, strict=True)]
    page.set_input_files("#file", files)


def test_photos_faces_and_maps(page: Any, address: str, picture: Picture) -> None:
    page.goto(address)
    page.locator(".facts").first.wait_for()
    check_accessible(page)
    look(page, "photos-empty")
    upload(page, picture(), picture("PNG", black=True), names=("two.png", "none.png"))
    two, none = page.locator(".card").nth(0), page.locator(".card").nth(1)
    none.get_by_text("No face found in this picture.").wait_for()
    assert two.locator(".card-note").inner_text() == "2 faces"
    assert two.locator(".box").count() == 2
    assert two.locator(".face").first.locator(".bars").count() == 2  # one a model
    assert two.locator(".face").first.locator(".bar").count() == 14
    share = two.locator(".face").first.locator(".top-one .bar-value").first.inner_text()
    assert re.fullmatch(r"\d+ %", share)
    two.get_by_role("button", name="Show what it looked at").first.click()
    two.locator(".pane figcaption", has_text="Evidence for").nth(1).wait_for()
    before = drawing(two)
    two.get_by_label("CAM", exact=True).check()
    two.locator(".map:not(.waiting)").nth(1).wait_for()
    two.get_by_label("surprise", exact=True).check()
    two.locator(".pane figcaption", has_text="surprised").nth(1).wait_for()
    after = drawing(two)
    assert after != before
    slider = two.get_by_label("Opacity")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "80"
    assert drawing(two) != after
    check_accessible(page)
    look(page, "photos-results")


def drawing(card: Any) -> str:
    """The pixels of the card's first map."""
    url = card.locator(".map").first.evaluate("(canvas) => canvas.toDataURL()")
    assert isinstance(url, str)
    return url


def test_files_that_are_no_pictures(page: Any, address: str) -> None:
    page.goto(address)
    page.locator(".facts").first.wait_for()
    upload(page, b"just words", b"x" * 10_000_001, names=("notes.txt", "huge.bin"))
    page.get_by_role("alert").filter(has_text="This file has 10.0 MB").wait_for()
    alert = page.locator(".card", has_text="notes.txt").get_by_role("alert").inner_text()
    assert alert.startswith("This file cannot be read as a picture: no picture that mien knows")
    assert page.get_by_role("status").inner_text().startswith("huge.bin: This file has")
    check_accessible(page)
    look(page, "photos-wrong-files")
    page.get_by_role("button", name="Remove notes.txt").click()
    assert page.locator(".card").count() == 1


def test_keyboard_alone(page: Any, address: str, picture: Picture) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    held: list[Any] = []  # the second model's answer comes after the box was pressed
    page.route("**/analyze*model=other*", lambda route: held.append(route))  # noqa: PLW0108 - it wants a Python function
    upload(page, picture())
    page.locator(".box").first.wait_for()
    page.locator(".box").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    for route in held:
        route.continue_()
    number = "document.activeElement.closest('.face')?.querySelector('.face-number').textContent"
    page.wait_for_function(f"() => {number} === 'Face 2'", timeout=10_000)
    page.locator(".box").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(f"() => {number}") == "Face 1"


def test_paste_and_scheme(page: Any, address: str, picture: Picture) -> None:
    page.goto(address)
    paste = """(bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
    }"""
    page.evaluate(paste, list(picture()))
    page.locator(".card", has_text="pasted.png").locator(".bars").first.wait_for()
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate(background) != light


def test_an_example_without_a_layout_jump(page: Any, address: str) -> None:
    """Shifts count as in web.dev's CLS, where under 0.1 is good; those that follow a click at once do not."""
    page.add_init_script("""
        window.shift = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
        }).observe({ type: "layout-shift", buffered: true });
    """)
    page.goto(address)
    page.locator(".facts").first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.shift") < 0.1
    page.get_by_role("button", name="Four drawn faces").click()
    page.locator(".card", has_text="drawn-faces.webp").locator(".bars").nth(3).wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.shift") < 0.1


def test_drop(page: Any, address: str, picture: Picture) -> None:
    page.goto(address)
    drag = """([kind, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
        const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.getElementById("drop").dispatchEvent(event);
        return event.defaultPrevented;  // or the browser would leave the page for the picture
    }"""
    assert page.evaluate(drag, ["dragover", []])
    assert "over" in page.locator("#drop").get_attribute("class")
    assert page.evaluate(drag, ["drop", list(picture())])
    page.locator(".card", has_text="dropped.png").locator(".bars").first.wait_for()
    assert page.locator("#drop").get_attribute("class") == "drop"


def test_take_a_photo(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Take a photo").click()
    dialog = page.get_by_role("dialog", name="Take a photo")
    dialog.get_by_role("button", name="Take photo").wait_for()
    page.wait_for_function("() => !document.getElementById('camera-take').disabled")
    check_accessible(page)
    look(page, "photos-camera")
    dialog.get_by_role("button", name="Cancel").click()
    assert page.locator(".card").count() == 0
    page.get_by_role("button", name="Take a photo").click()
    page.wait_for_function("() => !document.getElementById('camera-take').disabled")
    dialog.get_by_role("button", name="Take photo").click()
    card = page.locator(".card", has_text="camera.jpg")
    card.locator(".bars").first.wait_for()
    assert card.locator(".photo img").evaluate("(image) => image.naturalWidth") == 640
    off = "() => document.getElementById('camera-view').srcObject === null"
    assert page.evaluate(off)  # the camera's light goes out


SLOW_CAMERA = """
    window.tracks = [];
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((resolve) => setTimeout(resolve, 700));  // as long as a browser asks its user
        const stream = await open(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
"""
ALL_OFF = "() => window.tracks.length > 0 && window.tracks.every((track) => track.readyState === 'ended')"


def test_an_impatient_start_leaves_no_camera_on(page: Any, address: str) -> None:
    page.add_init_script(SLOW_CAMERA)
    page.goto(f"{address}/live")
    page.get_by_role("button", name="Start camera").dblclick()
    page.locator(".live-face").first.wait_for()
    page.get_by_role("button", name="Stop camera").click()
    page.wait_for_function(ALL_OFF)
    assert page.locator(".live-face").count() == 0  # nobody is before a camera that is off


def test_a_photo_given_up_leaves_no_camera_on(page: Any, address: str) -> None:
    page.add_init_script(SLOW_CAMERA)
    page.goto(address)
    page.get_by_role("button", name="Take a photo").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Take a photo").click()
    page.wait_for_function("() => !document.getElementById('camera-take').disabled")
    page.get_by_role("dialog").get_by_role("button", name="Take photo").click()
    page.locator(".card", has_text="camera.jpg").locator(".bars").first.wait_for()
    page.wait_for_function(ALL_OFF)
    assert page.evaluate("() => window.tracks.length") == 2


def test_a_camera_that_is_pulled_out(page: Any, address: str) -> None:
    page.add_init_script(SLOW_CAMERA)
    page.goto(f"{address}/live")
    page.get_by_role("button", name="Start camera").click()
    page.locator(".live-face").first.wait_for()
    page.evaluate("() => { tracks[0].stop(); tracks[0].dispatchEvent(new Event('ended')); }")
    page.get_by_role("button", name="Start camera").wait_for()
    page.wait_for_timeout(1000)  # an answer that was on its way says nothing of it
    page.get_by_role("alert").filter(has_text="The camera has gone").wait_for()


def test_no_camera(page: Any, address: str) -> None:
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))"
    )
    page.goto(f"{address}/live")
    page.get_by_role("button", name="Start camera").click()
    page.get_by_role("alert").filter(has_text="does not allow this page to use the camera").wait_for()
    page.goto(address)
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("dialog").get_by_text("does not allow this page to use the camera").wait_for()
    assert page.get_by_role("button", name="Take photo").is_disabled()


def test_no_camera_over_plain_http(page: Any, address: str) -> None:
    page.add_init_script("""
        Object.defineProperty(window, "isSecureContext", { get: () => false });
        Object.defineProperty(navigator, "mediaDevices", { get: () => undefined });
    """)
    page.goto(f"{address}/live")
    page.get_by_role("button", name="Start camera").click()
    page.get_by_role("alert").filter(has_text="only to pages that come over https").wait_for()


def test_live(page: Any, address: str) -> None:
    page.goto(f"{address}/live")
    check_accessible(page)
    look(page, "live-off")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/v1/" in request.url else None)
    page.get_by_role("button", name="Start camera").click()
    page.locator(".live-face").nth(1).wait_for()
    page.locator("#rate", has_text="per second").wait_for()
    numbers = page.locator(".live-face .face-number").all_inner_texts()
    page.get_by_role("button", name="Show evidence").click()
    page.wait_for_timeout(1500)
    assert page.locator(".live-face .face-number").all_inner_texts() == numbers == ["Face 1", "Face 2"]
    assert any("/explain" in url for url in asked)
    assert all("detection=fast" in url for url in asked if "/analyze" in url)
    check_accessible(page)
    look(page, "live-on")
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_timeout(1500)
    count = len(asked)
    page.wait_for_timeout(800)
    assert len(asked) == count
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("time_s,track,left,top,right,bottom,angry,disgust")
    assert len(lines) > 2
    assert all(len(line.split(",")) == 6 + 2 * 7 for line in lines)


def test_live_stops_when_hidden(page: Any, address: str) -> None:
    page.goto(f"{address}/live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/analyze" in request.url else None)
    page.get_by_role("button", name="Start camera").click()
    page.locator(".live-face").first.wait_for()
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(1500)
    count = len(asked)
    page.wait_for_timeout(800)
    assert len(asked) == count
    page.evaluate(hide, False)
    with page.expect_request("**/analyze**"):
        pass


def test_smoothing_is_that_of_the_fixture(page: Any, address: str) -> None:
    """The same file holds the Python smoothing of films to these numbers."""
    fixture = json.loads(Path(__file__).with_name("smoothing.json").read_text(encoding="utf-8"))
    page.goto(address)
    run = """async ({ half_life_s, hysteresis, time_s, probabilities }) => {
        const { Smoother } = await import("/static/js/tracks.js");
        const smoother = new Smoother({ halfLifeS: half_life_s, hysteresis });
        return time_s.map((timeS, index) => smoother.update(probabilities[index], timeS));
    }"""
    answer = page.evaluate(run, fixture)
    assert [frame["shown"] for frame in answer] == fixture["shown"]
    for frame, expected in zip(answer, fixture["smoothed"], strict=True):
        assert frame["probabilities"] == pytest.approx(expected, abs=1e-8)


def test_access_token(chromium: Any, tiny_onnx: Path, picture: Picture) -> None:
    token = "0123456789abcdef-token"
    settings = Settings(token=token)
    models: list[Served] = [served(tiny_onnx, "tiny", settings=settings)]
    with browsers.running(create_app(settings, models=models)) as url:
        context = chromium.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(browsers.PATIENCE_MS)
        page.goto(url)
        field = page.get_by_label("This service asks for an access token")
        problem = page.locator("#token-problem")
        for entered, words in ((f"{token[:15]}\u2026", "Copy the whole token"), (token.upper(), "missing or wrong")):
            field.fill(entered)
            page.get_by_role("button", name="Use token").click()
            problem.filter(has_text=words).wait_for()
            check_accessible(page)
            look(page, f"token-{words[:4].lower()}")
        field.fill(f"  {token} ")  # as it was copied
        with page.expect_response("**/api/v1/models") as answer:
            page.get_by_role("button", name="Use token").click()
        assert answer.value.ok
        page.locator(".facts").first.wait_for()
        upload(page, picture())
        page.locator(".bars").first.wait_for()
        context.close()


BLOCKED = """
    Object.defineProperty(window, "sessionStorage", { get: () => { throw new DOMException("", "SecurityError"); } });
    Object.defineProperty(window, "localStorage", { get: () => { throw new DOMException("", "SecurityError"); } });
"""


def test_blocked_storage(page: Any, address: str, picture: Picture) -> None:
    page.add_init_script(BLOCKED)
    page.goto(address)
    page.locator(".facts").first.wait_for()
    upload(page, picture())
    page.locator(".bars").first.wait_for()


def test_a_sample_that_cannot_be_loaded(chromium: Any, address: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    page.route("**/samples/*", lambda route: route.fulfill(status=502, body="a proxy's page"))
    page.get_by_role("button", name="Four drawn faces").click()
    page.get_by_role("alert").filter(has_text="cannot be loaded").wait_for()
    assert page.locator(".card").count() == 0
    context.close()
