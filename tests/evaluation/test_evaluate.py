"""A whole evaluation with predict functions whose answers are known."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from mien.datasets.packed import Split
from mien.errors import DataError, ModelError
from mien.evaluation import evaluate as ev
from mien.labels import FER7, FERPLUS8


def brightness(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A model that reads the class, 0..6, and its confidence from two pixels."""
    probabilities = np.full((len(crops), 7), 0.05, np.float32)
    probabilities[np.arange(len(crops)), crops[:, 0, 0]] = 0.4 + crops[:, 0, 1] / 1000
    return probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.fixture
def split() -> Split:
    """210 crops; the model is right on two of three."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (210, 8, 8)).astype(np.uint8)
    images[:, 0, 0] = np.arange(210) % 7
    labels = images[:, 0, 0].astype(np.int64)
    labels[::3] = (labels[::3] + 1) % 7
    return Split(images, labels, tuple(f"{i:03}.png" for i in range(210)))


def test_metrics_agree_with_scikit_learn(split: Split) -> None:
    done: list[int] = []
    found = ev.evaluate(brightness, split, labels=FER7, batch_size=64, progress=done.append)
    table, predicted = found.to_dict(), split.images[:, 0, 0]
    assert done == [64, 64, 64, 18]
    assert list(table)[:2] == ["accuracy", "accuracy_ci95"]
    assert table["n"] == 210
    assert table["accuracy"] == pytest.approx(140 / 210)
    assert table["accuracy_ci95"][0] < table["accuracy"] < table["accuracy_ci95"][1]
    assert table["macro_f1"] == pytest.approx(sk.f1_score(split.labels, predicted, average="macro"))
    assert table["log_loss"] == pytest.approx(sk.log_loss(split.labels, brightness(split.images)), rel=1e-5)
    assert table["confusion"] == sk.confusion_matrix(split.labels, predicted).tolist()
    report = sk.classification_report(split.labels, predicted, target_names=FER7, output_dict=True)
    for label in FER7:
        theirs = {key.replace("f1-score", "f1"): value for key, value in report[label].items()}
        assert table["per_class"][label] == pytest.approx(theirs)
    assert sum(row["n"] for row in table["calibration"]["bins"]) == 210
    assert table["coverage_accuracy"][-1] == [1.0, pytest.approx(140 / 210)]


def test_twins_of_training_images_are_left_out(split: Split) -> None:
    training = np.concatenate([split.images[:30], np.zeros((5, 8, 8), np.uint8)])
    twins = ev.find_twins(split.images, training)
    assert twins.tolist() == [True] * 30 + [False] * 180
    found = ev.evaluate(brightness, split, labels=FER7)
    table = ev.Evaluation(FER7, found.targets, found.probabilities, found.names, twins=twins).to_dict()
    assert table["n_without_twins"] == 180
    assert table["accuracy_without_twins"] == pytest.approx(found.correct[30:].mean())
    assert found.to_dict()["accuracy_without_twins"] is None  # no training images to compare with


def test_grey_and_colour_pictures_are_no_twins() -> None:
    grey = np.zeros((1, 6, 4), np.uint8)
    assert not ev.find_twins(grey, np.zeros((1, 2, 4, 3), np.uint8)).any()  # as many bytes, another shape


def test_uncertain_follows_the_threshold(split: Split) -> None:
    found = ev.evaluate(brightness, split, labels=FER7)
    confidence = found.probabilities.max(axis=1)
    threshold = float(np.median(confidence))
    table = ev.Evaluation(FER7, found.targets, found.probabilities, found.names, threshold=threshold).to_dict()
    sure = confidence >= threshold
    assert table["uncertain"]["coverage"] == pytest.approx(sure.mean())
    assert table["uncertain"]["accuracy_of_certain"] == pytest.approx(found.correct[sure].mean())


def test_labels_are_matched_by_name(split: Split) -> None:
    labels = np.array([0, 1], np.int64)
    small = split.take(np.arange(2))
    pair = Split(small.images, labels, small.names)
    assert ev.renumber(pair, ("sad", "happy"), FERPLUS8).labels.tolist() == [5, 3]
    assert ev.renumber(pair, ("sad", "happy", "odd"), FER7).labels.tolist() == [5, 3]  # no image is "odd"
    with pytest.raises(DataError, match="does not know the class odd"):
        ev.renumber(pair, ("sad", "odd"), FER7)


def test_models_of_the_votes_are_measured_against_the_votes(split: Split) -> None:
    votes = np.zeros((4, 10), np.uint8)  # neutral, happy, surprise, sad, angry, disgust, fear, contempt, unknown, NF
    votes[0, 7] = 6  # contempt, which no label of FER-2013 says
    votes[1, [3, 8]] = 6, 4  # sad
    votes[2, [3, 8]] = 4, 6  # unknown won: nothing to answer
    few = replace(split.take(np.arange(4)), votes=votes)
    found = ev.judged(few, FER7, FERPLUS8)
    assert [FERPLUS8[label] for label in found.labels] == ["contempt", "sad"]
    assert found.names == few.names[:2]
    assert ev.judged(few, FER7, FER7).labels.tolist() == few.labels.tolist()
    unvoted = replace(few, votes=None)
    assert ev.judged(unvoted, FER7, FERPLUS8).labels.tolist() == few.labels.tolist()


def test_files_say_what_the_object_says(split: Split, tmp_path: Path) -> None:
    found = ev.evaluate(brightness, split, labels=FER7)
    ev.write(found, tmp_path / "out")
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    rows = list(csv.DictReader((tmp_path / "out/predictions.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(split.names)
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == pytest.approx(found.correct.mean())
    assert float(rows[0]["happy"]) == pytest.approx(found.probabilities[0, 3], abs=1e-6)


def broken(value: float) -> object:
    return lambda crops: np.full((len(crops), 7), value, np.float32)


@pytest.mark.parametrize(
    ("predict", "error", "match"),
    [
        pytest.param(broken(np.nan), ModelError, "not finite", id="nan"),
        pytest.param(broken(0.5), ModelError, "sum to 1", id="no distribution"),
        pytest.param(lambda crops: np.full((len(crops), 2), 0.5, np.float32), ModelError, "2 prob", id="two classes"),
    ],
)
def test_a_broken_model_is_named(split: Split, predict: ev.Predict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        ev.evaluate(predict, split, labels=FER7)


def test_an_empty_split_is_an_error(split: Split) -> None:
    with pytest.raises(DataError, match="no images"):
        ev.evaluate(brightness, split.take(np.arange(0)), labels=FER7)


def test_the_base_install_is_enough() -> None:
    """Evaluation pulls in none of the packages of the train extra."""
    code = (
        "import sys, mien.evaluation.evaluate, mien.evaluation.plots;"
        "print(*sorted({'torch', 'sklearn', 'matplotlib', 'scipy', 'onnx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
