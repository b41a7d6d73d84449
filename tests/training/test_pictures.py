"""Contact sheets of augmentation, the surest mistakes, and both in TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeEngine

from mien.datasets.packed import Dataset
from mien.errors import DataError
from mien.labels import FER7
from mien.models import info
from mien.preprocess import InputSpec
from mien.training import data, pictures
from mien.training.data import DeviceData
from mien.training.recipe import Recipe
from mien.training.reporters import TensorBoard

SPEC = info("baseline").input
EVERYTHING: dict[str, Any] = {"mixup": 0.4, "cutmix": 1.0, "mix_probability": 1.0, "blur": 0.04, "noise": 0.15}
RARE = {"mixup", "CutMix", "blur and noise"}
NOTHING: dict[str, Any] = {
    "flip": 0.0, "rotation_deg": 0.0, "shift": 0.0, "zoom": 0.0, "colour_probability": 0.0, "erasing": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def faces(cartoons: Dataset) -> DeviceData:
    return data.place(cartoons.split("train"), FER7, Recipe(), torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "off"),
    [
        pytest.param(EVERYTHING, set(), id="everything"),
        pytest.param({}, RARE, id="the defaults"),
        pytest.param(NOTHING, {"affine", "colour", "erasing", *RARE}, id="nothing"),
        pytest.param({"brightness": 0.0, "contrast": 0.0}, {"colour", *RARE}, id="colour of no strength"),
    ],
)
def test_each_effect_that_is_on_changes_faces_and_none_else_does(
    faces: DeviceData, settings: dict[str, Any], off: set[str]
) -> None:
    pixels = faces.pixels(torch.arange(16), SPEC)
    found = pictures.effects(Recipe(**settings))
    assert {one.name for one in found if one.recipe is None} == off
    for one in found[1:-1]:
        if one.recipe is not None:
            different = (pictures.augmented(one.recipe, pixels, seed=0) - pixels).abs().amax((1, 2, 3)) > 0.02
            assert different.float().mean() > 0.5, one.name
    plain = pictures.augmented(found[0].recipe or Recipe(), pixels, seed=0)
    assert torch.allclose(plain, pixels, atol=1e-5)


def test_erasing_leaves_the_rest(faces: DeviceData) -> None:
    pixels = faces.pixels(torch.arange(32), SPEC)
    (erasing,) = (one.recipe for one in pictures.effects(Recipe()) if one.name == "erasing")
    assert erasing is not None
    touched = ((pictures.augmented(erasing, pixels, seed=1) - pixels).abs() > 1e-4).float().mean((1, 2, 3))
    assert touched.max() < 0.25  # Recipe.erasing_area ends at 0.2; a rectangle covers whole pixels


def test_a_sheet_is_drawn_from_the_seed(faces: DeviceData) -> None:
    first, again, other = (
        np.asarray(pictures.contact_sheet(Recipe(seed=seed), faces, SPEC).png()) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_sheet_shows_every_class(faces: DeviceData) -> None:
    rows = pictures._one_of_each(faces.labels, 14, seed=3)
    assert np.bincount(faces.labels[rows].numpy()).tolist() == [2] * 7
    assert len(set(rows.tolist())) == 14


def test_a_network_in_colour(faces: DeviceData) -> None:
    spec = InputSpec(size_hw=(64, 64), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    page = pictures.contact_sheet(Recipe(), faces, spec, faces=2).png()
    assert page.mode == "RGB"


def test_no_faces(faces: DeviceData) -> None:
    nobody = DeviceData(faces.images[:0], faces.labels[:0], faces.targets[:0], None, faces.device)
    with pytest.raises(DataError, match="no faces"):
        pictures.contact_sheet(Recipe(), nobody, SPEC)


def test_surest_mistakes_come_first(faces: DeviceData) -> None:
    right = np.eye(7)[faces.labels.numpy()]
    assert pictures.mistakes_sheet(faces, right, FER7, SPEC) is None
    wrong = right.copy()
    wrong[[5, 9]] = 0.0
    wrong[5, 6], wrong[5, 5] = 0.6, 0.4  # faces are drawn angry, disgust, ... in turn: 5 is sad, 9 is fear
    wrong[9, 3], wrong[9, 2] = 0.9, 0.1
    page = pictures.mistakes_sheet(faces, wrong, FER7, SPEC)
    assert page is not None
    svg = page.svg()
    texts = [text for text in ("fear", "happy 90 %", "sad", "surprise 60 %") if f">{text}</text>" in svg]
    assert texts == sorted(texts, key=lambda text: svg.index(f">{text}</text>"))
    assert len(texts) == 4
    assert svg.count("<image") == 2


def test_tensorboard_has_curves_and_pictures(make_engine: MakeEngine, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415 - slow

    engine = make_engine(epochs=2)
    engine.reporter = TensorBoard(tmp_path / "board", engine)
    engine.run()
    read = EventAccumulator(str(tmp_path / "board"))
    read.Reload()
    assert {"train/loss", "validation/accuracy"} <= set(read.Tags()["scalars"])
    assert set(read.Tags()["images"]) == {"train/augmentation", "validation/confusion", "validation/mistakes"}
    assert [event.step for event in read.Images("validation/confusion")] == [2]
    found = pictures.validation_probabilities(engine)
    right = (found.argmax(1) == engine.validation.labels.numpy()).mean()
    assert right == pytest.approx(engine.history[-1]["validation_accuracy"])
