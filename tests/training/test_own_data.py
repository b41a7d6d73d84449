"""Anyone's own faces: `--from` a trained model, on a folder of classes that the model never heard of."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tests.drawing import draw_face
from tests.training.conftest import MakeEngine
from torch import nn

from mien import hub, models
from mien.bundle import FER2013_LANDMARKS
from mien.datasets import packed
from mien.errors import DataError, ModelError
from mien.export.exporter import Faces, export
from mien.runtime.predictor import Predictor
from mien.training import recipe as recipes
from mien.training import run, start
from mien.training.distributed import World
from mien.training.recipe import Recipe
from mien.training.start import Order

SIZES = (40, 48, 61, 96)  # of the images of the folder, in pixels
LABELS = {"Beaming": "happy", "down": "sad"}  # class -> what is drawn
MODEL = "resnet9-narrow"


@pytest.fixture(scope="module")
def trained(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the seven emotions, as a release of mien would carry them: fp16 with what is known of them."""
    folder = tmp_path_factory.mktemp("start")
    recipe = Recipe(model=MODEL, epochs=2, batch_size=28, warmup_steps=0, ema=0.5, input_size=24)
    run.prepare(run.Job(recipe, packed.load(cartoon_dataset), folder / "run"), World()).run()
    run.save_weights(folder / "run", folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.fixture(scope="module")
def smiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 drawn faces of several sizes in two folders, as colour pictures; beside them a file that is none."""
    root = tmp_path_factory.mktemp("smiles")
    rng = np.random.default_rng(5)
    for label, emotion in LABELS.items():
        (root / label).mkdir()
        for number in range(50):
            face = draw_face(emotion, rng, SIZES[number % len(SIZES)])
            PIL.Image.fromarray(face).convert("RGB").save(root / label / f"{number:03}.png")
    (root / "Beaming" / "notes.txt").write_text("no image")
    return root


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned run and what it was made from."""

    run: Path
    folder: Path


@pytest.fixture(scope="module")
def tuned(trained: Path, smiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    output = tmp_path_factory.mktemp("tuned") / "run"
    settings = {"epochs": 6, "batch_size": 16, "ema": 0.5, "erasing": 0.0, "rotation_deg": 5}
    order = Order(start=str(trained), settings=settings, data=smiles, output=output, device="cpu")
    summary = start.train(order)
    assert summary is not None
    return Tuned(output, smiles)


def _accuracies(folder: Path) -> list[float]:
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["validation_accuracy"] for line in lines]


def test_labels_are_the_folders(tuned: Tuned) -> None:
    model, spec = run.load_model(tuned.run)
    assert spec.labels == tuple(LABELS)
    assert spec.input.size_hw == (24, 24)  # the start's own
    assert spec.landmarks == FER2013_LANDMARKS  # so the detector's crops fit
    assert "FER-2013" in spec.licence.partition("started from")[2]
    assert tuned.folder.name in spec.licence
    assert model(torch.zeros(2, 1, 24, 24)).shape == (2, 2)


def test_it_learns(tuned: Tuned) -> None:
    assert max(_accuracies(tuned.run)) > 0.8


def test_exported_and_served(tuned: Tuned, tmp_path: Path) -> None:
    model, spec = run.load_model(tuned.run)
    data = start.load_data(tuned.folder, spec.input.size_hw, seed=0)
    done = export(model, spec, tmp_path / "smiles.onnx", faces=Faces.of(data, spec.labels))
    predictor = Predictor(tmp_path / "smiles.onnx")
    assert predictor.spec.labels == tuple(LABELS)
    assert predictor.spec.metrics["n"] == len(data.split("validation"))
    assert done.parity.max_difference < 1e-3
    probabilities = predictor.predict(data.split("validation").images)
    right = (probabilities.argmax(1) == data.split("validation").labels).mean()
    assert right == pytest.approx(predictor.spec.metrics["accuracy"])


def test_the_split_follows_the_seed(smiles: Path) -> None:
    first, again, other = (start.load_data(smiles, (24, 24), seed=seed) for seed in (3, 3, 4))
    assert first.split("train").digest == again.split("train").digest
    assert first.split("validation").names != other.split("validation").names
    assert not {*first.split("train").names} & {*first.split("validation").names}


@pytest.mark.parametrize(("folders", "validation"), [
    pytest.param({"train": "train", "val": "validation", "test": "test"}, 20, id="its own validation"),
    pytest.param({"train": "train", "test": "test"}, None, id="a part of train, where there is none"),
])  # fmt: skip
def test_split_folders_keep_their_test_images_closed(
    smiles: Path, tmp_path: Path, folders: dict[str, str], validation: int | None
) -> None:
    for folder in folders:
        for label in LABELS:
            target = tmp_path / "faces" / folder / label
            target.mkdir(parents=True)
            for path in sorted((smiles / label).glob("*.png"))[: 20 if folder == "train" else 10]:
                if folder == "test":
                    (target / path.name).write_bytes(b"never opened")
                else:
                    shutil.copy(path, target)
    data = start.load_data(tmp_path / "faces", (24, 24), seed=0)
    assert set(data.splits) == {"train", "validation"}
    assert not data.provenance["unreadable"]
    found = len(data.split("validation"))
    assert found == validation if validation else 4 <= found <= 12
    assert len(data.split("train")) == (40 if validation else 40 - found)


@pytest.mark.parametrize(("images", "epochs", "warmup"), [
    pytest.param(28_709, 2, 50, id="large: two epochs"),
    pytest.param(1_600, 24, 50, id="25 steps an epoch"),
    pytest.param(64, 60, 6, id="small: sixty epochs, short warm-up"),
])  # fmt: skip
def test_length_follows_the_folder(images: int, epochs: int, warmup: int) -> None:
    recipe = start.paced(recipes.read("finetune"), images)
    assert (recipe.epochs, recipe.warmup_steps) == (epochs, warmup)


def test_settings_go_before_the_pace(trained: Path, smiles: Path, tmp_path: Path) -> None:
    order = Order(start=str(trained), settings={"epochs": 3}, data=smiles, output=tmp_path / "run", device="cpu")
    engine = run.prepare(start.read(order), World())
    assert (engine.recipe.epochs, engine.recipe.warmup_steps) == (3, 12)  # of 60 epochs with two steps, a tenth
    assert engine.recipe.model == MODEL


def test_images_are_kept_as_large_as_the_network_sees_them(smiles: Path, tmp_path: Path) -> None:
    order = Order(
        recipe=MODEL, settings={"input_size": 64, "ferplus": "none"}, data=smiles, output=tmp_path / "run", device="cpu"
    )
    engine = run.prepare(start.read(order), World())
    assert engine.train.images.shape[1:] == (64, 64)


@pytest.mark.parametrize("name", models.names())
def test_only_the_classifier_depends_on_the_labels(name: str) -> None:
    """What `load_matching` lets differ is what does differ, in every network."""
    with torch.device("meta"):
        seven, two = models.create(name, 7), models.create(name, 2)
    ours, theirs = two.state_dict(), seven.state_dict()
    differing = {key for key in ours if ours[key].shape != theirs[key].shape}
    last = [key for key, module in two.named_modules() if isinstance(module, nn.Linear)][-1]
    assert differing == {f"{last}.weight", f"{last}.bias"}


def test_other_labels_get_a_new_classifier() -> None:
    """As many classes with other names: the old rows would mean something else."""
    old, new = models.create(MODEL, 2), models.create(MODEL, 2)
    fresh = new.classifier.weight.detach().clone()  # type: ignore[operator, union-attr]
    reset = run.load_matching(new, old.state_dict(), source="old", classifier=False)
    assert reset == ("classifier.bias", "classifier.weight")
    assert torch.equal(new.classifier.weight, fresh)  # type: ignore[arg-type]
    assert all(torch.equal(new.state_dict()[key], value) for key, value in old.state_dict().items() if key not in reset)


def test_start_with_a_second_head(make_engine: MakeEngine, smiles: Path, tmp_path: Path) -> None:
    """A network that learned from votes beside labels is a start as any other."""
    engine = make_engine(model=MODEL, ferplus="head", output=tmp_path / "votes", epochs=1, input_size=24)
    engine.run()
    order = Order(start=str(tmp_path / "votes"), data=smiles, output=tmp_path / "run", device="cpu")
    network = run.prepare(start.read(order), World()).model
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    averaged = engine.averaged
    assert averaged is not None
    assert all(torch.equal(value, averaged.model.state_dict()[f"net.{key}"]) for key, value in body.items())


def test_starts_that_do_not_fit(trained: Path, smiles: Path, tmp_path: Path) -> None:
    order = Order(start=str(trained), data=smiles, output=tmp_path / "run", device="cpu")
    with pytest.raises(ModelError, match="does not fit this network"):
        run.prepare(start.read(replace(order, settings={"model": "vgg-narrow"})), World())
    with pytest.raises(DataError, match="no prepared data set and no folder"):
        start.train(replace(order, data=tmp_path / "nothing"))
    assert not order.output.exists()  # nothing was begun there


@pytest.mark.soak
@pytest.mark.fer2013
def test_happy_or_not_from_the_packaged_model(fer2013_packed: Path, tmp_path: Path) -> None:
    """8,000 faces as PNG files in two folders, PublicTest to validate: over 90 % within 5 minutes on two cores."""
    if not (hub.PACKAGED / "default.safetensors").exists():
        pytest.skip("no packaged weights to start from")
    data = packed.load(fer2013_packed, only=("train", "validation"))
    chosen = np.random.default_rng(0).permutation(len(data.split("train")))[:8000]
    for name, split in (("train", data.split("train").take(np.sort(chosen))), ("validation", data.split("validation"))):
        for label in ("happy", "not happy"):
            (tmp_path / "faces" / name / label).mkdir(parents=True)
        for row, (image, index) in enumerate(zip(split.images, split.labels, strict=True)):
            label = "happy" if data.labels[index] == "happy" else "not happy"
            PIL.Image.fromarray(np.asarray(image)).save(tmp_path / "faces" / name / label / f"{row:05}.png")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        started = time.perf_counter()
        order = Order(start="default", data=tmp_path / "faces", output=tmp_path / "run", device="cpu")
        start.train(order)
        seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    _, spec = run.load_model(tmp_path / "run")
    assert spec.labels == ("happy", "not happy")
    best = max(_accuracies(tmp_path / "run"))
    assert best > 0.9
    assert seconds < 300
