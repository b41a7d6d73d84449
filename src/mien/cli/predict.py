"""`mien predict`: the emotions in pictures."""

import warnings
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mien
from mien.cli.messages import complain
from mien.cli.options import DetectorName, DetectorOption, ModelOption
from mien.cli.progress import Bar
from mien.cli.sources import Found, expand, output_paths
from mien.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from mien.cli.writers import Writer
    from mien.images import Photo
    from mien.pipeline import Analyzer
    from mien.results import Face

BATCH_IMAGES = 16  # share one call of the network
BATCH_PIXELS = 16_000_000  # of decoded pictures in memory at a time; a single picture may be larger


class Format(StrEnum):
    """Forms of the result."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def command(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCES...", help="Pictures, folders (with all below them) or quoted globs."),
    ],
    format: Annotated[  # noqa: A002 - the option's name
        Format, typer.Option("--format", "-f", help="Form of the result on stdout.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Put copies with the faces marked here; files of their names are replaced.",
        ),
    ] = None,
    model: ModelOption = "default",
    detector: DetectorOption = DetectorName.CENTERFACE,
    strict: Annotated[bool, typer.Option("--strict", help="Count a picture without a face as failed.")] = False,
) -> None:
    """Say which emotions the faces in pictures show, and how probable each is.

    Exit code: 0 all well, 1 some of several inputs failed, 2 nothing could be done.
    """
    expansion = expand(sources, output=output)
    if expansion.met_output:
        complain(f"{output}: not searched, as the marked copies go there: to read it, choose another --output")
    for problem in expansion.problems:
        complain(problem)
    done = 0
    if expansion.files:
        done = _predict(expansion.files, format, output, model=model, detector=detector, strict=strict)
    failed = len(expansion.files) + len(expansion.problems) - done
    if done + failed > 1 or (done and expansion.skipped):
        _summarise(done, failed, expansion.skipped)
    if failed or not done:
        raise typer.Exit(1 if done else 2)


def _predict(
    files: Sequence[Found],
    format: Format,  # noqa: A002
    output: Path | None,
    *,
    model: str,
    detector: str,
    strict: bool,
) -> int:
    """Write the result of each file, or name it on stderr; returns how many went well."""
    from mien.cli.writers import WRITERS

    targets = [None] * len(files) if output is None else output_paths(files, _made(output))
    analyzer = mien.load(model, detector=detector)
    writer = WRITERS[format](analyzer.labels)
    done = 0
    with Bar("pictures", len(files)) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # about damage and size: an ImageError says it in one line
        for result, found, target in zip(_results(analyzer, files), files, targets, strict=True):
            with bar.aside():
                try:
                    _deliver(analyzer, found, result, writer=writer, target=target, strict=strict)
                    done += 1
                except ImageError as error:
                    complain(str(error))
            bar.advance()
    writer.end()
    return done


def _results(analyzer: "Analyzer", files: Sequence[Found]) -> "Iterator[tuple[Photo, list[Face]] | ImageError]":
    """For each file its photo and faces, or what is wrong with it; pictures share calls in batches."""
    for batch in _batches(analyzer, files):
        photos = [photo for photo in batch if not isinstance(photo, ImageError)]
        faces = iter(analyzer.analyze_many(photos))
        yield from (photo if isinstance(photo, ImageError) else (photo, next(faces)) for photo in batch)


def _batches(analyzer: "Analyzer", files: Sequence[Found]) -> "Iterator[list[Photo | ImageError]]":
    """Decoded pictures, or what is wrong with them, in groups that fit in memory."""
    batch: list[Photo | ImageError] = []
    pixels = 0
    for found in files:
        try:
            photo = analyzer.read(found.path)
            pixels += photo.image.shape[0] * photo.image.shape[1]
            batch.append(photo)
        except ImageError as error:
            batch.append(error)
        if len(batch) == BATCH_IMAGES or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _deliver(
    analyzer: "Analyzer",
    found: Found,
    result: "tuple[Photo, list[Face]] | ImageError",
    *,
    writer: "Writer",
    target: Path | None,
    strict: bool,
) -> None:
    """Write one result to stdout and, with its faces marked, to `target`.

    Raises:
        ImageError: the picture could not be read or written, or shows no face and that is not allowed.
    """
    if isinstance(result, ImageError):
        raise result
    photo, faces = result
    if strict and not faces:
        raise ImageError(f"{found.path}: no face found: give a picture with an upright face of 20 pixels or more")
    if target is not None:
        from mien.annotate import annotate
        from mien.images import write_image

        write_image(annotate(photo.whole(), faces), target)
    writer.write(analyzer.describe(found.path, faces, width=photo.width, height=photo.height))


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made a folder ({error.strerror}): choose another --output") from error
    return folder


def _summarise(done: int, failed: int, skipped: int) -> None:
    parts = [f"{done} picture{'s' * (done != 1)} done"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{skipped} other file{'s' * (skipped != 1)} skipped"] if skipped else []
    typer.echo(f"mien: {', '.join(parts)}", err=True)
