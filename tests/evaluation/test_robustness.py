"""Corruptions that are what they say, and figures that agree with a sum made another way."""

import csv
import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.bundle import FER2013_LANDMARKS
from mien.datasets.packed import Split
from mien.errors import DataError, MissingExtraError, ModelError
from mien.evaluation import corruptions, robustness
from mien.evaluation import robustness_output as output
from mien.evaluation.corruptions import CORRUPTIONS, corrupt
from mien.labels import FER7
from mien.preprocess import InputSpec, network_input

NAMES = list(CORRUPTIONS)


@pytest.fixture(scope="module")
def faces(cartoon_faces: Split) -> Split:
    return cartoon_faces.take(np.arange(28))


def by_lower_half(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities that depend on the lower half of each crop and on nothing else."""
    lower = crops[:, 24:].reshape(len(crops), -1).astype(np.float64)
    logits = lower @ np.random.default_rng(0).normal(0, 0.002, (lower.shape[1], 7))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def found(faces: Split) -> robustness.Robustness:
    """A model, the reference, and one that knows the classes in another order."""
    backwards = tuple(reversed(FER7))
    contenders = [
        robustness.Contender("half", FER7, by_lower_half, {"file": "half.onnx"}),
        robustness.Contender("inverse", FER7, lambda crops: by_lower_half(255 - crops)),
        robustness.Contender("backwards", backwards, lambda crops: by_lower_half(crops)[:, ::-1]),
    ]
    return robustness.measure(contenders, faces, FER7, batch_size=9)


@pytest.mark.parametrize("name", NAMES)
def test_each_corruption_harms_more_with_its_strength(name: str, faces: Split) -> None:
    kind = CORRUPTIONS[name]
    steps = np.diff(kind.levels)
    assert len(kind.levels) == corruptions.STRENGTHS
    assert (steps > 0).all() or (steps < 0).all()
    harm = [np.abs(corrupt(faces.images, name, s).astype(int) - faces.images).mean() for s in range(6)]
    assert harm[0] == 0
    assert harm == sorted(harm)
    assert harm[5] > 1.2 * harm[1] > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 64, 60, 3)], ids=["grey", "colour"])
def test_draws_depend_on_seed_and_face_alone(name: str, shape: tuple[int, ...]) -> None:
    crops = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    whole = corrupt(crops, name, 4)
    assert (whole.dtype, whole.shape) == (np.uint8, shape)
    batches = [corrupt(crops[i : i + 1], name, 4, first=i) for i in range(3)]
    np.testing.assert_array_equal(whole, np.concatenate(batches))
    seeded = name in ("noise", "low-light", "rotation", "shift")
    others = [corrupt(crops, name, 4, seed=seed) for seed in range(1, 6)]
    assert any((whole != other).any() for other in others) == seeded


def test_noise_has_the_deviation_that_it_names() -> None:
    grey = np.full((20, 48, 48), 128, np.uint8)
    for strength, sigma in enumerate(CORRUPTIONS["noise"].levels[:3], 1):  # more would clip at 0 and 255
        damaged = corrupt(grey, "noise", strength).astype(float)
        assert damaged.std() == pytest.approx(sigma, rel=0.02)
        assert damaged.mean() == pytest.approx(128, abs=0.3)


def test_light_is_counted_in_stops() -> None:
    grey = np.full((20, 48, 48), 128, np.uint8)
    for name, sign in (("low-light", -1), ("over-exposure", 1)):
        for strength, stops in enumerate(CORRUPTIONS[name].levels, 1):
            light = (corrupt(grey, name, strength) / 255.0) ** 2.2
            expected = min(1.0, (128 / 255) ** 2.2 * 2.0 ** (sign * stops))
            assert light.mean() == pytest.approx(expected, rel=0.06)


def test_low_resolution_is_what_a_small_crop_gives(faces: Split) -> None:
    small = np.stack([cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA) for face in faces.images])
    served = network_input(small.astype(np.uint8), InputSpec())[:, 0] * 255
    np.testing.assert_allclose(corrupt(faces.images, "low-resolution", 4), served, atol=0.51)


def test_turns_and_shifts_go_as_far_as_they_say() -> None:
    dot = np.zeros((40, 49, 49), np.uint8)
    dot[:, 23:26, 33:36] = 255  # ten pixels right of the middle
    for name, far in (("rotation", 2 * 10 * np.sin(np.radians(30) / 2)), ("shift", 0.18 * 49)):
        moved = corrupt(dot, name, 4)
        rows, columns = np.indices((49, 49))
        mass = moved.sum(axis=(1, 2), dtype=float)
        down, right = ((moved * axis).sum(axis=(1, 2)) / mass - at for axis, at in ((rows, 24), (columns, 34)))
        np.testing.assert_allclose(np.hypot(down, right), far, atol=0.3)
        assert (down > 1).any()
        assert (down < -1).any()  # either way


def test_occlusions_lie_on_the_landmarks_that_they_cover() -> None:
    grey = np.full((1, 100, 100), 128, np.uint8)
    for strength in range(1, 6):
        covered = [corrupt(grey, f"occluded-{part}", strength)[0] != 128 for part in ("eyes", "mouth")]
        for point, (x, y) in enumerate(FER2013_LANDMARKS):
            found = [bool(mask[round(100 * y), round(100 * x)]) for mask in covered]
            nose_and_mask = point == 2 and strength >= 4  # the larger masks reach the nose
            assert found == [point < 2, point > 2 or nose_and_mask]
    lower = tuple((x, y + 0.3) for x, y in FER2013_LANDMARKS)
    moved = corrupt(grey, "occluded-eyes", 3, landmarks=lower)[0] != 128
    np.testing.assert_array_equal(np.flatnonzero(moved.any(axis=1)) - 30, np.flatnonzero(eyes_of(grey).any(axis=1)))


def eyes_of(crops: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(corrupt(crops, "occluded-eyes", 3)[0] != crops[0])


def test_figures_agree_with_a_plain_loop(found: robustness.Robustness, faces: Split) -> None:
    half, inverse, backwards = found.models
    for c, name in enumerate(CORRUPTIONS):
        answers = by_lower_half(corrupt(faces.images, name, 3)).argmax(axis=1)
        assert half.accuracy[c, 2] == np.mean(answers == faces.labels)
    np.testing.assert_array_equal(half.correct, backwards.correct)
    assert half.clean.mean() == np.mean(by_lower_half(faces.images).argmax(axis=1) == faces.labels)
    eyes = NAMES.index("occluded-eyes")  # the upper half: this model does not look there
    assert (half.correct[eyes] == half.clean).all()
    wrong = {m.name: [1 - row.mean() for row in m.accuracy] for m in found.models}  # means over strengths
    expected = np.mean([a / b for a, b in zip(wrong["half"], wrong["inverse"], strict=True)])
    error = found.error_of(half)
    assert error is not None
    assert error.mean == pytest.approx(expected)
    assert error.mean_ci95[0] < error.mean < error.mean_ci95[1]
    own = found.error_of(inverse)
    assert own is not None
    assert (own.mean, own.mean_ci95) == (1, (1, 1))


def test_relative_error_is_of_the_added_errors_alone() -> None:
    def model(clean: float, damaged: float) -> robustness.Measured:
        n = 100
        right = np.zeros((10, 5, n), np.bool_)
        right[..., : int(damaged * n)] = True
        return robustness.Measured("m", np.arange(n) < clean * n, right, 0.0, np.zeros((10, 5)))

    error = robustness.corruption_error(model(0.8, 0.7), model(0.6, 0.4))
    assert (error.mean, error.relative) == (pytest.approx(0.3 / 0.6), pytest.approx(0.1 / 0.2))
    assert robustness.corruption_error(model(0.8, 0.7), model(0.6, 0.6)).relative is None
    with pytest.raises(ValueError, match="no reference"):
        robustness.corruption_error(model(0.8, 0.7), model(1, 1))


def test_one_model_has_no_corruption_error(faces: Split) -> None:
    alone = robustness.measure([robustness.Contender("half", FER7, by_lower_half)], faces, FER7)
    table = alone.to_dict()
    assert (table["reference"], table["models"][0]["mean_corruption_error"]) == (None, None)
    assert output.summary(alone) == []


def test_models_of_other_classes_are_not_compared(faces: Split) -> None:
    wider = (*FER7, "contempt")
    contenders = [
        robustness.Contender("seven", FER7, by_lower_half),
        robustness.Contender("eight", wider, lambda crops: np.full((len(crops), 8), 1 / 8, np.float32)),
    ]
    for order in (contenders, contenders[::-1]):
        with pytest.raises(DataError, match="do not compare"):
            robustness.measure(order, faces, FER7)


def test_a_reference_without_errors_leaves_the_other_figures(faces: Split, tmp_path: Path) -> None:
    knows = np.eye(7, dtype=np.float32)[faces.labels]
    contenders = [
        robustness.Contender("half", FER7, by_lower_half),
        robustness.Contender("right", FER7, lambda crops: knows[: len(crops)]),
    ]
    easy = robustness.measure(contenders, faces, FER7, batch_size=len(faces))
    output.write(easy, tmp_path)
    table = json.loads((tmp_path / "robustness.json").read_text())
    assert (table["reference"], table["models"][0]["mean_corruption_error"]) == ("right", None)
    (sentence,) = output.summary(easy)
    assert sentence.startswith("No mean corruption error: right makes no error to divide by under blur, noise")
    assert len({len(row) for row in output.rows(easy)}) == 1


def test_json_csv_and_table_agree(found: robustness.Robustness, tmp_path: Path) -> None:
    output.write(found, tmp_path)
    table = json.loads((tmp_path / "robustness.json").read_text())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "robustness.csv").read_text())))
    assert len(lines) == 3 * (1 + 50)
    assert (table["n"], table["reference"], table["models"][0]["file"]) == (28, "inverse", "half.onnx")
    by_place = {(line["model"], line["corruption"], line["strength"]): line for line in lines}
    for model in table["models"]:
        for name, values in model["corruptions"].items():
            for strength, (accuracy, ece) in enumerate(zip(values["accuracy"], values["ece"], strict=True), 1):
                line = by_place[model["name"], name, str(strength)]
                assert (float(line["accuracy"]), float(line["ece"])) == (
                    pytest.approx(accuracy, abs=1e-6),
                    pytest.approx(ece, abs=1e-6),
                )
                assert float(line["low"]) <= float(line["accuracy"]) <= float(line["high"])
    text = (tmp_path / "robustness.md").read_text()
    assert all(kind.title in text for kind in CORRUPTIONS.values())
    assert f"{100 * table['models'][0]['mean_corruption_error']:.1f} %" in text
    assert len({len(row) for row in output.rows(found)}) == 1


def test_every_picture_is_written_twice(found: robustness.Robustness, faces: Split, tmp_path: Path) -> None:
    output.write_pictures(found, tmp_path, faces.images[0], landmarks=FER2013_LANDMARKS)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"robustness-{what}.{end}" for what in ("accuracy", "ece", "samples") for end in ("png", "svg")}
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 20


def test_tick_labels_do_not_overlap(found: robustness.Robustness) -> None:
    figure = output.curves_figure(found, show="accuracy")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_subset_is_random_fixed_and_in_order(faces: Split) -> None:
    few = robustness.subset(faces, 9)
    assert len(few) == 9
    assert few.names == robustness.subset(faces, 9).names != robustness.subset(faces, 9, seed=1).names
    assert list(few.names) == [name for name in faces.names if name in few.names]
    assert robustness.subset(faces, 99) is faces


@pytest.mark.parametrize(
    ("labels", "images", "models", "error", "match"),
    [
        pytest.param(FER7, 0, 1, DataError, "no images", id="no faces"),
        pytest.param(FER7, 28, 0, ValueError, "0 models", id="no models"),
        pytest.param(FER7[:6], 28, 1, DataError, "surprise", id="a class that the model does not know"),
        pytest.param((*FER7, "contempt"), 28, 1, ModelError, "7 probabilities for 8", id="more labels than outputs"),
    ],
)
def test_faults(
    labels: tuple[str, ...], images: int, models: int, error: type[Exception], match: str, faces: Split
) -> None:
    contenders = [robustness.Contender("m", labels, by_lower_half)] * models
    with pytest.raises(error, match=match):
        robustness.measure(contenders, faces.take(np.arange(images)), FER7)


@pytest.mark.parametrize(("name", "strength"), [("rain", 1), ("blur", 6), ("blur", -1)])
def test_unknown_corruptions_are_refused(name: str, strength: int, faces: Split) -> None:
    with pytest.raises(ValueError, match="strengths 0 to 5"):
        corrupt(faces.images, name, strength)


def test_without_matplotlib_the_extra_is_named(found: robustness.Robustness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"mien\[train\]"):
        output.curves_figure(found, show="ece")
