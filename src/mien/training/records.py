"""Records of runs: small JSON files that hold every figure which may be published, and what it came from."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mien
from mien import hub
from mien.datasets import exclusions
from mien.datasets.layout import usage_of
from mien.datasets.packed import Dataset, Split
from mien.errors import ConfigError, DataError, ModelError
from mien.evaluation import evaluate as ev
from mien.evaluation import metrics
from mien.evaluation.folder import split_seed
from mien.evaluation.network import torch_predict
from mien.evaluation.tta import Tta
from mien.labels import FER7
from mien.models.counts import count_macs, count_parameters
from mien.training import checkpoint, run, start

FORMAT = 1

PUBLIC_TEST = "PublicTest"
PUBLIC_TEST_FACES = 3589
PUBLIC_TEST_ROWS = range(28709, 28709 + PUBLIC_TEST_FACES)  # of the original fer2013.csv, counted from 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run: what it was, what it cost, how good it is.

    Raises:
        DataError: the figures contradict the confusion matrix or the calibration bins beside them.
    """

    name: str  # of the file, and of the run in tables
    about: Mapping[str, Any]  # recipe, labels, input, digests of the data, versions, device: as the run saved them
    history: tuple[Mapping[str, float], ...]  # one row a finished epoch
    epoch: int  # whose weights were measured
    weights_sha256: str  # of that checkpoint
    parameters: int
    macs: int  # of one face
    seconds: float  # of training and validating all epochs
    metrics: Mapping[str, Any]  # as `mien evaluate` writes them, on validation faces

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise DataError(f"the record {self.name} contradicts itself: {fault}; make it again: mien results add RUN")

    @property
    def on_public_test(self) -> bool:
        """Whether all of PublicTest, and nothing else, was measured on."""
        return bool(self.metrics["data"]["images"] == PUBLIC_TEST and self.metrics["n"] == PUBLIC_TEST_FACES)

    @property
    def has_curve(self) -> bool:
        """Whether there is more than a point to draw."""
        return len(self.history) > 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        table = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"format": FORMAT, **table, "history": list(self.history)}

    def _fault(self) -> str:
        """What does not fit together, in words; empty where all does."""
        table = self.metrics
        confusion = np.array(table["confusion"], np.int64)
        scores = metrics.class_scores(confusion)
        n, right = int(confusion.sum()), int(confusion.trace())
        bins = [one for one in table["calibration"]["bins"] if one["n"]]
        ece = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / max(n, 1)
        recalls = [table["per_class"][label]["recall"] for label in table["labels"]]
        expected: list[tuple[str, Any, Any]] = [
            ("n", table["n"], n),
            ("accuracy", table["accuracy"], right / max(n, 1)),
            ("accuracy_ci95", table["accuracy_ci95"], metrics.wilson_interval(right, n)),
            ("macro_f1", table["macro_f1"], scores.macro(scores.f1)),
            ("recall", recalls, scores.recall),
            ("macro", table["macro"]["recall"], scores.macro(scores.recall)),
            ("ece", table["ece"], ece),
            ("epoch", self.epoch in range(1, len(self.history) + 1), True),
            ("seconds", self.seconds, sum(row["seconds"] for row in self.history)),
        ]
        wrong = [name for name, found, right in expected if not np.allclose(found, right, atol=1e-6, rtol=1e-6)]
        return ", ".join(wrong)


def measure(
    folder: Path,
    dataset: Dataset,
    *,
    name: str = "",
    tta: Tta = "none",
    device: torch.device | None = None,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """The record of the run in `folder`, evaluated on the validation faces of `dataset`.

    Raises:
        ModelError: there is no such run, or it has finished no epoch.
        DataError: the validation faces, or those to train on, are not those of the run, or there are none.
    """
    kept = checkpoint.kept(folder)
    state = checkpoint.load(kept)
    digests = _digests(folder, dataset, state.about["data"]["digests"])
    history = _history(folder)
    model, spec = run.load_model(folder)
    blank = torch.zeros(1, spec.input.channels, *spec.input.size_hw)
    sizes = {"parameters": count_parameters(model), "macs": count_macs(model, blank)}
    split = ev.judged(dataset.split("validation"), dataset.labels, spec.labels)
    predict = torch_predict(model.to(device or "cpu"), spec)
    found = ev.evaluate(predict, split, labels=spec.labels, tta=tta, progress=progress)
    twins = ev.find_twins(split.images, dataset.split("train").images) if "train" in digests else None
    data = {
        "split": "validation",
        "images": images_of(split, dataset.labels),
        "digest": digests["validation"],
        "train_digest": digests.get("train"),
        "protocol": dataset.provenance.get("protocol"),
    }
    about = {"tta": tta, "data": data, "version": mien.__version__}
    evaluation = replace(found, twins=twins, about=about)
    return Record(
        name=name or folder.resolve().name,
        about=_publishable(state.about),
        history=history,
        epoch=state.epoch,
        weights_sha256=hub.sha256_of(kept),
        seconds=math.fsum(row["seconds"] for row in history),
        metrics=evaluation.to_dict(),
        **sizes,
    )


def load_data(folder: Path, data: Path, *, exclude: Path | None = None) -> Dataset:
    """The training and validation faces in `data`, split as the run in `folder` would split them.

    `exclude` is the list of names that the run left out.

    Raises:
        ModelError: there is no such run.
        DataError: `data` is no data set, or the list is for another one.
    """
    about = checkpoint.load(checkpoint.kept(folder)).about
    height, width = about["input"]["size_hw"]
    dataset = start.load_data(data, (height, width), seed=split_seed(about))
    return dataset if exclude is None else exclusions.without(dataset, exclude, root=data)


@dataclass(frozen=True, kw_only=True)
class SmokeRun:
    """What benchmarks/smoke.py keeps of a recipe that it ran for some steps, to see that it works: no figures."""

    date: str  # ISO 8601
    steps: int
    batch_size: int
    weights: str  # what it started from

    def __str__(self) -> str:
        return f"{self.date}: {self.steps} steps of {self.batch_size} faces (weights: {self.weights})"


def read_smoke_runs(path: Path) -> dict[str, SmokeRun]:
    """Recipe -> its smoke-run, of the file that benchmarks/smoke.py writes; none where it does not exist.

    Raises:
        DataError: the file is not one of those.
    """
    if not path.exists():
        return {}
    names = [field.name for field in fields(SmokeRun)]
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {recipe: SmokeRun(**{name: kept[name] for name in names}) for recipe, kept in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no smoke-runs: {error}; write it with benchmarks/smoke.py") from error


def images_of(split: Split, labels: tuple[str, ...]) -> str:
    """Whose faces these are: PublicTest when each name says so, else "other"."""

    def public(name: str) -> bool:
        bare = name.rpartition("/")[2]
        number = bare.removeprefix("fer").removesuffix(".png")
        return usage_of(bare) == PUBLIC_TEST or (number.isdecimal() and int(number) in PUBLIC_TEST_ROWS)

    return PUBLIC_TEST if labels == FER7 and all(public(name) for name in split.names) else "other"


def write(record: Record, folder: Path) -> Path:
    """Write `record` as `<name>.json` in `folder`; the file's path is returned.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = folder / f"{record.name}.json"
    text = json.dumps(record.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot write it: {error.strerror or error}") from error
    return path


def read(folder: Path) -> tuple[Record, ...]:
    """All records in `folder`, by name; none where it does not exist.

    Raises:
        DataError: a file is no record, or contradicts itself.
    """
    return tuple(_read(path) for path in sorted(folder.glob("*.json")))


def _read(path: Path) -> Record:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("format") != FORMAT:
            raise DataError(f"{path} was written by a newer mien: upgrade")
        record = Record(**{**table, "history": tuple(table["history"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no record of a run: {error}; write it with `mien results add RUN`") from error
    if record.name != path.stem:
        raise DataError(f"{path} holds the record of {record.name}: give the file its name back")
    return record


def _digests(folder: Path, dataset: Dataset, of_run: Mapping[str, str]) -> dict[str, str]:
    """Digests of the faces to measure on, and of those to train on where there are any: twins are counted among them.

    Raises:
        DataError: they are not those of the run in `folder`.
    """
    faces = {"validation": dataset.split("validation")}
    if len(dataset.splits.get("train", ())):
        faces["train"] = dataset.split("train")
    digests = {part: images.digest for part, images in faces.items()}
    for part, digest in digests.items():
        if digest != of_run[part]:
            raise DataError(
                f"these are not the {part} faces of {folder}: their digest is {digest[:12]}, the run's is "
                f"{of_run[part][:12]}; name the data set that it was trained on, with the same --exclude"
            )
    return digests


def _history(folder: Path) -> tuple[Mapping[str, float], ...]:
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        return tuple(json.loads(line) for line in lines)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable history.jsonl: it has finished no epoch, or is damaged") from error


def _publishable(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of itself without the names of folders, which are this machine's own."""
    kept = {key: value for key, value in about.items() if key != "data"}
    if begun := about.get("start"):
        kept["start"] = {"source": Path(begun["source"]).name}
    recipe = about["recipe"]
    kept["recipe"] = {**recipe, "pretrained": Path(recipe["pretrained"]).name}
    data = {"digests": about["data"]["digests"]}
    if aligned := about["data"].get("provenance", {}).get("aligned"):  # as `mien data prepare` says how
        data["aligned"] = aligned
    return {**kept, "data": data}
