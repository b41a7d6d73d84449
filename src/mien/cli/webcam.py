"""`mien webcam`: the camera live, in the browser, the terminal or a window."""

import socket
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

import mien
from mien.cli.interrupt import Interruption
from mien.cli.messages import complain
from mien.cli.options import (
    DetectEveryOption,
    DetectorName,
    DetectorOption,
    HalfLifeOption,
    HysteresisOption,
    ModelOption,
)
from mien.cli.video import print_summary, tracking_settings
from mien.errors import ConfigError

if TYPE_CHECKING:
    from mien.video.analyze import FrameResult
    from mien.video.frames import SourceOptions
    from mien.video.loop import Newest, Pace
    from mien.video.outputs import Outputs, Paths
    from mien.video.track import FaceTracker

HOST = "127.0.0.1"
WORKERS = 2  # the page of one user
READY_S = 60.0  # for the server to load its models before a browser is opened
ASK_AGAIN_S = 0.25


class View(AbstractContextManager["View"], Protocol):
    """Shows results; a context."""

    def show(self, result: "FrameResult", pace: "Pace") -> bool:
        """The newest result; False when the user closed the view."""


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera", "-c", help="Number, address of a stream, or a film that stands in for one. (default: 0)"
        ),
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", "-t", help="Bars, tracks, frame rate and delay here; needs no display.")
    ] = False,
    window: Annotated[bool, typer.Option("--window", "-w", help="A window of OpenCV; Q or Escape closes it.")] = False,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILM", help="Film with the faces marked (extra: video).")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="A row a face and frame: .csv .jsonl .parquet.")
    ] = None,
    model: ModelOption = "default",
    detector: DetectorOption = DetectorName.CENTERFACE,
    detect_every: DetectEveryOption = None,
    half_life: HalfLifeOption = None,
    hysteresis: HysteresisOption = None,
    no_smoothing: Annotated[bool, typer.Option("--no-smoothing", help="Neither smoothing nor hysteresis.")] = False,
    end: Annotated[float | None, typer.Option("--end", metavar="SECONDS", help="Stop after so long.")] = None,
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", help="For a missing camera. (default: until Ctrl-C)")
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Of the live page; 0: a free one.")] = 0,
) -> None:
    """Show which emotions the faces before a camera show, live.

    Without --terminal or --window it opens the live page in the browser, which asks for the camera itself; --record and
    --table imply --terminal. A camera that is missing or unplugged is waited for. Ctrl-C ends it.
    """
    if terminal and window:
        raise ConfigError("--terminal and --window exclude each other: choose one")
    changed = {"detect_every": detect_every, "half_life_s": half_life, "hysteresis": hysteresis}
    if not (terminal or window or record or table):
        _refuse({"camera": camera, "end": end, "wait": wait, **changed, "no_smoothing": no_smoothing or None})
        _browse(model, detector, port)
        return
    from mien.video.frames import SourceOptions
    from mien.video.outputs import Paths
    from mien.video.track import FaceTracker

    address = camera or "0"
    paths = Paths(film=record, table=table)
    paths.check(address)
    options = SourceOptions(end_s=end)
    tracking = tracking_settings(changed, detect_side=None, no_smoothing=no_smoothing)
    with Interruption() as interruption:
        tracker = FaceTracker(mien.load(model, detector=detector), settings=tracking)
        code = _run(address, tracker, options, paths, window=window, wait_s=wait, interruption=interruption)
    raise typer.Exit(code)


def _run(
    address: str,
    tracker: "FaceTracker",
    options: "SourceOptions",
    paths: "Paths",
    *,
    window: bool,
    wait_s: float | None,
    interruption: Interruption,
) -> int:
    """Show and keep what the camera gives, until it ends; returns the exit code."""
    from mien.video.camera import Camera
    from mien.video.loop import Newest
    from mien.video.outputs import Outputs
    from mien.video.terminal import TerminalView
    from mien.video.window import WindowView

    at = int(address) if address.isdecimal() else address
    in_terminal = None if window else TerminalView(f"camera {address}" if isinstance(at, int) else Path(address).name)
    view: View = in_terminal or WindowView()
    notify = complain if in_terminal is None else in_terminal.notify
    camera = Camera(at, options=options, notify=notify, wait_s=wait_s)
    outputs = Outputs(paths, tracker.analyzer, camera.info)
    try:
        with Newest(camera) as frames, view:
            _show(frames, tracker, view, outputs, interruption)
    finally:
        with interruption.writing():
            outputs.close()
    if outputs.problem:
        complain(outputs.problem)
    if camera.fault:
        complain(camera.fault)
    if not outputs.summary.frames:
        return 2
    print_summary(outputs.summary)
    return 1 if camera.fault else 0


def _show(frames: "Newest", tracker: "FaceTracker", view: View, outputs: "Outputs", interruption: Interruption) -> None:
    """The live loop: the newest frame, its faces, the view, the files."""
    from mien.video.analyze import follow
    from mien.video.loop import PaceMeter

    meter = PaceMeter()
    try:
        for result in follow(frames, tracker):
            pace = meter.add(result.frame.captured_s, dropped=frames.dropped)
            goes_on = view.show(result, pace)
            with interruption.writing():
                outputs.add(result)
            if interruption.asked or not goes_on:
                return
    except KeyboardInterrupt:
        return


def _refuse(options: dict[str, object]) -> None:
    """Options that the live page does not know.

    Raises:
        ConfigError: one of them was given.
    """
    names = {"half_life_s": "half-life"}
    given = [names.get(name, name.replace("_", "-")) for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"--{given[0]} means nothing to the live page in the browser: add --terminal or --window")


def _browse(model: str, detector: str, port: int) -> None:
    """Serve the live page to this machine alone, and open it."""
    from mien.web.serving import Address, check_models, serve
    from mien.web.settings import Settings

    settings = Settings(models=(model,), detector=str(detector))
    check_models(settings)
    port = port or _free_port()
    page = f"http://{HOST}:{port}/live"
    typer.echo(f"mien: {page} (Ctrl-C ends it)", err=True)
    threading.Thread(target=_open_when_ready, args=(port, page, webbrowser.open), daemon=True).start()
    serve(settings, Address(host=HOST, port=port, workers=WORKERS))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _open_when_ready(port: int, page: str, open_browser: Callable[[str], bool]) -> None:
    """Open the page once the server has its models; where no browser can be opened, say so."""
    from urllib.request import urlopen  # a fifth of what `mien --help` took to import

    until_s = time.monotonic() + READY_S
    while time.monotonic() < until_s:
        try:
            with urlopen(f"http://{HOST}:{port}/readyz", timeout=ASK_AGAIN_S * 4):
                break
        except OSError:  # URLError is one
            time.sleep(ASK_AGAIN_S)
    else:
        return  # the server's own log says why
    if not open_browser(page):
        complain(f"no browser could be opened: open {page} in one, or use --terminal")
