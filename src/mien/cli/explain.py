"""`mien explain`: where in the face the evidence for an emotion lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mien.cli.explain_output import OUTPUTS, progress, show, write
from mien.errors import ConfigError, ImageError, require
from mien.labels import canonical

if TYPE_CHECKING:
    from mien.explain.page import Explained
    from mien.explain.study import Cascade, Request
    from mien.faces.detections import Detector
    from mien.pipeline import Analyzer
    from mien.runtime.predictor import Predictor


class Method(StrEnum):
    """As in `mien.explain.METHODS`, which a test compares: importing it here would load NumPy for `mien --help`."""

    OCCLUSION = "occlusion"
    CAM = "cam"
    SALIENCY = "saliency"
    SMOOTHGRAD = "smoothgrad"
    GRADCAM = "gradcam"
    INTEGRATED_GRADIENTS = "integrated-gradients"


class Grid(StrEnum):
    """What the columns of the picture are."""

    METHODS = "methods"
    LABELS = "labels"


class Format(StrEnum):
    """What goes to stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    NPY = "npy"


class DetectorName(StrEnum):
    """As `mien.faces.detect.NAMES`."""

    CENTERFACE = "centerface"
    YUNET = "yunet"
    NONE = "none"


CHECKPOINTS = (".pt", ".ckpt")


def command(  # noqa: PLR0913 - one parameter an option
    images: Annotated[list[Path], typer.Argument(help="Pictures with faces.", show_default=False)],
    *,
    method: Annotated[
        list[Method] | None, typer.Option(help="How to explain; repeatable. [default: occlusion]")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Emotion to explain, or `all`; repeatable. [default: what the first model says]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name, .onnx, run or checkpoint; repeatable: a row each. [default: default]"),
    ] = None,
    detector: Annotated[
        DetectorName, typer.Option(help="none: each picture is one face crop.")
    ] = DetectorName.CENTERFACE,
    output: Annotated[
        list[Path] | None, typer.Option(help="Picture (.png, .svg) or maps (.json, .csv, .npy); repeatable.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print on stdout.")] = Format.TABLE,
    grid: Annotated[
        Grid | None, typer.Option(help="methods: every method that a model allows; labels: every emotion.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Add deletion and insertion curves and the model-randomisation check.")
    ] = False,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Side of occlusion's patch in pixels of the crop. [default: a sixth]")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Step of the patch in pixels. [default: half a patch]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random maps and shuffled weights of --check.")] = 0,
) -> None:
    """Show where in each face the evidence for an emotion lies, as a picture and as data.

    occlusion works with every model; cam needs global pooling before the classifier; saliency, smoothgrad, gradcam and
    integrated-gradients need a run or checkpoint and the train extra.
    """
    for path in output or []:
        if path.suffix.lower() not in OUTPUTS:
            raise ConfigError(f"{path}: the ending must be one of {', '.join(OUTPUTS)}")
    from mien.explain.study import Request
    from mien.faces import detect

    methods = tuple(one.value for one in method or ()) or (tuple(Method) if grid is Grid.METHODS else ("occlusion",))
    request = Request(methods=methods, patch_px=patch, stride_px=stride, check=check, seed=seed)
    finder = detect.create(detector.value)
    models = [_load(name, finder, seed) for name in model or ["default"]]
    wanted = ("all",) if grid is Grid.LABELS and not label else tuple(label or ())
    explained, failures = _explain_all(images, models, wanted, request)
    found = any(entry.findings for entry in explained)
    if check and any(one.cascade is None for one in models):
        typer.echo("mien: no randomisation check of an .onnx without onnx: pip install 'mien[train]'", err=True)
    if grid is not Grid.METHODS or method:  # a grid of all methods shows what is missing, and that is no fault
        failures += sorted({f"{e.model}: {reason}" for e in explained for reason in e.missing.values()})
    for failure in failures:
        typer.echo(f"mien: {failure}", err=True)
    if not found:
        raise typer.Exit(2)
    for path in output or []:
        write(explained, path, by_label=grid is Grid.LABELS)
    show(explained, format_.value)
    if failures:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A model, ready to explain crops of its own geometry."""

    name: str
    analyzer: "Analyzer"
    cascade: "Cascade | None"  # for the randomisation check; None where the train extra is missing


def _load(name: str, finder: "Detector", seed: int) -> _Model:
    from mien import hub
    from mien.pipeline import Analyzer
    from mien.runtime.predictor import Predictor

    path = Path(name)
    if path.is_dir() or path.suffix in CHECKPOINTS:
        return _load_run(path, finder, seed)
    file = hub.resolve(name)
    predictor = Predictor(file)

    def cascade() -> "Iterator[tuple[str, Predictor]]":
        from mien.explain.randomise import shuffled_onnx

        return shuffled_onnx(file, seed=seed)

    return _Model(predictor.spec.name, Analyzer(predictor, finder), cascade if find_spec("onnx") else None)


def _load_run(path: Path, finder: "Detector", seed: int) -> _Model:
    require("torch", "train")
    from mien.explain.gradients import TorchPredictor
    from mien.explain.randomise import shuffled_networks
    from mien.pipeline import Analyzer
    from mien.training.run import load_model

    predictor = TorchPredictor(*load_model(path))
    analyzer = Analyzer(cast("Predictor", predictor), finder)  # it predicts alike; crops and labels need its spec only
    return _Model(predictor.spec.name, analyzer, lambda: shuffled_networks(predictor, seed=seed))


def _explain_all(
    images: Sequence[Path], models: Sequence[_Model], labels: tuple[str, ...], request: "Request"
) -> tuple[list["Explained"], list[str]]:
    """What was found, picture by picture, and a line for each picture that could not be explained."""
    explained: list[Explained] = []
    failures: list[str] = []
    for path in progress(images, "explaining"):
        try:
            explained += _explain_picture(path, models, labels, request)
        except ImageError as error:
            failures.append(str(error))
    return explained, failures


def _explain_picture(
    path: Path, models: Sequence[_Model], labels: tuple[str, ...], request: "Request"
) -> list["Explained"]:
    """Every face by every model; all models explain the labels that the first one found."""
    from mien.explain.page import Explained
    from mien.explain.study import study_face
    from mien.images import read_image

    picture = read_image(path)
    found = models[0].analyzer.detector.detect([picture])[0]
    if not len(found):
        raise ImageError(f"{path}: no face found; if the picture is one face, add --detector none")
    crops = [model.analyzer.crops(picture, found) for model in models]
    explained = []
    for face in range(len(found)):
        asked = labels
        for model, crops_of_model in zip(models, crops, strict=True):
            spec, crop = model.analyzer.spec, crops_of_model[face]
            chances = model.analyzer.predict_crops(crop[None])[0]
            top = int(chances.argmax())
            asked = _labels(asked or (spec.labels[top],), spec.labels)
            findings, missing = study_face(model.analyzer.predictor, crop, asked, request, cascade=model.cascade)
            entry = Explained(
                source=str(path),
                face=face,
                box_xyxy=tuple(found.boxes_xyxy[face].tolist()),
                model=model.name,
                crop=crop,
                emotion=spec.labels[top],
                confidence=float(chances[top]),
                findings=findings,
                missing=missing,
            )
            explained.append(entry)
    return explained


def _labels(asked: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    return known if "all" in asked else tuple(dict.fromkeys(canonical(label, known) for label in asked))
