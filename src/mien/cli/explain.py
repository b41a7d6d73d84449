"""`mien explain`: where in the face the evidence for an emotion lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mien.cli.explain_output import check_outputs, show, write
from mien.cli.messages import complain
from mien.cli.options import DetectorName, DetectorOption
from mien.cli.progress import Bar
from mien.cli.sources import Expansion, expand
from mien.errors import ConfigError, DataError, ImageError, require
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


def command(  # noqa: PLR0913 - one parameter an option
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="Pictures, folders (with all below them) or quoted globs.")
    ],
    *,
    method: Annotated[
        list[Method] | None, typer.Option("--method", help="How to explain; repeatable. (default: occlusion)")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Emotion to explain, or `all`; repeatable. (default: what the first model says)"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Name, .onnx, run or checkpoint; repeatable: a row each. (default: default)"
        ),
    ] = None,
    detector: DetectorOption = DetectorName.CENTERFACE,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="Picture (.png, .svg) or maps (.json, .csv, .npy); repeatable."),
    ] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", "-f", help="What to print on stdout; table and csv number faces from 1, json from 0."),
    ] = Format.TABLE,
    grid: Annotated[
        Grid | None, typer.Option(help="methods: every method that a model allows; labels: every emotion.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Add deletion and insertion curves and the model-randomisation check.")
    ] = False,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Side of occlusion's patch in pixels of the crop. (default: a sixth)")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Step of the patch in pixels. (default: half a patch)")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the random maps and shuffled weights of --check. (default: 0)")
    ] = None,
) -> None:
    """Show where in each face the evidence for an emotion lies, as a picture and as data.

    occlusion works with every model; cam needs global pooling before the classifier; saliency, smoothgrad, gradcam and
    integrated-gradients need a run or checkpoint and the train extra.
    """
    from mien.explain.study import Request
    from mien.faces import detect

    methods = tuple(one.value for one in method or ()) or (tuple(Method) if grid is Grid.METHODS else ("occlusion",))
    occludes = "occlusion" in methods
    contradictions = (
        (
            grid is Grid.LABELS and "all" not in (label or ["all"]),
            "--grid labels draws every emotion: leave out --label",
        ),
        (grid is Grid.METHODS and method, "--grid methods draws every method: leave out --method"),
        (patch and not occludes, "--patch is for occlusion: add --method occlusion"),
        (stride and not occludes, "--stride is for occlusion: add --method occlusion"),
        (seed is not None and not check, "--seed is for --check: add that"),
    )
    for is_so, sentence in contradictions:
        if is_so:
            raise ConfigError(sentence)
    expansion = expand(images)
    check_outputs(output or [], [found.path for found in expansion.files])
    request = Request(methods=methods, patch_px=patch, stride_px=stride, check=check, seed=seed or 0)
    finder = detect.create(detector.value)
    models = [_load(name, finder, request.seed) for name in model or ["default"]]
    wanted = ("all",) if grid is Grid.LABELS else tuple(label or ())
    explained, failures = _explain_all(expansion, models, wanted, request)
    for one in models:
        if check and one.cascade is None:
            needs = "it needs onnx (pip install 'mien[train]') and weights that are not int8"
            complain(f"{one.name}: no randomisation check: {needs}")
    if grid is not Grid.METHODS:  # a grid of all methods shows what is missing, and that is no fault
        failures += sorted({f"{entry.model}: {why}" for entry in explained for why in entry.missing.values()})
    for failure in failures:
        complain(failure)
    if not any(entry.findings for entry in explained):
        raise typer.Exit(2)
    show(explained, format_.value)
    for path in output or []:
        write(explained, path, by_label=grid is Grid.LABELS)
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
    from mien.runtime import providers
    from mien.runtime.predictor import Predictor

    file = providers.file_of(name)
    if hub.is_trained(file):
        return _load_run(file, finder, seed)
    predictor = Predictor(file)

    def cascade() -> "Iterator[tuple[str, Predictor]]":
        from mien.explain.randomise import shuffled_onnx

        return shuffled_onnx(file, seed=seed)

    possible = find_spec("onnx") is not None and predictor.spec.precision != "int8"
    return _Model(predictor.spec.name, Analyzer(predictor, finder), cascade if possible else None)


def _load_run(path: Path, finder: "Detector", seed: int) -> _Model:
    require("torch", "train")
    from mien.explain.gradients import TorchPredictor
    from mien.explain.randomise import shuffled_networks
    from mien.pipeline import Analyzer
    from mien.training.run import load_model

    predictor = TorchPredictor(*load_model(path))
    analyzer = Analyzer(cast("Predictor", predictor), finder)  # it predicts alike; crops and faces need its spec only
    return _Model(predictor.spec.name, analyzer, lambda: shuffled_networks(predictor, seed=seed))


def _explain_all(
    expansion: Expansion, models: Sequence[_Model], labels: tuple[str, ...], request: "Request"
) -> tuple[list["Explained"], list[str]]:
    """What was found, picture by picture, and a line for each picture that could not be explained."""
    explained: list[Explained] = []
    failures = list(expansion.problems)
    with Bar("pictures", len(expansion.files)) as bar:
        for found in expansion.files:
            try:
                explained += _explain_picture(found.path, models, labels, request)
            except ImageError as error:
                failures.append(str(error))
            bar.advance()
    return explained, failures


def _explain_picture(
    path: str, models: Sequence[_Model], labels: tuple[str, ...], request: "Request"
) -> list["Explained"]:
    """Every face by every model; all models explain the labels that the first one found."""
    from mien.explain.page import Explained
    from mien.explain.study import study_face

    photo = models[0].analyzer.read(path)  # as `mien predict` reads it: what is explained is its very answer
    faces_by_model = [model.analyzer.analyze_many([photo])[0] for model in models]
    if not faces_by_model[0]:
        raise ImageError(f"{path}: no face found; if the picture is one face, add --detector none")
    explained = []
    for number, answers in enumerate(zip(*faces_by_model, strict=True)):  # one detector: every model has the same faces
        asked = labels or (answers[0].emotion,)  # by the first model; the others explain the same
        for model, face in zip(models, answers, strict=True):
            names = _labels(asked, model, models[0] if not labels else None)
            try:
                findings, missing = study_face(
                    model.analyzer.predictor, face.crop, names, request, cascade=model.cascade
                )
            except ValueError as error:  # patch and stride that do not fit the crop
                raise ConfigError(f"{model.name}: {error}") from error
            entry = Explained(
                source=path,
                face=number,
                box_xyxy=tuple(face.box_xyxy.tolist()),
                model=model.name,
                crop=face.crop,
                emotion=face.emotion,
                confidence=face.confidence,
                findings=findings,
                missing=missing,
            )
            explained.append(entry)
    return explained


def _labels(asked: tuple[str, ...], model: _Model, said_by: _Model | None) -> tuple[str, ...]:
    """The labels of `model` that are asked for, or that the model `said_by` gave as its answer."""
    known = model.analyzer.labels
    try:
        return known if "all" in asked else tuple(dict.fromkeys(canonical(label, known) for label in asked))
    except DataError as error:
        if said_by is None:
            raise DataError(f"{model.name}: {error}") from error
        raise DataError(
            f"the models know different labels: {said_by.name} says {asked[0]}, which {model.name} "
            f"({', '.join(known)}) does not know: add --label all, or explain them one by one"
        ) from error
