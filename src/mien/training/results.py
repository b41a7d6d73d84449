"""docs/results.md: tables made of the records of runs, and of nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mien.evaluation.tta import VIEWS
from mien.training import recipe as recipes
from mien.training import transfer
from mien.training.records import PUBLIC_TEST_FACES, Record, SmokeRun

CASE_STUDY = {"baseline": (56.17, 1.58), "vgg": (66.68, 1.36), "resnet50": (70.94, 0.85)}
"""Recipe: accuracy on PublicTest in per cent, and loss, as the case study that mien started from reports them."""

HOW = ("seed", "precision", "channels_last", "compile", "accumulate", "checkpoint_steps")
"""Settings that make another draw or another speed of the same recipe."""

OF_THE_START = (
    "model", "dropout", "layout", "channels", "pretrained", "input_size", "epochs", "warmup_steps",
)  # fmt: skip
"""Settings that `--from MODEL` takes from the model or paces by the number of images."""

TAUGHT = {
    "student": "runs/resnet50",
    "baseline-distilled": "default",
    "baseline-improved": "default",
    "resnet50-distilled": "default",
    "resnet50-imagenet": "default",
    "resnet50-imagenet-further": "default",
    "resnet9-narrow-again": "runs/resnet9-narrow",
    "resnet9-narrow-refined": "runs/resnet9-narrow-again",
    "resnet9-narrow-photos": "runs/resnet9-narrow-aligned",
    "resnet9-narrow-robust": "runs/resnet9-narrow-aligned",
    "senet50-distilled": "default",
    "vgg-narrow-distilled": "default",
    "vgg-narrow-refined": "default",
}
"""Recipes of students, each with the teacher that `mien distill` gives it here."""

BEGUN = {
    "finetune": "default",
    "baseline-improved": "runs/baseline-distilled",
    "resnet9-narrow-again": "runs/resnet9-narrow",
    "resnet9-narrow-refined": "runs/resnet9-narrow-again",
    "resnet9-narrow-photos": "runs/resnet9-narrow-aligned",
    "resnet9-narrow-robust": "runs/resnet9-narrow-aligned",
    "resnet50-imagenet-further": "runs/resnet50-imagenet",
    "vgg-narrow-distilled": "runs/vgg-narrow",
    "vgg-narrow-refined": "runs/vgg-narrow-distilled",
}
"""Recipes that go on with a model, each with the one that it is given here."""

MADE_FOR = {"resnet9-narrow-photos": "data/fer2013-and-photos", "resnet9-narrow-robust": "data/fer2013-and-aligned"}
"""Recipes that are meant for other training images than the plain ones."""

CURVES = """## Learning curves

Training figures are those of the augmented faces as they went by, under the recipe's own loss (with softened, mixed or
taught targets it does not compare with the validation loss); validation is PublicTest, untouched.
Runs of a single epoch have no curve.

![Accuracy of training and validation by epoch, a panel a run](images/results-accuracy.png)

![Loss of training and validation by epoch, a panel a run](images/results-loss.png)
"""

HEAD = """<!-- written by `mien results write` from the records in results/runs: do not edit -->
# Results

Every figure of a run on this page stands in that run's record in `results/runs`, which `mien results add RUN --data
DATA` writes by evaluating the saved weights; `mien results write --output docs/results.md` makes the page. No run was
measured on a test split.
"""

MEANING = f"""- **accuracy**: in per cent of the {PUBLIC_TEST_FACES:,} faces of PublicTest, which serve as validation,
  ± half of the 95 % interval (Wilson). **without twins**: of those alone that are pixel by pixel in no training image.
- **log-loss** and **ECE** (expected calibration error, per cent, 15 bins), each twice. *As trained*: of the softmax as
  the network gives it. *Calibrated*: with one temperature, fitted on one half of these faces and scored on the other,
  both ways.
- **views**: 1 is the face alone, 2 with its mirror image, 10 shifted as well (`--tta`).
- **time**: of all epochs, validation included, on the device named; other work may have run beside it.
- **MACs**: multiply-accumulates of convolutions and dense layers for one face.
- *Case study*: what its report gives; its loss is uncalibrated, PublicTest was its test split; n/s: not stated there.
"""

NOTE_NOT_RUN = """No saved run followed these recipes to the letter, so they have no figures of their own; where
one came close, what it changed stands above. Smoke-runs (`python benchmarks/smoke.py --data data/fer2013`) go as far as
to show that a recipe works: some steps, no figures. Their data come from
`mien data prepare SRC data/fer2013 --ferplus fer2013new.csv`; with `--add-aligned` it makes `data/fer2013-and-aligned`,
which runs with aligned crops added had, and `python benchmarks/photo_faces.py data/fer2013 data/fer2013-and-photos`
makes what those with aligned crops from photos had.
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which recipe a run followed, and what it changed of it."""

    recipe: str  # empty: none of mien's
    changes: Mapping[str, Any]  # setting: the run's value, where it is not the recipe's

    @property
    def exact(self) -> bool:
        """Whether the run is that recipe, whatever its seed and its speed."""
        return bool(self.recipe) and not self.changes


def origin(record: Record) -> Origin:
    """The shipped recipe that `record` follows most closely.

    Raises:
        ConfigError: the record has settings that this mien does not know.
    """
    table = recipes.from_dict(record.about["recipe"], source=record.name).to_dict()
    begun, taught = bool(record.about.get("start")), bool(record.about.get("teachers"))
    ignored = (*HOW, *OF_THE_START) if begun else HOW
    found: list[tuple[bool, int, Origin]] = []  # of another network or not, number of changes
    for name in recipes.names():
        if (name in BEGUN) != begun or (name in TAUGHT) != taught:
            continue
        planned = transfer.settle(recipes.read(name)).to_dict()
        changes = {key: value for key, value in table.items() if key not in ignored and planned[key] != value}
        foreign = planned["model"] != table["model"]
        if begun or taught or not foreign:
            found.append((foreign, len(changes), Origin(name, changes)))
    best = min(found, key=lambda one: one[:2], default=(True, 0, Origin("", {})))[2]
    other: dict[str, Any] = {}
    horizons = record.about.get("horizons") or []
    if len(horizons) > 1:  # resumed towards another number of epochs: another schedule
        other["planned epochs"] = ", ".join(f"{one['epochs']} from epoch {one['from_epoch']}" for one in horizons)
    aligned = record.about["data"].get("aligned")
    if aligned and prepared(record) != MADE_FOR.get(best.recipe):
        what = "aligned crops from photos" if aligned.get("photos") else "aligned crops"
        other[what] = "added" if aligned.get("added") else "instead of the images"
    return Origin(best.recipe, {**best.changes, **other}) if best.recipe else best


def prepared(record: Record) -> str:
    """The data set that the page's commands prepare for such a run."""
    aligned = record.about["data"].get("aligned")
    if not aligned:
        return "data/fer2013"
    if aligned.get("photos"):
        return "data/fer2013-and-photos"
    return "data/fer2013-and-aligned" if aligned.get("added") else "data/fer2013-aligned"


def markdown(records: Sequence[Record], tried: Mapping[str, SmokeRun] = MappingProxyType({})) -> str:
    """The page: runs on PublicTest beside the case study, on other faces, and what was not run, or only tried."""
    public = [one for one in ranked(records) if one.on_public_test]
    others = [one for one in records if not one.on_public_test]
    parts = [HEAD, "## On PublicTest\n", _figures(public, case_study=True), MEANING]
    if public:
        parts += ["## Plain and balanced\n", _balance(public)]
    if any(one.has_curve for one in records):
        parts += [CURVES]
    if others:
        parts += ["## On other validation faces\n", _figures(others, case_study=False)]
    if records:
        parts += ["## How they were made\n", _provenance([*public, *others])]
    if waiting := not_run(records):
        rows = []
        for name, whole in waiting.items():
            steps = str(tried[name]) if name in tried else "no"
            rows.append((f"`{name}`", _standing(name, records), steps, f"`{whole}`"))
        heads = ("recipe", "figures", "smoke-run", "command that runs it")
        parts += ["## Not run\n", NOTE_NOT_RUN, _table(heads, rows)]
    return "\n".join(parts)


def ranked(records: Sequence[Record]) -> list[Record]:
    """The most accurate first."""
    return sorted(records, key=lambda one: -one.metrics["accuracy"])


def not_run(records: Sequence[Record]) -> dict[str, str]:
    """Recipes that no record follows to the letter, each with the command that runs it."""
    followed = [origin(one) for one in records]
    done = {one.recipe for one in followed if one.exact}
    return {name: command(name) for name in recipes.names() if name not in done}


def command(recipe: str) -> str:
    """The one command that runs a shipped recipe."""
    if recipe == "finetune":  # what --from means without a recipe
        return "mien train --from default --data FOLDER --output runs/mine"
    begun = f" --from {BEGUN[recipe]}" if recipe in BEGUN else ""
    taught = f" --teacher {TAUGHT[recipe]}" if recipe in TAUGHT else ""
    verb = "distill" if taught else "train"
    return f"mien {verb} {recipe}{begun}{taught} --data {MADE_FOR.get(recipe, 'data/fer2013')} --output runs/{recipe}"


def _standing(recipe: str, records: Sequence[Record]) -> str:
    close = [one.name for one in records if origin(one).recipe == recipe]
    return f"not run as it is; changed: {', '.join(close)}" if close else "not run"


def _figures(records: Sequence[Record], *, case_study: bool) -> str:
    heads = (
        "run", "parameters", "MACs", "epochs", "time", "device", "views", "accuracy, %", "without twins, %", "macro-F1",
        "log-loss as trained", "log-loss calibrated", "ECE as trained, %", "ECE calibrated, %",
    )  # fmt: skip
    rows = [_figure_row(one) for one in records]
    if case_study:
        for name, (accuracy, loss) in CASE_STUDY.items():
            rows.append((f"*case study: {name}*", *["n/s"] * 6, f"{accuracy:.2f}", *["n/s"] * 2, f"{loss:.2f}"))
    return _table(heads, [(*row, *["n/s"] * (len(heads) - len(row))) for row in rows])


def _figure_row(record: Record) -> tuple[str, ...]:
    found = record.metrics
    fitted = found["calibration"].get("cross_fit")
    apart = found["accuracy_without_twins"]
    return (
        record.name,
        f"{record.parameters:,}",
        f"{record.macs / 1e6:,.1f} M",
        _epochs(record),
        duration(record.seconds),
        record.about["device"],
        str(VIEWS[found["tta"]]),
        _with_interval(found["accuracy"], found["accuracy_ci95"]),
        "not known" if apart is None else _with_interval(apart, found["accuracy_without_twins_ci95"]),
        f"{found['macro_f1']:.4f}",
        f"{found['log_loss']:.4f}",
        f"{fitted['log_loss']:.4f}" if fitted else "not known",
        f"{100 * found['ece']:.2f}",
        f"{100 * fitted['ece']:.2f}" if fitted else "not known",
    )


def _balance(records: Sequence[Record]) -> str:
    """Figures in which every face counts alike beside those in which every class does."""
    rows = []
    for record in records:
        found, of = record.metrics, record.metrics["per_class"]
        recalls = [f"{100 * of[label]['recall']:.1f}" for label in ("fear", "disgust")]
        balanced = (f"{100 * found['macro']['recall']:.2f}", f"{found['macro_f1']:.4f}", *recalls)
        rows.append((record.name, record.about["recipe"]["balance"], f"{100 * found['accuracy']:.2f}", *balanced))
    heads = ("run", "balance", "accuracy, %", "mean recall of the classes, %", "macro-F1", "fear recall, %")
    return _table((*heads, "disgust recall, %"), rows)


def _provenance(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        about, came = record.about, origin(record)
        changes = ", ".join(f"{key}: {value}" for key, value in came.changes.items()) or "none"
        digests = (record.metrics["data"]["digest"], about["data"]["digests"]["train"], record.weights_sha256)
        versions = f"mien {about['versions']['mien']}, torch {about['versions']['torch']}"
        settings = (f"{about['recipe']['seed']}", about["recipe"]["precision"], versions)
        teachers = ", ".join(one["name"] for one in about.get("teachers") or []) or "none"
        hashes = (f"`{one[:12]}`" for one in digests)
        rows.append((record.name, came.recipe or "none", changes, teachers, *settings, *hashes))
    heads = ("run", "recipe", "changed", "teachers", "seed", "precision", "versions")
    return _table((*heads, "measured on", "trained on", "weights"), rows)


def duration(seconds: float) -> str:
    """`seconds` as a person would say it."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _epochs(record: Record) -> str:
    """Epochs done, of how many when it was stopped, and which one was measured when that is not the last."""
    done, planned = len(record.history), record.about["recipe"]["epochs"]
    text = f"{done}" if done == planned else f"{done} of {planned}"
    return text if record.epoch == done else f"{text} (measured: {record.epoch})"


def _with_interval(share: float, interval: Sequence[float]) -> str:
    return f"{100 * share:.2f} ± {50 * (interval[1] - interval[0]):.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    lines.insert(1, "|" + "---|" * len(heads))
    return "\n".join(lines) + "\n"
