"""What MODEL means on the command line: a name, an .onnx file, a run folder or a checkpoint, ready to predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import require

if TYPE_CHECKING:
    from mien.bundle import ModelSpec
    from mien.evaluation.tta import Predict


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A model, whatever it came from."""

    spec: "ModelSpec"
    predict: "Predict"  # crops to calibrated probabilities
    about: dict[str, Any]  # name, file, hash, calibration


def open_model(name_or_path: str) -> Opened:
    """Load MODEL.

    Raises:
        ModelError: there is no such model, or it is damaged.
        MissingExtraError: a run or checkpoint needs torch.
    """
    from mien import hub

    file = hub.resolve(name_or_path)
    if hub.is_trained(file):
        return _open_run(file)
    from mien.runtime.predictor import Predictor

    predictor = Predictor(file)
    return Opened(predictor.spec, predictor.predict, {**predictor.info.to_dict(), "file": file.name})


def names_of(arguments: Sequence[str], models: Sequence[Opened]) -> list[str]:
    """What to call models: by their folder, file or name, with kind or number where two are alike."""
    plain, kinds = [], []
    for argument, opened in zip(arguments, models, strict=True):
        path = Path(argument)
        kinds.append("run" if path.is_dir() else path.suffix.lstrip(".") or "packaged")
        plain.append(path.resolve().name if path.is_dir() else path.stem or opened.spec.name)
    named = [name if plain.count(name) == 1 else f"{name} ({kind})" for name, kind in zip(plain, kinds, strict=True)]
    return [name if named.count(name) == 1 else f"{name} {named[: i + 1].count(name)}" for i, name in enumerate(named)]


def _open_run(path: Path) -> Opened:
    require("torch", "train")
    from mien.evaluation.network import torch_predict
    from mien.training.run import load_model

    model, spec = load_model(path)
    about = {
        "name": spec.name,
        "run": path.resolve().name,
        "epochs": spec.training.get("recipe", {}).get("epochs"),
        "temperature": spec.temperature,
        "threshold": spec.threshold,
        "precision": spec.precision,
        "licence": spec.licence,
    }
    return Opened(spec, torch_predict(model, spec), about)
