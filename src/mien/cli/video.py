"""`mien video`: faces followed through a film, as an annotated copy, a table and a timeline."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mien
from mien.cli.interrupt import INTERRUPTED, Interruption
from mien.cli.messages import complain
from mien.cli.options import (
    DetectEveryOption,
    DetectorName,
    DetectorOption,
    Format,
    FormatOption,
    HalfLifeOption,
    HysteresisOption,
    ModelOption,
)
from mien.cli.progress import Bar
from mien.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from mien.pipeline import Analyzer
    from mien.video.frames import FrameSource, SourceOptions
    from mien.video.outputs import Outputs, Paths
    from mien.video.summary import Summary
    from mien.video.track import TrackSettings


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A film, a folder or pattern of pictures, a camera's number, or an RTSP or HTTP address.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILM", help="Copy with the faces marked: .mp4 .mkv .webm.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="A row a face and frame: .parquet .csv .jsonl.")
    ] = None,
    timeline: Annotated[
        Path | None, typer.Option("--timeline", metavar="FILE", help="Probabilities over time: .png .svg .html.")
    ] = None,
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="Begin here: seconds, or m:ss.")] = "0",
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="End here.")] = None,
    every: Annotated[int, typer.Option("--every", metavar="N", help="Take every N-th frame.")] = 1,
    model: ModelOption = "default",
    detector: DetectorOption = DetectorName.CENTERFACE,
    detect_every: DetectEveryOption = None,
    detect_side: Annotated[
        int | None, typer.Option("--detect-side", metavar="PX", help="Longest side that detection sees; 0: all.")
    ] = None,
    half_life: HalfLifeOption = None,
    hysteresis: HysteresisOption = None,
    no_smoothing: Annotated[
        bool, typer.Option("--no-smoothing", help="Neither smoothing nor hysteresis: each frame for itself.")
    ] = False,
    fps: Annotated[float, typer.Option("--fps", help="Frame rate of an image sequence; films carry their own.")] = 25.0,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="For a stream to answer.")] = 10.0,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Follow the faces of a film and say which emotions they show over time.

    A summary of each track goes to stdout. Ctrl-C ends it and leaves valid files of what was done. Exit code: 0 all
    well, 1 the source ended too early, 2 nothing could be done, 130 a film was interrupted.
    """
    from mien.video.frames import SourceOptions
    from mien.video.outputs import Paths
    from mien.video.source import open_source

    paths = Paths(film=output, table=table, timeline=timeline)
    paths.check(source)
    options = SourceOptions(
        start_s=seconds("--start", start),
        end_s=None if end is None else seconds("--end", end),
        every=every,
        timeout_s=timeout,
        sequence_hz=fps,
    )
    changed = {"detect_every": detect_every, "half_life_s": half_life, "hysteresis": hysteresis}
    tracking = tracking_settings(changed, detect_side=detect_side, no_smoothing=no_smoothing)
    with Interruption() as interruption, open_source(source, options=options, notify=complain) as opened:
        analyzer = mien.load(model, detector=detector)
        code = _run(opened, analyzer, options, paths, tracking=tracking, interruption=interruption, form=format_)
    raise typer.Exit(code)


def seconds(option: str, text: str) -> float:
    """Seconds of `12.5`, `1:05` or `1:02:03.5`.

    Raises:
        ConfigError: the text is none of these.
    """
    parts = text.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 <= value < math.inf for value in values):
        raise ConfigError(f"{option} {text}: give seconds, or m:ss, or h:mm:ss")
    total = 0.0
    for value in values:
        total = 60 * total + value
    return total


def tracking_settings(changed: dict[str, Any], *, detect_side: int | None, no_smoothing: bool) -> "TrackSettings":
    """The defaults of tracking, with what options name changed.

    Raises:
        ConfigError: a value is out of range.
    """
    from mien.video.track import TrackSettings

    values = {name: value for name, value in changed.items() if value is not None}
    if detect_side is not None:
        values["detect_side"] = detect_side or None
    if no_smoothing:
        values |= {"half_life_s": 0.0, "hysteresis": 0.0}
    return TrackSettings(**values)


def _run(
    source: "FrameSource",
    analyzer: "Analyzer",
    options: "SourceOptions",
    paths: "Paths",
    *,
    tracking: "TrackSettings",
    interruption: Interruption,
    form: Format,
) -> int:
    """Go through the film, write what is asked for, print the summary; returns the exit code."""
    from mien.video.analyze import newest_if_live
    from mien.video.outputs import Outputs

    outputs = Outputs(paths, analyzer, source.info, start_s=options.start_s)
    unwritten: Exception | None = None
    try:
        with newest_if_live(source) as frames:
            _follow(frames, analyzer, tracking, outputs, options, interruption=interruption)
    finally:
        with interruption.writing():
            try:
                outputs.close()
            except (VideoError, OSError) as error:
                unwritten = error  # what was found is told first
    if not outputs.summary.frames:
        if interruption.asked:
            return 2 if source.info.live else INTERRUPTED
        if unwritten is not None:
            complain(str(unwritten))
        raise VideoError(_no_frames(source, options))
    _notes(source, outputs)
    _print(outputs.summary, source, analyzer, form)
    if unwritten is not None:
        raise unwritten
    if interruption.asked and not source.info.live:
        return INTERRUPTED
    return 1 if source.fault else 0


def _follow(
    frames: "FrameSource",
    analyzer: "Analyzer",
    tracking: "TrackSettings",
    outputs: "Outputs",
    options: "SourceOptions",
    *,
    interruption: Interruption,
) -> None:
    """Every frame through the tracker into the outputs, until the end or a signal."""
    from mien.video.analyze import follow
    from mien.video.track import FaceTracker

    whole_s = min((s for s in (frames.info.duration_s, options.end_s) if s is not None), default=None)
    total = 0 if whole_s is None else max(1, round(whole_s - options.start_s))
    try:
        with Bar("seconds of film", total) as bar:
            for result in follow(frames, FaceTracker(analyzer, settings=tracking)):
                with interruption.writing():
                    outputs.add(result)
                if interruption.asked:
                    break
                bar.update(int(result.time_s - options.start_s), total)
    except KeyboardInterrupt:
        return


def _no_frames(source: "FrameSource", options: "SourceOptions") -> str:
    from mien.video.film import is_address

    name = source.info.name
    if source.broken:
        return f"{name}: none of its {source.broken} frames can be decoded: copy or download it again"
    if source.fault:
        # a server without ranges cannot send a film whose index is at its end
        cure = "download it, and name the file" if is_address(name) else "copy or download it again"
        return f"{name}: {source.fault}, and no frame came before: {cure}"
    if options.start_s > 0:
        return f"{name}: there is no frame after {options.start_s:g} s: choose an earlier --start"
    return f"{name}: there is no frame in it: is it a film?"


def _notes(source: "FrameSource", outputs: "Outputs") -> None:
    """What went not quite well, on stderr."""
    if source.broken:
        complain(f"{source.info.name}: {source.broken} broken frame{'s' * (source.broken != 1)} skipped")
    if source.fault:
        complain(f"{source.info.name}: {source.fault}")
    if outputs.problem:
        complain(outputs.problem)


def _print(summary: "Summary", source: "FrameSource", analyzer: "Analyzer", form: Format) -> None:
    if form is Format.JSON:
        from mien.video.outputs import summary_dict

        about = {
            "source": source.info.name,
            "model": analyzer.provenance,
            "broken": source.broken,
            "fault": source.fault,
        }
        typer.echo(json.dumps(summary_dict(summary, about), indent=2, allow_nan=False))
        return
    print_summary(summary)


def print_summary(summary: "Summary") -> None:
    """A line a track: when it was seen, and its emotions by their share of that time."""
    from mien.video.timeline_picture import clock

    if not summary.tracks:
        typer.echo(f"no face in {summary.frames:,} frame{'s' * (summary.frames != 1)}")
        return
    typer.echo(
        f"{'track':>5} {'first':>8} {'last':>8} {'in sight':>9} {'switches/min':>12} {'uncertain':>9}  share of time"
    )
    for one in summary.tracks:
        shares = ", ".join(f"{emotion} {100 * share:.0f} %" for emotion, share in one.shares.items())
        times = f"{clock(one.first_s):>8} {clock(one.last_s):>8} {one.seen_s:>7.1f} s"
        doubt = f"{100 * one.uncertain_frames / one.frames:>7.0f} %"
        typer.echo(f"{one.track:>5} {times} {one.switches_per_minute:>12.1f} {doubt}  {shares}")
