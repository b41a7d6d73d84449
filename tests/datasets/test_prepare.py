import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.datasets.conftest import PER_CLASS, ferplus_csv, png, write_tree

from mien.datasets import packed
from mien.datasets.ferplus import HEADER, kaggle_rows
from mien.datasets.prepare import PrepareOptions, PrepareReport, prepare
from mien.errors import ConfigError, DataError
from mien.labels import FER7

JUNK = {
    ".DS_Store": "system file",
    "train/.DS_Store": "system file",
    "train/happy/Thumbs.db": "system file",
    "train/happy/._Training_1.png": "system file",
    "test/sad/.hidden.png": "system file",
    "train/.ipynb_checkpoints/x.png": "system file",
    "train/fear/notes.txt": "not an image",
    "README.md": "not an image",
    "train/stray.png": "outside the class folders",
}


def counts(report: PrepareReport) -> dict[str, int]:
    return {split: sum(by_label.values()) for split, by_label in report.counts.items()}


def test_kaggle_folder(kaggle: Path, tmp_path: Path) -> None:
    report = prepare([kaggle], tmp_path / "out")
    data = packed.load(tmp_path / "out")
    for split, per_class in PER_CLASS.items():
        assert report.counts[split] == dict.fromkeys(FER7, per_class)
        found = data.split(split)
        for row, name in enumerate(found.names):  # against each file, read on its own
            assert np.array_equal(found.images[row], np.asarray(PIL.Image.open(kaggle / name).convert("L")))
            assert name.split("/")[1] == FER7[found.labels[row]]
        assert found.votes is None
        assert list(found.names) == sorted(found.names, key=lambda name: (name.split("/")[1], name))
    assert data.provenance == report.provenance
    assert not report.unreadable
    assert not report.skipped


def test_protocol_of_the_case_study_swaps_the_test_sets(kaggle: Path, tmp_path: Path) -> None:
    prepare([kaggle], tmp_path / "icml")
    prepare([kaggle], tmp_path / "case", options=PrepareOptions(protocol="case-study"))
    icml, case = packed.load(tmp_path / "icml"), packed.load(tmp_path / "case")
    assert icml.split("validation").digest == case.split("test").digest
    assert icml.split("test").digest == case.split("validation").digest
    assert icml.split("train").digest == case.split("train").digest


@pytest.mark.parametrize(("ending", "prefix"), [
    (".zip", ""), (".zip", "archive/fer2013/"), (".tar", "./"), (".tar.gz", "fer2013/"), (".tar.xz", ""),
])  # fmt: skip
def test_archives_hold_the_same_data(
    kaggle: Path, archive: Callable[[str, str], Path], tmp_path: Path, ending: str, prefix: str
) -> None:
    prepare([kaggle], tmp_path / "a")
    report = prepare([archive(ending, prefix)], tmp_path / "b")
    a, b = packed.load(tmp_path / "a"), packed.load(tmp_path / "b")
    assert {name: split.digest for name, split in a.splits.items()} == {name: s.digest for name, s in b.splits.items()}
    assert report.provenance["sources"][0]["kind"] == ending.split(".")[1]


def test_large_tar_is_read_twice(
    archive: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = prepare([archive(".tar.xz", "")], tmp_path / "a")
    monkeypatch.setattr("mien.datasets.trees.KEPT_BYTES", 1000)
    twice = prepare([archive(".tar.xz", "")], tmp_path / "b")
    assert once.counts == twice.counts
    assert packed.load(tmp_path / "a").split("train").digest == packed.load(tmp_path / "b").split("train").digest


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels", '"Emotion","Pixels","USAGE"'])
def test_csv_holds_the_same_images(kaggle: Path, csv_text: str, tmp_path: Path, header: str) -> None:
    lines = csv_text.splitlines()
    if header.lower().index("usage") < header.lower().index("pixels"):
        lines = [",".join([e, u, p]) for e, p, u in (line.split(",") for line in lines)]
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join([header, *lines[1:]]) + "\n")
    prepare([kaggle], tmp_path / "a")
    report = prepare([path], tmp_path / "b")
    a, b = packed.load(tmp_path / "a"), packed.load(tmp_path / "b")
    for split in packed.SPLITS:
        assert a.split(split).digest == b.split(split).digest
    assert report.provenance["sources"][0]["kind"] == "csv"


def test_csv_inside_an_archive_or_folder(csv_text: str, archive: Callable[[str, str], Path], tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "fer", {"fer2013/fer2013.csv": csv_text.encode(), "fer2013/README": b"-"})
    tar = Path(shutil.make_archive(str(tmp_path / "original"), "gztar", folder))
    assert counts(prepare([folder], tmp_path / "a")) == counts(prepare([tar], tmp_path / "b"))
    assert packed.load(tmp_path / "a").split("train").digest == packed.load(tmp_path / "b").split("train").digest


@pytest.mark.parametrize(("change", "message"), [
    pytest.param(("Usage", "Part"), None, id="no usage: all of Training"),
    pytest.param(("PublicTest", "Public"), "usage 'Public' is unknown", id="unknown usage"),
    pytest.param(("\n6,", "\n7,"), "emotion '7' is no known class", id="unknown emotion"),
    pytest.param(("\n6,", "\nx,"), "emotion 'x' is no known class", id="emotion is no number"),
    pytest.param(("pixels", "image"), "has no columns emotion and pixels", id="missing column"),
])  # fmt: skip
def test_csv_faults(csv_text: str, tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text.replace(*change))
    if message is None:
        assert counts(prepare([path], tmp_path / "out")) == {"train": 42, "validation": 0, "test": 0}
        return
    with pytest.raises(DataError, match=message):
        prepare([path], tmp_path / "out")


def test_csv_row_without_pixels_is_named(csv_text: str, tmp_path: Path) -> None:
    lines = csv_text.splitlines()
    for row, pixels in ((1, "1 2 3"), (2, "a b c d"), (3, "1 2 3 256"), (4, "")):
        code, _, usage = lines[row].split(",")
        lines[row] = f"{code},{pixels},{usage}"
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(lines))
    report = prepare([path], tmp_path / "out", options=PrepareOptions(allow_missing=True))
    assert [fault.split(": ", 1)[1] for fault in report.unreadable] == [
        "fer0000000.png: 3 pixels, which is no square",
        "fer0000001.png: pixels that are no numbers",
        "fer0000002.png: pixels outside 0 to 255",
        "fer0000003.png: 0 pixels, which is no square",
    ]


def test_junk_is_counted_and_never_a_class(kaggle: Path, tmp_path: Path) -> None:
    write_tree(kaggle, dict.fromkeys(JUNK, b"junk"))
    report = prepare([kaggle], tmp_path / "out")
    assert report.skipped == {reason: list(JUNK.values()).count(reason) for reason in dict.fromkeys(JUNK.values())}
    assert counts(report) == {"train": 21, "validation": 14, "test": 7}


def test_unreadable_images_are_named_and_left_out(kaggle: Path, tmp_path: Path) -> None:
    whole = kaggle / "train/happy/Training_30.png"
    broken = {"cut.jpg": whole.read_bytes()[:300], "empty.png": b"", "text.jpg": b"no picture at all"}
    write_tree(kaggle / "train/happy", broken)
    report = prepare([kaggle], tmp_path / "out")
    assert [fault.split(": ")[1] for fault in report.unreadable] == [f"train/happy/{name}" for name in sorted(broken)]
    assert counts(report) == {"train": 21, "validation": 14, "test": 7}
    assert report.provenance["sources"][0]["unreadable"] == 3
    assert packed.load(tmp_path / "out").split("train").images.any(axis=(1, 2)).all()  # no empty row is left


@pytest.mark.parametrize(("spelling", "label"), [("Anger", "angry"), ("sadness", "sad"), ("SURPRISED", "surprise")])
def test_spellings_of_classes(kaggle: Path, tmp_path: Path, spelling: str, label: str) -> None:
    for split in ("train", "test"):
        (kaggle / split / label).rename(kaggle / split / spelling)
    report = prepare([kaggle], tmp_path / "out")
    assert report.counts["train"] == dict.fromkeys(FER7, 3)


def test_missing_class_is_named_or_allowed(kaggle: Path, tmp_path: Path) -> None:
    for path in (kaggle / "test/disgust").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the validation split has no images of disgust"):
        prepare([kaggle], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = prepare([kaggle], tmp_path / "out", options=PrepareOptions(allow_missing=True))
    assert report.counts["validation"]["disgust"] == 0


def test_empty_split_says_which_files_fill_it(kaggle: Path, tmp_path: Path) -> None:
    for path in kaggle.rglob("PrivateTest_*"):
        path.unlink()
    report = prepare([kaggle], tmp_path / "out")
    assert report.empty_splits().keys() == {"test"}
    with pytest.raises(DataError, match=r"the test split is empty: it needs the PrivateTest_\*.jpg files of Kaggle"):
        packed.load(tmp_path / "out").split("test")


def test_merge_keeps_names_apart_and_each_images_source(kaggle: Path, tmp_path: Path) -> None:
    face = png(np.full((64, 80, 3), (200, 10, 10), np.uint8))
    write_tree(tmp_path / "more/fer2013/disgusted", {"Training_10.png": face, "new.jpg": face})
    report = prepare([kaggle, tmp_path / "more/fer2013"], tmp_path / "out")
    train = packed.load(tmp_path / "out").split("train")
    assert report.counts["train"] == {**dict.fromkeys(FER7, 3), "disgust": 5}
    assert len(set(train.names)) == len(train.names) == 23
    assert train.sources is not None
    added = np.flatnonzero(train.sources == 1)
    assert [train.names[row] for row in added] == ["fer2013-2:disgusted/Training_10.png", "fer2013-2:disgusted/new.jpg"]
    assert np.all(train.images[added] == round(200 * 0.299 + 10 * 0.587 + 10 * 0.114))
    assert report.provenance["resized"] == 2
    assert [source["images"] for source in report.provenance["sources"]] == [42, 2]


def test_ferplus_joins_the_csv_by_row(csv_text: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(csv_text)
    usages = [line.rpartition(",")[2] for line in csv_text.splitlines()[1:]]
    votes = ferplus_csv(tmp_path / "votes.csv", usages, {5})
    report = prepare([tmp_path / "fer2013.csv"], tmp_path / "out", options=PrepareOptions(ferplus=votes))
    data = packed.load(tmp_path / "out")
    for split in packed.SPLITS:
        found = data.split(split)
        assert found.votes is not None
        for name, counted in zip(found.names, found.votes, strict=True):
            row = int(name[3:10])
            expected = [0] * 10 if row == 5 else [(row + column) % 11 for column in range(10)]
            assert counted.tolist() == expected
    assert report.provenance["ferplus"]["images_with_votes"] == {"train": 20, "validation": 14, "test": 7}


@pytest.mark.parametrize(("rows", "joined"), [
    pytest.param(slice(42), True, id="whole"),
    pytest.param(slice(21 + 14), True, id="Training and PublicTest"),
    pytest.param(slice(21), True, id="Training alone"),
    pytest.param(slice(20), False, id="Training cut short"),
    pytest.param(slice(22), False, id="PublicTest cut short"),
    pytest.param(slice(1, 42), False, id="a row taken out"),
    pytest.param(slice(None, None, -1), False, id="another order"),
])  # fmt: skip
def test_ferplus_joins_rows_of_fer2013_alone(csv_text: str, tmp_path: Path, rows: slice, joined: bool) -> None:
    header, *lines = csv_text.splitlines()
    votes = ferplus_csv(tmp_path / "votes.csv", [line.rpartition(",")[2] for line in lines], set())
    (tmp_path / "some.csv").write_text("\n".join([header, *lines[rows]]) + "\n")
    options = PrepareOptions(ferplus=votes, allow_missing=True)
    if joined:
        report = prepare([tmp_path / "some.csv"], tmp_path / "out", options=options)
        assert sum(report.provenance["ferplus"]["images_with_votes"].values()) == len(lines[rows])
    else:
        with pytest.raises(DataError, match="no image is known to FER"):
            prepare([tmp_path / "some.csv"], tmp_path / "out", options=options)


def test_ferplus_joins_kaggle_folders_by_path(kaggle: Path, tmp_path: Path) -> None:
    path = next(path for path in kaggle_rows() if path.startswith("train/fear/"))  # a file that Kaggle really has
    (kaggle / "train/fear/Training_20.png").rename(kaggle / path)
    row = kaggle_rows()[path]
    votes = ferplus_csv(tmp_path / "votes.csv", ["Training"] * (row + 1), set())
    prepare([kaggle], tmp_path / "out", options=PrepareOptions(ferplus=votes))
    train = packed.load(tmp_path / "out").split("train")
    assert train.votes is not None
    voted = np.flatnonzero(train.votes.any(axis=1))
    assert [train.names[at] for at in voted] == [path]
    assert train.votes[voted[0]].tolist() == [(row + column) % 11 for column in range(10)]


@pytest.mark.parametrize(("text", "message"), [
    pytest.param("a,b\n", "is not FER\\+'s fer2013new.csv", id="other columns"),
    pytest.param(",".join(HEADER) + "\nTraining,a,1,2\n", "damaged near row 1", id="row cut short"),
    pytest.param(",".join(HEADER) + "\nTraining,a,1,2,3,4,x,6,7,8,9,0\n", "damaged near row 1", id="no number"),
    pytest.param(",".join(HEADER) + "\n" + "PublicTest,a,1,2,3,4,5,6,7,8,9,0\n" * 42, "no image is known",
                 id="other order"),
    pytest.param(None, "cannot be read", id="missing"),
])  # fmt: skip
def test_ferplus_faults(csv_text: str, tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "fer2013.csv").write_text(csv_text)
    votes = tmp_path / "votes.csv"
    if text is not None:
        votes.write_text(text)
    with pytest.raises(DataError, match=message):
        prepare([tmp_path / "fer2013.csv"], tmp_path / "out", options=PrepareOptions(ferplus=votes))


def test_layout_of_folders_keeps_the_files(kaggle: Path, kaggle_files: dict[str, bytes], tmp_path: Path) -> None:
    write_tree(tmp_path / "more/Anger", {"Training_00.png": kaggle_files["train/angry/Training_01.png"]})
    out = tmp_path / "out"
    options = PrepareOptions(protocol="case-study")
    prepare([kaggle, tmp_path / "more"], out, layout="folders", options=options)
    for path, data in kaggle_files.items():
        _, label, name = path.split("/")
        split = case_study_split(name)
        assert (out / split / label / name).read_bytes() == data
    assert (out / "train/angry/Training_00-more.png").read_bytes() == kaggle_files["train/angry/Training_01.png"]
    assert len(list(out.rglob("*.png"))) == len(kaggle_files) + 1
    assert json.loads((out / "provenance.json").read_text())["protocol"] == "case-study"
    prepare([kaggle], out, layout="folders", options=options)  # replaces its own earlier result
    assert len(list(out.rglob("*.png"))) == len(kaggle_files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013", "more", "out"]


def case_study_split(name: str) -> str:
    return {"Training": "train", "PublicTest": "test", "PrivateTest": "validation"}[name.partition("_")[0]]


def test_layout_of_folders_from_the_csv_is_png(csv_text: str, kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(csv_text)
    prepare([tmp_path / "fer2013.csv"], tmp_path / "tree", layout="folders")
    prepare([tmp_path / "tree"], tmp_path / "again")
    prepare([kaggle], tmp_path / "direct")
    again, direct = packed.load(tmp_path / "again"), packed.load(tmp_path / "direct")
    for split in packed.SPLITS:
        assert again.split(split).digest == direct.split(split).digest


@pytest.mark.parametrize(("make", "message"), [
    pytest.param(lambda root: root / "absent", "no such file or folder", id="missing"),
    pytest.param(lambda root: write_tree(root / "empty", {"a.txt": b""}), "no images in class folders", id="no images"),
    pytest.param(lambda root: write_tree(root, {"x.rar": b"Rar!"}) / "x.rar", "is no folder, zip, tar", id="rar"),
    pytest.param(lambda root: write_tree(root, {"x.csv": b"a,b\n"}) / "x.csv", "no columns emotion", id="other csv"),
    pytest.param(lambda root: write_tree(root, {"x.zip": b""}) / "x.zip", "is no folder, zip, tar", id="empty file"),
])  # fmt: skip
def test_sources_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare([make(tmp_path)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
def test_archive_that_was_cut_short(archive: Callable[[str, str], Path], tmp_path: Path, ending: str) -> None:
    path = archive(ending, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="fer2013"):
        prepare([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_out_that_holds_other_things_is_left_alone(kaggle: Path, tmp_path: Path) -> None:
    out = write_tree(tmp_path / "out", {"thesis.txt": b"years of work"})
    for layout in ("packed", "folders"):
        with pytest.raises(DataError, match="not empty"):
            prepare([kaggle], out, layout=layout)
    with pytest.raises(DataError, match="is a file"):
        prepare([kaggle], out / "thesis.txt")
    assert (out / "thesis.txt").read_bytes() == b"years of work"


@pytest.mark.parametrize("layout", ["packed", "folders"])
def test_out_that_cannot_be_written_is_named(kaggle: Path, tmp_path: Path, layout: str) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="taken/out cannot be written"):
        prepare([kaggle], tmp_path / "taken/out", layout=layout)


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("layout", "breaks"), [
    pytest.param("packed", "numpy.save", id="packed, at the first array"),
    pytest.param("packed", "json.dumps", id="packed, at the names"),
    pytest.param("packed", "mien.datasets.packed.replace_folder", id="packed, at the end"),
    pytest.param("folders", "pathlib.Path.write_bytes", id="folders"),
])  # fmt: skip
def test_a_full_disk_leaves_nothing_behind(
    kaggle: Path, tmp_path: Path, layout: str, breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaks, full)
    with pytest.raises(DataError, match="out cannot be written: No space left on device"):
        prepare([kaggle], tmp_path / "out", layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["fer2013"]


def test_an_earlier_result_stays_where_the_last_step_fails(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", Path.rename
    prepare([kaggle], out)
    digest = packed.load(out).split("train").digest
    monkeypatch.setattr(Path, "rename", lambda at, to: full() if at.name == "out.partial" else rename(at, to))
    with pytest.raises(DataError, match="out cannot be written"):
        prepare([kaggle], out)
    assert packed.load(out).split("train").digest == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013", "out"]


@pytest.mark.parametrize("method", ["scan", "read", "sha256"])
def test_a_source_that_fails_is_named_not_the_target(
    kaggle: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(f"mien.datasets.sources.TreeSource.{method}", broken)
    with pytest.raises(DataError, match="fer2013 cannot be read: Input/output error"):
        prepare([kaggle], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["fer2013"]


@pytest.mark.parametrize("key", ["labels", "provenance", "splits"])
def test_a_data_set_without_a_part_of_its_description_is_damaged(kaggle: Path, tmp_path: Path, key: str) -> None:
    prepare([kaggle], tmp_path / "out")
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    del about[key]
    (tmp_path / "out/dataset.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=f"damaged .dataset.json has no {key}.: prepare it again"):
        packed.load(tmp_path / "out")


@pytest.mark.parametrize(("layout", "changes", "message"), [
    ("zip", {}, "layout 'zip' is unknown"),
    ("packed", {"protocol": "kaggle"}, "protocol 'kaggle' is unknown"),
    ("packed", {"size_hw": (4, 4)}, "too small"),
    ("folders", {"ferplus": Path("votes.csv")}, "no place for the FER\\+ votes"),
])  # fmt: skip
def test_unknown_options(kaggle: Path, tmp_path: Path, layout: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare([kaggle], tmp_path / "out", layout=layout, options=replace(PrepareOptions(), **changes))  # type: ignore[arg-type]


def test_provenance_names_no_path_of_the_machine(
    kaggle: Path, archive: Callable[[str, str], Path], tmp_path: Path
) -> None:
    report = prepare([kaggle, archive(".zip", "")], tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out/dataset.json").read_text()
    folder, zipped = report.provenance["sources"]
    assert (folder["name"], zipped["name"]) == ("fer2013", "fer2013.zip")
    assert len(folder["sha256"]) == len(zipped["sha256"]) == 64
    moved = kaggle.rename(tmp_path / "elsewhere")
    assert prepare([moved], tmp_path / "again").provenance["sources"][0]["sha256"] == folder["sha256"]
    (moved / "train/fear/Training_20.png").unlink()
    assert prepare([moved], tmp_path / "again").provenance["sources"][0]["sha256"] != folder["sha256"]


KILLED = """
import sys, time
from pathlib import Path
from mien.datasets.prepare import prepare

def progress(stage, done, total):
    if (stage.split()[0], done) == (sys.argv[3], int(sys.argv[4])):
        print("now", flush=True)
        time.sleep(60)

prepare([Path(sys.argv[1])], Path(sys.argv[2]), layout=sys.argv[5], progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("stage", "done", "layout"), [("reading", 20, "folders"), ("writing", 0, "packed")])
def test_killed_run_leaves_what_was_there(kaggle: Path, tmp_path: Path, stage: str, done: int, layout: str) -> None:
    out = tmp_path / "out"
    prepare([kaggle], out, layout=layout)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (kaggle / "train/fear/Training_20.png").unlink()
    arguments = [str(kaggle), str(out), stage, str(done), layout]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "now\n"
        os.kill(child.pid, signal.SIGKILL)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    prepare([kaggle], out, layout=layout)  # and the next run goes through, leftovers or not
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer2013", "out"]
