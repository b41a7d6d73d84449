"""The audit of labelled faces: every problem planted in drawn faces, and the figures of FER-2013."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.datasets import exclusions, packed
from mien.datasets.audit import copies, label_errors, output, page, pictures, sheets, votes
from mien.datasets.audit.findings import Audit, Problem
from mien.datasets.audit.pool import Pool, open_pool
from mien.datasets.audit.run import audit
from mien.datasets.folder import pack_class_folder
from mien.datasets.packed import Dataset, Split
from mien.errors import ConfigError, DataError, MissingExtraError
from mien.labels import FER7, FERPLUS_COLUMNS

ANGRY, HAPPY, SAD = FER7.index("angry"), FER7.index("happy"), FER7.index("sad")

Row = tuple[str, str, int]  # split, name, label


def build(cartoon_faces: Split, rows: dict[Row, NDArray[np.uint8] | int], **voted: dict[str, int]) -> Pool:
    """A pool of images, an int standing for that drawn face; `voted` names the votes of some."""
    splits = {}
    for split in dict.fromkeys(key[0] for key in rows):
        keys = [key for key in rows if key[0] == split]
        images = [rows[key] if isinstance(rows[key], np.ndarray) else cartoon_faces.images[rows[key]] for key in keys]
        counts = np.array([[voted.get(name, {}).get(c, 0) for c in FERPLUS_COLUMNS] for _, name, _ in keys], np.uint8)
        labels = np.array([label for *_, label in keys], np.int64)
        names = tuple(name for _, name, _ in keys)
        splits[split] = Split(np.stack(images), labels, names, votes=counts if voted else None)
    return Pool(Dataset(FER7, splits))


def found(report: Audit, problem: Problem) -> dict[tuple[str, str], str]:
    """(split, name) -> suggestion."""
    pool = report.pool
    return {(pool.splits[f.image], pool.names[f.image]): f.suggestion.value for f in report.of(problem)}


def test_identical_images(cartoon_faces: Split) -> None:
    report = audit(
        build(
            cartoon_faces,
            {
                ("train", "one", HAPPY): 3, ("train", "again", HAPPY): 3,  # twice in a split
                ("train", "angry", ANGRY): 0, ("train", "sad", SAD): 0,  # two labels
                ("train", "leak", SAD): 5, ("validation", "leaked", SAD): 5,  # two splits
                ("validation", "kept", SAD): 12, ("test", "tested", SAD): 12,
                ("train", "alone", HAPPY): 10,
            },
        )
    )  # fmt: skip
    assert found(report, Problem.DUPLICATE) == {("train", "one"): "keep", ("train", "again"): "exclude"}
    assert found(report, Problem.CONFLICT) == {("train", "angry"): "exclude", ("train", "sad"): "exclude"}
    assert found(report, Problem.LEAK) == {
        ("train", "leak"): "exclude", ("validation", "leaked"): "keep",
        ("validation", "kept"): "exclude", ("test", "tested"): "keep",
    }  # fmt: skip
    assert report.summary()["distinct"] == 5
    assert "alone" not in output.to_csv(report)


def test_groups_are_those_of_a_slow_loop(cartoon_faces: Split) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 2, (60, 2, 2), np.uint8).repeat(24, 1).repeat(24, 2) * 200
    pool = build(cartoon_faces, {("train", str(i), HAPPY): image for i, image in enumerate(images)})
    slow = [next(j for j in range(60) if (images[j] == images[i]).all()) for i in range(60)]
    assert copies.identities(pool).tolist() == slow


def test_near_copies(cartoon_faces: Split) -> None:
    def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)

    face, other, third = (cartoon_faces.images[i] for i in (3, 5, 9))
    report = audit(
        build(
            cartoon_faces,
            {
                ("train", "face", HAPPY): face, ("validation", "pressed", HAPPY): jpeg(face, 60),
                ("train", "sad", SAD): other, ("train", "angry", ANGRY): jpeg(other, 60),
                ("train", "third", HAPPY): third, ("train", "thirds", HAPPY): jpeg(third, 60),
            },
        )
    )  # fmt: skip
    assert found(report, Problem.NEAR_LEAK) == {("train", "face"): "exclude", ("validation", "pressed"): "review"}
    assert set(found(report, Problem.NEAR_CONFLICT)) == {("train", "sad"), ("train", "angry")}
    assert set(found(report, Problem.NEAR_DUPLICATE)) == {("train", "third"), ("train", "thirds")}
    assert not report.of(Problem.DUPLICATE)
    assert all(finding.score and finding.score > 0.9 for finding in report.findings)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        pytest.param(np.full((48, 48), 7, np.uint8), Problem.CONSTANT, id="one grey"),
        pytest.param(np.tile(np.uint8([100, 106]), (48, 24)), Problem.ALMOST_CONSTANT, id="faint stripes"),
        pytest.param(np.tile(np.uint8([100, 160]), (48, 24)), None, id="stripes"),
    ],
)
def test_flat_images(cartoon_faces: Split, image: NDArray[np.uint8], problem: Problem | None) -> None:
    pool = build(cartoon_faces, {("train", "a", HAPPY): 3, ("train", "b", HAPPY): image})
    flat = list(pictures.find_flat(pool))
    assert [(finding.image, finding.problem) for finding in flat] == ([] if problem is None else [(1, problem)])


def test_a_saturated_colour_is_constant() -> None:
    blue = np.zeros((1, 48, 48, 3), np.uint8)
    blue[..., 2] = 255
    pool = Pool(Dataset(FER7, {"train": Split(blue, np.array([HAPPY]), ("blue",))}))
    (finding,) = pictures.find_flat(pool)
    assert finding.problem is Problem.CONSTANT


def test_votes(cartoon_faces: Split) -> None:
    rows: dict[Row, NDArray[np.uint8] | int] = {("train", name, HAPPY): i for i, name in enumerate("abcdef")}
    pool = build(
        cartoon_faces, rows,
        a={"happy": 10}, b={"sad": 9, "happy": 1}, c={"sad": 6, "happy": 4}, d={"sad": 5, "happy": 5},
        e={"NF": 6, "happy": 4}, f={},
    )  # fmt: skip
    doubted = {pool.names[f.image]: (f.suggestion.value, f.suggested_label) for f in votes.find_disagreement(pool)}
    assert doubted == {"b": ("relabel", "sad"), "c": ("review", "sad"), "e": ("review", "")}
    assert {pool.names[f.image]: f.note for f in votes.find_no_faces(pool)} == {
        "e": "6 of 10 taggers", "f": "FER+ leaves it out",
    }  # fmt: skip
    assert votes.plurality_agrees(pool) == pytest.approx(1.5 / 5)  # a, and half of d


def test_images_of_a_source_without_votes_are_no_non_faces(cartoon_faces: Split) -> None:
    given = np.zeros((2, 10), np.uint8)
    given[0, 1] = 10
    split = Split(cartoon_faces.images[:2], np.array([0, 1]), ("a", "b"), given, np.array([0, 1]))
    assert not list(votes.find_no_faces(Pool(Dataset(FER7, {"train": split}))))


def test_the_detector_sees_grey_crops_and_is_believed(cartoon_faces: Split) -> None:
    pool = build(cartoon_faces, {("train", "a", HAPPY): 3, ("train", "b", HAPPY): np.full((48, 48), 9, np.uint8)})
    told: list[tuple[int, int]] = []
    report = audit(pool, finds_face=lambda crop: crop.std() > 1, progress=lambda *done: told.append(done))
    assert found(report, Problem.NO_FACE_FOUND) == {("train", "b"): "review"}
    assert told == [(1, 2), (2, 2)]


@pytest.fixture(scope="module")
def mislabelled() -> tuple[Pool, NDArray[np.bool_], NDArray[np.float32]]:
    """140 images of two classes, 14 of them mislabelled, with features that tell the classes apart."""
    generator = np.random.default_rng(0)
    truth = np.arange(140) % 2
    wrong = np.zeros(140, np.bool_)
    wrong[generator.choice(140, 14, replace=False)] = True
    images = generator.integers(0, 256, (140, 48, 48), np.uint8)
    split = Split(images, np.where(wrong, 1 - truth, truth).astype(np.int64), tuple(map(str, range(140))))
    features = generator.normal(0, 1, (140, 6)) + truth[:, None] * 2.5
    return Pool(Dataset(("no", "yes"), {"train": split})), wrong, features.astype(np.float32)


def test_planted_label_errors_are_found(mislabelled: tuple[Pool, NDArray[np.bool_], NDArray[np.float32]]) -> None:
    pool, wrong, features = mislabelled
    held_out = label_errors.draw_folds(pool, 5)
    assert np.bincount(held_out).tolist() == [28] * 5
    probabilities = label_errors.from_features(features, pool.classes, held_out)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    doubted = [finding.image for finding in label_errors.find_label_errors(pool, probabilities)]
    assert wrong[doubted].mean() > 0.9
    assert wrong[doubted].sum() >= 12
    report = audit(pool, probabilities=probabilities, about={"label_errors": {"how": "features"}})
    assert report.summary()["label_errors"]["agreement"] == pytest.approx(126 / 140, abs=0.03)
    assert {f.suggested_label for f in report.of(Problem.LABEL_ERROR)} == {"no", "yes"}


def test_a_fold_never_holds_a_copy_of_what_it_learnt(cartoon_faces: Split) -> None:
    rows: dict[Row, NDArray[np.uint8] | int] = {("train", f"{i}-{k}", i % 7): i for i in range(35) for k in range(2)}
    held_out = label_errors.draw_folds(build(cartoon_faces, rows), 2)
    assert (held_out[0::2] == held_out[1::2]).all()
    assert set(held_out) == {0, 1}


def test_too_few_images_for_the_folds(cartoon_faces: Split) -> None:
    pool = build(cartoon_faces, {("train", str(i), i % 7): i for i in range(14)})
    with pytest.raises(DataError, match="angry has 2 different images, too few for 5 folds"):
        label_errors.draw_folds(pool, 5)


def test_without_the_extra(cartoon_faces: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cleanlab", None)
    monkeypatch.delitem(__import__("sys").modules, "cleanlab.filter", raising=False)
    pool = build(cartoon_faces, {("train", str(i), i % 2): i for i in range(14)})
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[audit\]'"):
        list(label_errors.find_label_errors(pool, np.full((14, 2), 0.5, np.float32)))


@pytest.fixture
def report(cartoon_faces: Split) -> Audit:
    """One conflict, a leak, a constant image, and names that both splits have."""
    pool = build(
        cartoon_faces,
        {
            ("train", "a", HAPPY): 3, ("train", "b", SAD): 3,
            ("train", "same", SAD): 5, ("validation", "same", SAD): 5,
            ("train", "black", SAD): np.zeros((48, 48), np.uint8), ("validation", "fine", SAD): 9,
        },
    )  # fmt: skip
    return audit(pool, about={"source": "<drawn>"})


def test_files(report: Audit, tmp_path: Path) -> None:
    output.write(report, tmp_path)
    page.write(report, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "findings.csv").read_text())))
    assert {key: rows[0][key] for key in ("split", "image", "problem", "partner", "partner_label", "suggestion")} == {
        "split": "train", "image": "a", "problem": "conflict", "partner": "b", "partner_label": "sad",
        "suggestion": "exclude",
    }  # fmt: skip
    summary = json.loads((tmp_path / "audit.json").read_text())
    assert summary["images"] == {"train": 4, "validation": 2}
    assert {name: row["images"] for name, row in summary["problems"].items()} == {
        "conflict": 2,
        "leak": 2,
        "constant": 1,
    }
    assert summary["problems"]["conflict"]["groups"] == 1
    html = (tmp_path / "index.html").read_text()
    assert "&lt;drawn&gt;" in html
    assert not [word for word in ("<script", "http://", "https://", 'src="/') if word in html]  # self-contained
    for problem in ("conflict", "leak", "constant"):
        assert f'id="{problem}"' in html
        assert cv2.imread(str(tmp_path / f"{problem}.png")) is not None


def test_nothing_found(cartoon_faces: Split, tmp_path: Path) -> None:
    clean = audit(build(cartoon_faces, {("train", "a", HAPPY): 3, ("train", "b", SAD): 5}), about={"source": "clean"})
    page.write(clean, tmp_path)
    assert "Nothing was found." in (tmp_path / "index.html").read_text()
    assert output.to_csv(clean).count("\n") == 1


def test_exclusions_are_read_back(report: Audit, tmp_path: Path) -> None:
    (listed := tmp_path / "out.txt").write_text(output.exclusion_list(report))
    lines = [line for line in listed.read_text().splitlines() if not line.startswith("#")]
    # a name alone would take an image of that name out of the test split too, which the audit does not open
    assert sorted(lines) == ["train\ta", "train\tb", "train\tblack", "train\tsame"]
    kept = exclusions.without(report.pool.dataset, listed)
    assert {name: split.names for name, split in kept.splits.items()} == {"train": (), "validation": ("same", "fine")}
    assert kept.provenance["excluded"] == 4


def test_more_problems_can_be_excluded(report: Audit) -> None:
    assert "validation\tsame\n" in output.exclusion_list(report, ("leak",))
    assert report.excluded(("leak",)) != report.excluded()
    with pytest.raises(ConfigError, match="'lek' is no problem: use one of conflict, leak"):
        output.exclusion_list(report, ("lek",))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        pytest.param("# all\n\na\nzebra\n", "names 1 images that the data set does not have, such as zebra", id="name"),
        pytest.param("validation\ta\n", "does not have, such as a", id="name in another split"),
        pytest.param("dev\ta\n", "'dev' in front of a is no split", id="split"),
        pytest.param(None, "cannot read it as a list of names", id="no file"),
    ],
)
def test_lists_that_do_not_fit(report: Audit, tmp_path: Path, text: str | None, match: str) -> None:
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=match):
        exclusions.without(report.pool.dataset, tmp_path / "list.txt")


def test_names_of_splits_that_were_not_opened_are_known(report: Audit, tmp_path: Path) -> None:
    packed.save(report.pool.dataset, tmp_path / "packed")
    (listed := tmp_path / "list.txt").write_text("fine\nvalidation\tsame\n")
    train = packed.load(tmp_path / "packed", only=("train",))
    with pytest.raises(DataError, match="such as fine"):
        exclusions.without(train, listed)
    assert len(exclusions.without(train, listed, root=tmp_path / "packed").split("train")) == 4


def test_lists_fit_whichever_images_are_drawn_to_validate(tmp_path: Path, cartoon_faces: Split) -> None:
    for i in range(28):
        (folder := tmp_path / "own" / ("test" if i < 14 else "train") / FER7[i % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{i % 14}.png"), cartoon_faces.images[i])
    pool = open_pool(tmp_path / "own", with_test=True)
    dataset = pack_class_folder(tmp_path / "own", only=("train", "validation"))
    drawn = dataset.split("validation").names
    assert ("train", drawn[0]) in zip(pool.splits, pool.names, strict=True)
    (listed := tmp_path / "out.txt").write_text("\n".join(exclusions.lines([("train", name) for name in drawn])))
    kept = exclusions.without(dataset, listed, root=tmp_path / "own")
    assert (len(kept.splits["validation"]), kept.provenance["excluded"]) == (0, len(drawn))
    assert kept.split("train").names == dataset.split("train").names
    listed.write_text("train\tangry/99.png\n")
    with pytest.raises(DataError, match=r"such as angry/99\.png"):
        exclusions.without(dataset, listed, root=tmp_path / "own")


def test_pool_of_a_folder(kaggle: Path, tmp_path: Path, cartoon_faces: Split) -> None:
    assert set(open_pool(kaggle).dataset.splits) == {"train"}  # its test folder is not opened
    folder = tmp_path / "classes"
    for i in range(14):
        (folder / FER7[i % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / FER7[i % 2] / f"{i}.png"), cartoon_faces.images[i])
    pool = open_pool(folder)
    assert (set(pool.splits), len(pool), pool.names[0]) == ({"all"}, 14, "angry/0.png")
    assert exclusions.lines([("all", pool.names[0])]) == ["angry/0.png"]
    assert pool.whole().names == pool.names


@pytest.mark.parametrize("make", [
    pytest.param(lambda path: path / "nowhere", id="nothing there"),
    pytest.param(lambda path: path, id="empty folder"),
])  # fmt: skip
def test_nothing_to_audit(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        open_pool(make(tmp_path))


@pytest.mark.fer2013
def test_fer2013(fer2013_packed: Path) -> None:
    pool = open_pool(fer2013_packed)
    report = audit(pool)
    summary = report.summary()
    assert summary["images"] == {"train": 28_709, "validation": 3_589}
    assert summary["distinct"] == 30_766
    problems = summary["problems"]
    assert problems["conflict"]["groups"] == 47
    assert problems["leak"]["by_split"]["validation"] == 280
    assert problems["constant"]["by_split"] == {"train": 11, "validation": 1}
    assert problems["almost-constant"]["images"] == 2
    assert problems["not-a-face"]["by_split"] == {"train": 151, "validation": 10}
    assert summary["plurality_agrees"] == pytest.approx(0.632, abs=0.001)


@pytest.mark.fer2013
def test_the_whole_of_fer2013(fer2013_packed: Path) -> None:
    pool = open_pool(fer2013_packed, with_test=True)
    if pool.splits.count("test") != 3_589:
        pytest.skip("the archive has no PrivateTest images")
    assert audit(pool).summary()["problems"]["conflict"]["groups"] == 57
    same, split = copies.identities(pool), np.array(pool.splits)
    assert np.isin(same[split == "test"], same[split == "train"]).sum() == 288


def test_letters_beyond_english_are_not_all_the_same_box(cartoon_faces: Split) -> None:
    def drawn(letter: str) -> bytes:
        face = sheets.Shown(cartoon_faces.images[0], f"hei{letter}", "train", "x.png")
        return sheets.draw(sheets.Sheet(Problem.CONFLICT, (sheets.Group((face,)),), 1)).tobytes()

    assert len({drawn(letter) for letter in "ßü表"}) == 3
