"""`mien data audit`: what is wrong with labelled faces, as pictures, as a table, and as a list to leave out."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.messages import Unreadable, complain
from mien.cli.options import Format, FormatOption
from mien.cli.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mien.datasets.audit.findings import Audit
    from mien.datasets.audit.pool import Pool
    from mien.training.reporters import Terminal

PIECE = 64  # images of one call
SIZE_HW = (48, 48)  # of the aligned crop, which is thrown away: found or not is what counts


class FaceDetector(StrEnum):
    """Who looks for faces."""

    CENTERFACE = "centerface"
    YUNET = "yunet"


class LabelErrors(StrEnum):
    """Where the out-of-fold predictions come from."""

    FEATURES = "features"
    TRAIN = "train"


def audit(  # noqa: PLR0913 - one parameter an option
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Prepared data set, or a folder of class sub-folders.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report, its pictures and findings.csv go.")
    ],
    *,
    label_errors: Annotated[
        LabelErrors | None,
        typer.Option(
            help="Look for label errors by cross-validation: a linear classifier on --model's features (a minute or "
            "two), or a network trained for each fold (hours).",
            show_default=False,
        ),
    ] = None,
    detector: Annotated[
        FaceDetector | None,
        typer.Option(help="Look for a face in every image; takes minutes.", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option(help="With --label-errors features: whose features.")] = "default",
    recipe: Annotated[
        str, typer.Option(help="With --label-errors train: what to train, as `mien train`.")
    ] = "resnet9-narrow",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of --recipe.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Parts of the cross-validation.")] = 5,
    with_test: Annotated[bool, typer.Option("--with-test", help="Open the test split too.")] = False,
    write_exclusions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the images to leave out, for --exclude.", show_default=False),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="PROBLEM", help="Leave out every image with this problem too; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Find copies, leaks between splits, contradictory labels, images without a face, and likely label errors.

    Unreadable images of a folder are named, listed in the report, and make the exit code 1.
    """
    from mien.datasets.audit import output as files
    from mien.datasets.audit import page, run
    from mien.datasets.audit.findings import check_problems
    from mien.datasets.audit.pool import open_pool

    check_problems(also or ())
    pool = open_pool(data, with_test=with_test)
    unreadable = Unreadable(output / "audit.json")
    unreadable(pool.dataset)
    if with_test and "test" not in pool.splits:
        complain(f"{data} has no test images: --with-test changed nothing")
    about: dict[str, Any] = {"source": data.resolve().name}
    probabilities = None
    if label_errors is not None:
        how = model if label_errors is LabelErrors.FEATURES else recipe
        about["label_errors"] = {"how": f"{label_errors.value} of {how}", "folds": folds, "seed": seed}
        held_out = _folds(pool, folds, seed)
        if label_errors is LabelErrors.FEATURES:
            probabilities = _from_features(pool, model, held_out)
        else:
            about["label_errors"]["settings"] = settings or []
            probabilities = _from_training(pool, recipe, settings or [], held_out, output / "folds")
    if detector is None:
        found = run.audit(pool, probabilities=probabilities, about=about)
    else:
        finds_face = _finder(detector.value, pool)
        with Bar("looking for faces", len(pool)) as bar:
            about["detector"] = detector.value
            found = run.audit(
                pool, finds_face=finds_face, probabilities=probabilities, about=about, progress=bar.update
            )
    files.write(found, output)
    page.write(found, output)
    if write_exclusions is not None:
        write_exclusions.write_text(files.exclusion_list(found, tuple(also or ())), encoding="utf-8")
        typer.echo(f"wrote {write_exclusions}", err=True)
    if format_ is Format.JSON:
        typer.echo(json.dumps(found.summary(), indent=1, ensure_ascii=False))
    else:
        _print_table(found)
    typer.echo(f"wrote {output / 'index.html'}", err=True)
    unreadable.end()


def _folds(pool: "Pool", folds: int, seed: int) -> "NDArray[np.int64]":
    from mien.datasets.audit.label_errors import draw_folds
    from mien.errors import require

    require("cleanlab.filter", "audit")  # before minutes of work, not after
    return draw_folds(pool, folds, seed=seed)


def _from_features(pool: "Pool", model: str, held_out: "NDArray[np.int64]") -> "NDArray[np.float32]":
    """Out-of-fold probabilities of a linear classifier on the mean of the model's last feature maps."""
    import numpy as np

    from mien import hub
    from mien.datasets.audit.label_errors import from_features
    from mien.runtime.predictor import Predictor

    predictor, crops, parts = Predictor(hub.resolve(model)), pool.grey(), []
    began_s = time.perf_counter()
    with Bar("features", len(crops)) as bar:
        for start in range(0, len(crops), PIECE):
            _, maps = predictor.predict_with_features(crops[start : start + PIECE])
            parts.append(maps.mean(axis=(2, 3)))
            if start == 0:
                _estimate("features", time.perf_counter() - began_s, len(parts[0]), len(crops))
            bar.update(min(start + PIECE, len(crops)), len(crops))
    with Bar("folds", int(held_out.max()) + 1) as bar:
        return from_features(np.concatenate(parts), pool.classes, held_out, progress=bar.update)


def _from_training(
    pool: "Pool", recipe: str, settings: list[str], held_out: "NDArray[np.int64]", output: Path
) -> "NDArray[np.float32]":
    """Out-of-fold probabilities of a network trained for each fold."""
    from mien.errors import require

    require("torch", "train")
    from mien.training.folds import from_training
    from mien.training.recipe import parse_settings
    from mien.training.start import Order

    order = Order(recipe=recipe, settings=parse_settings(settings), data=output, output=output)
    return from_training(pool.whole(), pool.labels, held_out, order, watch=_watch)


def _watch(title: str, epochs: int) -> "Terminal":
    from mien.training.reporters import Terminal

    typer.echo(title, err=True)
    return Terminal(epochs)


def _finder(detector: str, pool: "Pool") -> "Callable[[NDArray[np.uint8]], bool]":
    """Whether a crop shows a face, as `mien data prepare --align` looks for it; says how long it will take."""
    from mien.faces import detect
    from mien.faces.recrop import Recrop

    recrop = Recrop(detect.create(detector))
    began_s = time.perf_counter()
    tried = min(8, len(pool))
    for i in range(tried):
        recrop(pool.grey_image(i), SIZE_HW)
    _estimate("looking for faces", time.perf_counter() - began_s, tried, len(pool))
    return lambda pixels: recrop(pixels, SIZE_HW) is not None


def _estimate(what: str, seconds: float, done: int, total: int) -> None:
    """Say on stderr how long the whole will take, where that is longer than a few seconds."""
    if (whole_s := seconds / done * total) > 5:
        spoken = f"{whole_s:.0f} s" if whole_s < 90 else f"{whole_s / 60:.0f} min"
        typer.echo(f"{what}: {total:,} images, about {spoken}", err=True)


def _print_table(found: "Audit") -> None:
    """Problems (rows) with their images in all, groups, and images by split."""
    from rich.console import Console
    from rich.table import Table

    summary = found.summary()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("problem")
    for head in ("images", "groups", *summary["images"]):
        table.add_column(head, justify="right")
    table.add_column("suggested")
    for problem, row in summary["problems"].items():
        numbers = (row["images"], row["groups"], *(row["by_split"].get(split, 0) for split in summary["images"]))
        suggested = ", ".join(f"{name} {count:,}" for name, count in row["suggestions"].items())
        table.add_row(problem, *(f"{number:,}" for number in numbers), suggested)
    everything = ", ".join(f"{count:,} {split}" for split, count in summary["images"].items())
    Console().print(table)
    typer.echo(f"{everything} images, {summary['distinct']:,} of them distinct")
