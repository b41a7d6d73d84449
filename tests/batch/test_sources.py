"""Every kind of source gives the rows that the analyzer gives for its pictures, one by one."""

import gzip
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mien
from mien.batch import job, local, sources, stores
from mien.batch.job import Settings
from mien.batch.plan import Plan
from mien.batch.sources import Unit, listing
from mien.errors import ConfigError, DataError, ImageError
from tests.batch.conftest import Score, Silent
from tests.batch.s3 import BucketHandler

PICTURES = ("00.png", "01.png", "02.png", "broken.jpg")


@pytest.fixture
def few(album: Path, tmp_path: Path) -> Path:
    """Three crops and a file that is no picture, in one folder."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in PICTURES:
        at = album / name if (album / name).exists() else album / "deep" / name
        (folder / name).write_bytes(at.read_bytes())
    return folder


@pytest.fixture
def expected(few: Path, tiny_onnx: Path) -> dict[str, str | None]:
    """Picture to emotion, by the analyzer alone."""
    analyzer = mien.load(tiny_onnx, detector="none")
    emotions: dict[str, str | None] = {}
    for name in PICTURES:
        try:
            emotions[name] = analyzer.analyze(few / name)[0].emotion
        except ImageError:
            emotions[name] = None
    assert emotions["broken.jpg"] is None
    return emotions


def contents(few: Path) -> list[bytes]:
    return [(few / name).read_bytes() for name in PICTURES]


def write_tar(few: Path, path: Path, mode: str = "w") -> Path:
    """As WebDataset has them: a label beside each picture."""
    with tarfile.open(path, mode) as archive:
        for name in PICTURES:
            archive.add(few / name, f"deep/{name}")
            info = tarfile.TarInfo(f"deep/{name}.cls")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"3"))
    return path


def a_folder(few: Path) -> tuple[object, str]:
    return few, f"{few}/{{name}}"


def a_glob(few: Path) -> tuple[object, str]:
    return f"{few}/*.*g", f"{few}/{{name}}"


def a_file_address(few: Path) -> tuple[object, str]:
    return f"file://{few}", f"{few}/{{name}}"


def a_list(few: Path) -> tuple[object, str]:
    path = few.parent / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(f"{few}/{name}" for name in PICTURES).encode() + b"\n\n")
    return path, f"{few}/{{name}}"


def parquet_of_bytes(few: Path) -> tuple[object, str]:
    path = few.parent / "bytes.parquet"
    table = pa.table({"id": range(4), "image": pa.array(contents(few), pa.binary())})
    pq.write_table(table, path, row_group_size=3)
    return path, f"{path}#{{row}}"


def parquet_of_paths(few: Path) -> tuple[object, str]:
    path = few.parent / "paths.parquet"
    pq.write_table(pa.table({"path": [f"{few}/{name}" for name in PICTURES]}), path)
    return path, f"{few}/{{name}}"


def parquet_of_structs(few: Path) -> tuple[object, str]:
    """Hugging Face's form: the bytes, or where they are."""
    path = few.parent / "structs.parquet"
    cells = [{"bytes": data, "path": "elsewhere.png"} for data in contents(few)[:2]]
    cells += [{"bytes": None, "path": f"{few}/{name}"} for name in PICTURES[2:]]
    pq.write_table(pa.table({"label": range(4), "image": cells}), path)
    return path, f"{{structs:{path}}}"


def a_tar(few: Path) -> tuple[object, str]:
    path = write_tar(few, few.parent / "few.tar")
    return path, f"{path}#deep/{{name}}"


def a_tar_gz(few: Path) -> tuple[object, str]:
    path = write_tar(few, few.parent / "few.tar.gz", "w:gz")
    return path, f"{path}#deep/{{name}}"


def a_store(few: Path) -> tuple[object, str]:
    memory = fsspec.filesystem("memory")
    for name in PICTURES:
        memory.pipe_file(f"/few/{name}", (few / name).read_bytes())
    return "memory://few", "memory://few/{name}"


def a_tar_in_a_store(few: Path) -> tuple[object, str]:
    data = write_tar(few, few.parent / "few.tar").read_bytes()
    fsspec.filesystem("memory").pipe_file("/tars/a.tar", data)
    return "memory://tars/*.tar", "memory://tars/a.tar#deep/{name}"


SOURCES = (
    *(a_folder, a_glob, a_file_address, a_list, parquet_of_bytes, parquet_of_paths, parquet_of_structs),
    *(a_tar, a_tar_gz, a_store, a_tar_in_a_store),
)


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


def check(table: pa.Table, name_of: str, expected: dict[str, str | None]) -> None:
    """Rows in the order of PICTURES, with the emotions that are expected."""
    names = [name_of.format(name=name, row=row) for row, name in enumerate(PICTURES)]
    assert table.column("source").to_pylist() == names
    assert table.column("emotion").to_pylist() == list(expected.values())
    assert [error is None for error in table.column("error").to_pylist()] == [True, True, True, False]
    assert "no picture that mien knows" in table.column("error")[3].as_py()
    assert table.column("face").to_pylist() == [1, 1, 1, None]


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__.replace("_", " "))
def test_every_source(
    few: Path, tmp_path: Path, score: Score, expected: dict[str, str | None], make: Callable[[Path], Any]
) -> None:
    source, name_of = make(few)
    if make is parquet_of_structs:
        table, _ = score(source, tmp_path / "out.parquet")
        assert table.column("emotion").to_pylist() == list(expected.values())
        paths = [f"{source}#0", f"{source}#1", *(f"{few}/{name}" for name in PICTURES[2:])]
        assert table.column("source").to_pylist() == paths
        return
    table, summary = score(source, tmp_path / "out.parquet", shard_images=2)
    check(table, name_of, expected)
    assert (summary.total.images, summary.total.faces, summary.total.errors) == (4, 3, 1)


@pytest.fixture
def serve() -> Iterator[Callable[[type, Path], str]]:
    """`serve(handler, folder)`: the address of a server on loopback."""
    running: list[ThreadingHTTPServer] = []

    def start(handler: Any, folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("kind", ["tar", "list"])
def test_a_web_server(
    few: Path, tmp_path: Path, score: Score, expected: dict[str, str | None], serve: Any, kind: str
) -> None:
    pytest.importorskip("aiohttp")
    write_tar(few, few / "few.tar")
    host = serve(Quiet, few)
    if kind == "tar":
        source, name_of = f"http://{host}/few.tar", f"http://{host}/few.tar#deep/{{name}}"
    else:
        source, name_of = str(tmp_path / "list.txt"), f"http://{host}/{{name}}"
        Path(source).write_text("\n".join(name_of.format(name=name) for name in PICTURES))
    table, _ = score(source, tmp_path / "out.parquet")
    check(table, name_of, expected)


class Moody(Quiet):
    """Names every file as there; sends a busy answer, or half a body, for some."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/00.png" or (self.path == "/02.png" and self.asked.count(self.path) == 1):
            self.send_error(503)
        elif self.path == "/01.png":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
        else:
            super().do_GET()


def test_bad_answers_are_asked_again_and_then_rows(
    few: Path, tmp_path: Path, score: Score, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(stores, "RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(Moody, "asked", [])
    host = serve(Moody, few)
    lines = [f"http://{host}/{name}" for name in PICTURES[:3]]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "foo://x.jpg"]))
    table, summary = score(tmp_path / "list.txt", tmp_path / "out.parquet")
    busy, half, later, unknown = table.column("error").to_pylist()
    assert "cannot be read (503" in busy
    assert "cannot be read (" in half
    assert later is None
    assert "foo" in unknown
    assert summary.total.errors == 3
    assert {path: Moody.asked.count(path) for path in Moody.asked} == {"/00.png": 3, "/01.png": 3, "/02.png": 2}


class Failing(Quiet):
    """Answers with pieces of a file, as stores do; while `broken`, those from 4 kB on come by half, `faults` times."""

    protocol_version = "HTTP/1.1"
    broken: ClassVar[bool]
    faults: ClassVar[int]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        span = self.headers.get("Range", f"bytes=0-{len(data) - 1}")
        first, _, last = span.removeprefix("bytes=").partition("-")
        piece = data[int(first) : int(last) + 1] if last else data[int(first) :]
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}")
        self.end_headers()
        self.asked.append(span)
        if self.broken and int(first) >= 4096 and self.asked.count(span) <= self.faults:
            piece = piece[: len(piece) // 2]
            self.close_connection = True
        self.wfile.write(piece)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(Path(self.translate_path(self.path)).stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()


class Breaking(Silent):
    def begun(self, work: Plan, finished: int) -> None:
        Failing.broken = True
        Failing.asked.clear()


def many_in_a_tar(few: Path) -> Path:
    with tarfile.open(few / "many.tar", "w") as archive:
        for number in range(12):
            archive.add(few / PICTURES[number % 3], f"{number:02}.png")
    return few / "many.tar"


def many_in_a_table(few: Path) -> Path:
    pictures = pa.array(12 * contents(few)[:1], pa.binary())
    pq.write_table(pa.table({"bytes": pictures}), few / "many.parquet", row_group_size=2, use_dictionary=False)
    return few / "many.parquet"


@pytest.mark.parametrize("faults", [1, 99], ids=["a moment", "for good"])
@pytest.mark.parametrize("make", [many_in_a_tar, many_in_a_table], ids=["tar", "parquet"])
def test_a_store_that_fails_in_the_middle_of_a_file(
    few: Path,
    tmp_path: Path,
    tiny_onnx: Path,
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], Path],
    faults: int,
) -> None:
    """Drivers have errors of their own for that, none of which may end the job: reading goes on, or a row says where
    it stopped, and other files are read."""
    pytest.importorskip("aiohttp")
    path = make(few)
    monkeypatch.setattr(stores, "RETRY_WAITS_S", (0.0, 0.0))
    for name, value in {"broken": False, "faults": faults, "asked": []}.items():
        monkeypatch.setattr(Failing, name, value, raising=False)
    monkeypatch.setitem(fsspec.config.conf, "http", {"block_size": 4096})
    monkeypatch.setitem(fsspec.config.conf, "https", {"block_size": 4096})
    stores._file_system.cache_clear()
    fsspec.filesystem("http").clear_instance_cache()
    (tmp_path / "list.txt").write_text(f"http://{serve(Failing, few)}/{path.name}\n{few / PICTURES[0]}")
    out = tmp_path / "out.parquet"
    settings = Settings(source=str(tmp_path / "list.txt"), output=str(out), model=str(tiny_onnx), detector="none")
    summary = job.run(settings, local.engine(2), watch=Breaking())
    table = pq.read_table(out)
    errors = [text for text in table.column("error").to_pylist() if text]
    assert summary.total.faces == table.num_rows - len(errors)
    assert table.column("error")[-1].as_py() is None, "the file after it is read"
    if faults == 1:
        assert (errors, table.num_rows) == ([], 13)
    else:
        assert len(errors) == 1
        assert "cannot be read" in errors[0]
        assert 1 < table.num_rows < 13


def test_s3_through_pyarrow(
    few: Path,
    tmp_path: Path,
    score: Score,
    expected: dict[str, str | None],
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Listing and reading over the wire, from a server that speaks as much of S3 as that takes."""
    host = serve(BucketHandler, few.parent)
    settings = {"AWS_ENDPOINT_URL": f"http://{host}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**settings, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    table, _ = score("s3://few", tmp_path / "out.parquet")
    check(table, "s3://few/{name}", expected)


# --- order ------------------------------------------------------------------------------------------------------------


def test_order_of_a_list_and_sorted(album: Path, tmp_path: Path, score: Score) -> None:
    paths = [str(album / name) for name in ("07.png", "02.png", "05.png")]
    (tmp_path / "list.txt").write_text("\n".join(paths))
    table, _ = score(tmp_path / "list.txt", tmp_path / "a.parquet")
    assert table.column("source").to_pylist() == paths
    table, _ = score(tmp_path / "list.txt", tmp_path / "b.parquet", sort=True)
    assert table.column("source").to_pylist() == sorted(paths)


def test_hidden_files_and_other_files_are_no_sources(album: Path) -> None:
    skipped: list[str] = []
    found = [unit.address for unit in listing(str(album), skip=skipped.append)]
    assert skipped == [str(album / "notes.txt")]
    assert len(found) == 31
    assert not any("notes" in address for address in found)
    assert found == [*sorted(map(str, album.glob("*.*g"))), *sorted(map(str, album.glob("deep/*")))]


@pytest.mark.parametrize("pattern", ["**", "**/*", "**/*.*g", "*", "**/"])
def test_a_glob_of_folders_and_their_files_takes_each_once(album: Path, pattern: str) -> None:
    skipped: list[str] = []
    found = [unit.address for unit in listing(f"{album}/{pattern}", skip=skipped.append)]
    assert sorted(found) == sorted(map(str, album.rglob("*.*g")))
    assert len(skipped) <= 1  # notes.txt, where the pattern matches it


def test_relative_paths_are_found_from_any_working_folder(
    album: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album)
    table, summary = score("deep", tmp_path / "out.parquet")
    assert summary.total.errors == 0
    assert table.column("source")[0].as_py() == "deep/00.png"


# --- what is wrong with sources ---------------------------------------------------------------------------------------


def nothing(folder: Path) -> str:
    return str(folder)


def a_parquet_without_pictures(folder: Path) -> str:
    pq.write_table(pa.table({"path": [1, 2], "label": [0, 1]}), folder / "labels.parquet")
    return str(folder / "labels.parquet")


def a_damaged_parquet(folder: Path) -> str:
    (folder / "bad.parquet").write_bytes(b"PAR1 no more")
    return str(folder / "bad.parquet")


def an_empty_list(folder: Path) -> str:
    (folder / "empty.txt").write_text("\n\n")
    return str(folder / "empty.txt")


BAD_SOURCES = {
    "an empty folder": (nothing, DataError, "no pictures there"),
    "a folder that is not there": (lambda folder: f"{folder}/nowhere", DataError, "no such file or folder"),
    "a glob without a match": (lambda folder: f"{folder}/*.jpg", DataError, "no pictures there"),
    "an empty list": (an_empty_list, DataError, "no pictures there"),
    "a list that is not there": (lambda folder: f"{folder}/list.txt", DataError, "cannot be read"),
    "a Parquet file without pictures": (a_parquet_without_pictures, DataError, "of path, label, name one with"),
    "a damaged Parquet file": (a_damaged_parquet, DataError, "no Parquet file that can be read"),
    "an unknown store": (lambda _: "nosuch://bucket", ConfigError, "nosuch"),
    "an empty store": (lambda _: "memory://nothing", DataError, "cannot be listed|no pictures there"),
}


@pytest.mark.parametrize(("make", "kind", "words"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_sources(tmp_path: Path, make: Callable[[Path], str], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        list(listing(make(tmp_path)))


def test_a_column_without_a_parquet_file_is_refused(album: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Parquet file that could have a column 'foo'"):
        list(listing(str(album), column="foo"))


def test_a_column_by_name(few: Path, tmp_path: Path, score: Score) -> None:
    table = pa.table({"image": contents(few)[:1], "portrait": contents(few)[1:2]})
    pq.write_table(table, tmp_path / "two.parquet")
    first, _ = score(tmp_path / "two.parquet", tmp_path / "a.parquet")
    second, _ = score(tmp_path / "two.parquet", tmp_path / "b.parquet", column="portrait")
    labels = list(mien.labels.FER7)
    assert first.select(labels) != second.select(labels)
    with pytest.raises(DataError, match="no column 'face' of bytes or text"):
        score(tmp_path / "two.parquet", tmp_path / "c.parquet", column="face")


def test_a_tar_that_is_cut_short(few: Path, tmp_path: Path, score: Score) -> None:
    """What stands before the cut is scored; one row says from where on the archive is lost."""
    path = write_tar(few, tmp_path / "few.tar")
    path.write_bytes(path.read_bytes()[:3000])
    table, summary = score(path, tmp_path / "out.parquet")
    assert table.column("source").to_pylist()[-1] == str(path)
    assert "cannot be read after" in table.column("error").to_pylist()[-1]
    assert summary.total.errors >= 1


def members_of(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return archive.getmembers()


CUTS = {
    "before a header": lambda data, at: data[:at],
    "in a header": lambda data, at: data[: at + 100],
    "a damaged header": lambda data, at: data[: at + 100] + bytes(99) + data[at + 199 :],
}


@pytest.mark.parametrize("damage", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_breaks_off_at_a_member(
    few: Path, tmp_path: Path, score: Score, damage: Callable[[bytes, int], bytes], mode: str
) -> None:
    """`tarfile` takes that for the end of the archive; the members behind it would be missed by nobody."""
    path = write_tar(few, tmp_path / "few.tar")
    data = damage(path.read_bytes(), members_of(path)[2].offset)
    path.write_bytes(data if mode == "w" else gzip.compress(data))
    table, summary = score(path, tmp_path / "out.parquet")
    assert table.column("source").to_pylist() == [f"{path}#deep/00.png", str(path)]
    assert "cannot be read after deep/00.png (breaks off" in table.column("error")[1].as_py()
    assert summary.total.errors == 1


def test_rows_without_a_picture(few: Path, tmp_path: Path, score: Score) -> None:
    pq.write_table(pa.table({"bytes": pa.array([None, contents(few)[0], b""], pa.binary())}), tmp_path / "in.parquet")
    table, _ = score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    errors = table.column("error").to_pylist()
    assert errors[0] == "the row holds no picture"
    assert errors[1] is None
    assert "is empty" in errors[2]


def as_text(paths: pa.Array) -> pa.Array:
    return paths


def as_large_text(paths: pa.Array) -> pa.Array:
    return pa.array(paths.cast(pa.binary()).to_pylist(), pa.large_binary()).view(pa.large_string())


def as_dictionary(paths: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int32()), paths.take(pa.array([0, 1, 3])))


def as_structs(paths: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([pa.nulls(4, pa.binary()), paths], ["bytes", "path"])


@pytest.mark.parametrize("form", [as_text, as_large_text, as_dictionary, as_structs])
def test_a_path_in_a_table_that_is_no_unicode(
    few: Path, tmp_path: Path, score: Score, form: Callable[[pa.Array], pa.Array]
) -> None:
    paths = pa.array([f"{few}/00.png".encode(), b"\xff.png", None, f"{few}/01.png".encode()]).view(pa.string())
    pq.write_table(pa.table({"path": form(paths)}), tmp_path / "in.parquet")
    table, _ = score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    names = [f"{few}/00.png", "\\udcff.png", f"{tmp_path}/in.parquet#2", f"{few}/01.png"]
    assert table.column("source").to_pylist() == names
    assert [error is None for error in table.column("error").to_pylist()] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *(
            ("a.jpg", True),
            ("A.PNG", True),
            ("a.HEIC", True),
            ("a.heif", True),
            ("x.tar", True),
            ("x.tgz", True),
            ("x.parquet", True),
        ),
        *(("._a.jpg", False), ("_plan.parquet", False), ("notes.txt", False), ("a.json", False)),
    ],
)
def test_what_is_taken_of_a_folder(name: str, taken: bool) -> None:
    assert sources.is_input(f"folder/{name}") is taken


def test_units_of_a_parquet_file(few: Path, tmp_path: Path) -> None:
    path = tmp_path / "bytes.parquet"
    pq.write_table(pa.table({"image": contents(few)}), path, row_group_size=3)
    size = str(path.stat().st_size)
    assert list(listing(str(path))) == [
        Unit("parquet", str(path), 0, 1, images=3, state=size),
        Unit("parquet", str(path), 1, 2, images=1, state=size),
    ]
