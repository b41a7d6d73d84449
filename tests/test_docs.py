"""The documentation: the site builds, strictly and without network; the commands and examples of every page run.

Blocks run page by page, in their order, in a folder that holds what the pages speak of: photographs, drawn faces,
FER-2013's layout. Recipes are cut to one epoch. A block that cannot run here has a line before it,

    <!-- not run: why -->
    <!-- not run (s3://, --engine ray): why -->    only the lines that hold one of these words

which the site turns into a note.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mien.datasets.ferplus import HEADER, kaggle_rows
from mien.labels import FER7
from tests import drawing
from tests.command import Outcome

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")])
ELSEWHERE = {"api.md": "tests/web/test_serving.py runs its curl lines against a server"}
RUN = ("python", "console", "sh")
SHOWN = ("text", "json", "toml", "csv", "dockerfile", "html", "ini", "yaml", "promql")

BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n(?P<blank>\n?)```(?P<language>[a-z]*)[^\n]*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
MARKER = re.compile(
    r"(?:<!-- )?not run(?: in tests)?\s*(?:\((?P<words>[^)]*)\))?\s*(?::.*?)?(?: -->)?\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    skipped: tuple[str, ...] | None  # words of the lines that do not run; empty: none of them does; None: all run

    def commands(self) -> Iterator[str]:
        """The commands of a shell block, continued lines joined."""
        joined = self.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if self.language == "console" and not line.startswith("$ "):
                continue  # what the command printed
            command = line.removeprefix("$ ").strip()
            if command and not command.startswith("#") and not any(word in command for word in self.skipped or ()):
                yield command


def blocks(document: Path) -> list[Block]:
    text = "\n\n" + document.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) - 2
        marker = MARKER.fullmatch(match["before"])
        words = None if marker is None else tuple(w.strip() for w in (marker["words"] or "").split(",") if w.strip())
        found.append(Block(match["language"], match["text"], line, words))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_name_their_language(document: Path) -> None:
    assert {block.language for block in blocks(document)} <= {*RUN, *SHOWN}


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if any(b.language in RUN for b in blocks(d))], ids=lambda path: path.name
)
def test_blocks_run(document: Path, workspace: Path, run_command: Callable[[str], None]) -> None:
    if document.name in ELSEWHERE:
        pytest.skip(ELSEWHERE[document.name])
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(document):
        where = f"{document.name}, line {block.line}"
        if block.language not in RUN or block.skipped == ():
            continue
        if block.language == "python":
            exec(compile(block.text, where, "exec"), names)  # the very text that users copy
            continue
        for command in block.commands():
            try:
                run_command(command)
            except AssertionError as error:
                raise AssertionError(f"{where}: {command}\n{error}") from None


@pytest.fixture
def run_command(mien_command: Callable[..., Outcome]) -> Callable[[str], None]:
    """Runs a line as a shell would: `mien` in this process, Python scripts in another one, `>` into a file."""

    def run(line: str) -> None:
        words = shlex.split(line, comments=True)
        target = None
        if ">" in words:
            words, target = words[: words.index(">")], words[words.index(">") + 1]
        program = Path(words[0]).name
        if program == "python":
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return
        assert program == "mien", f"tests do not run {program}: mark the block as not run, and say why"
        outcome = mien_command(*words[1:])
        assert outcome.code == 0, outcome.err
        if target is not None:
            Path(target).write_text(outcome.out)

    return run


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory, grace_hopper: Path, astronaut: Path) -> Path:
    """What the pages speak of, made once."""
    from mien.datasets.prepare import PrepareOptions, prepare  # noqa: PLC0415

    root = tmp_path_factory.mktemp("material")
    shutil.copy(grace_hopper, root / "photo.jpg")
    (root / "photos").mkdir()
    shutil.copy(grace_hopper, root / "photos")
    shutil.copy(astronaut, root / "photos")
    _write_kaggle(root / "data" / "fer2013")
    _write_ferplus(root / "data" / "fer2013new.csv")
    options = PrepareOptions(ferplus=root / "data" / "fer2013new.csv")
    prepare([root / "data" / "fer2013"], root / "data" / "packed", options=options)
    for folder, classes in (("faces", FER7), ("smiles", ("happy", "neutral")), ("pets", ("sad", "surprise"))):
        _write_classes(root / folder, classes)
    return root


@pytest.fixture
def workspace(
    request: pytest.FixtureRequest, material: Path, tmp_path: Path, mien_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of its own for the page, which is the working folder; training takes one epoch."""
    root = tmp_path / "work"
    shutil.copytree(material, root)
    page = request.node.callspec.params["document"].name
    if page == "video.md":
        _write_film(root / "photo.jpg", root / "interview.mp4")
        shutil.copy(root / "interview.mp4", root / "film.mp4")
    if page == "README.md":  # there, what was fetched lies in downloads/
        (root / "data").rename(root / "downloads")
    if page in {"explanations.md", "serving.md"}:
        _provide_baseline(mien_home, request.getfixturevalue("tiny_onnx"))
    monkeypatch.chdir(root)
    _hasten(monkeypatch)
    if page == "explanations.md":
        run = request.getfixturevalue("run_command")
        run("mien train resnet9-narrow --data data/packed --output runs/best")
    return root


def _hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.training import start  # noqa: PLC0415
    from mien.training.recipe import override  # noqa: PLC0415

    resolve = start.resolve_recipe
    quick = {"epochs": 1, "warmup_steps": 0, "batch_size": 16}
    monkeypatch.setattr(start, "resolve_recipe", lambda *given: override(resolve(*given), quick, source="tests"))
    monkeypatch.setattr(start, "FINETUNE_EPOCHS", (1, 1))


def _provide_baseline(home: Path, model: Path) -> None:
    """A model called `baseline`, where the package does not bring it."""
    from mien import hub  # noqa: PLC0415

    if "baseline" not in hub.packaged():
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, home / "baseline.onnx")


def _write_film(photo: Path, path: Path, *, seconds: int = 96) -> None:
    """A face that sways, a frame a second: long enough for the times that the page names."""
    import av  # noqa: PLC0415

    picture = np.asarray(PIL.Image.open(photo).convert("RGB").resize((256, 300)))
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 256, 300, "yuv420p"
        for second in range(seconds):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, second % 5, axis=1), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def _write_kaggle(root: Path, *, train: int = 6, validation: int = 3) -> None:
    """Drawn faces under names that FER-2013 has, so that FER+ votes are joined."""
    faces = drawing.draw_split(train + validation, seed=0)
    for label, name in enumerate(FER7):
        known = [path for path in kaggle_rows() if path.split("/")[1] == name]
        training = [path for path in known if "/Training_" in path][:train]
        public = [path for path in known if "/PublicTest_" in path][:validation]
        rows = np.flatnonzero(faces.labels == label)
        for path, row in zip([*training, *public], rows, strict=True):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(faces.images[row]).save(root / path)


def _write_ferplus(path: Path) -> None:
    """`fer2013new.csv` with votes at random for every row."""
    parts = (("Training", 28_709), ("PublicTest", 3_589), ("PrivateTest", 3_589))
    usages = [usage for usage, number in parts for _ in range(number)]
    counts = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), len(usages))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for row, (usage, votes) in enumerate(zip(usages, counts.tolist(), strict=True)):
            writer.writerow([usage, f"fer{row:07}.png", *votes])


def _write_classes(root: Path, classes: tuple[str, ...], *, each: int = 6) -> None:
    """A folder of class folders with drawn faces."""
    generator = np.random.default_rng(len(classes))
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(each):
            PIL.Image.fromarray(drawing.draw_face(name, generator)).save(root / name / f"{number}.png")


class _Assets(HTMLParser):
    """What a browser would load by itself, and the anchors that links lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        table = dict(attributes)
        of_page = tag == "link" and table.get("rel") in {"stylesheet", "icon", "preload", "preconnect"}
        if tag in {"script", "img", "iframe", "source", "video"} or of_page:
            self.loaded += [value for key in ("src", "href") if (value := table.get(key))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    root = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(root)]
    environment = {
        **os.environ,
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_site_has_every_page(site: Path) -> None:
    pages = {path.relative_to(REPOSITORY / "docs").with_suffix(".html") for path in (REPOSITORY / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).exists()} == set()
    home = (site / "index.html").read_text(encoding="utf-8")
    assert {page for page in pages if f'href="{page.as_posix()}"' not in home and page.name != "index.html"} == set()
    assert "mien data audit" in (site / "reference" / "commands.html").read_text(encoding="utf-8")
    measured = json.loads((REPOSITORY / "results" / "evaluation" / "default" / "metrics.json").read_text())
    assert f"{100 * measured['accuracy']:.2f} %" in (site / "cards" / "default.html").read_text(encoding="utf-8")


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assets = _Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        for target in assets.loaded:
            assert not target.startswith(("http:", "https:", "//")), (page.name, target)
            if not target.startswith("data:") and page.name != "404.html":  # which is served from anywhere
                assert (page.parent / target.partition("?")[0]).exists(), (page.name, target)
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"@import|url\(['\"]?https?:", styles)


def test_site_notes_what_was_not_run(site: Path) -> None:
    text = (site / "quick-start.html").read_text(encoding="utf-8")
    assert "Not run in tests: it serves until it is stopped." in text
    partly = (site / "training.html").read_text(encoding="utf-8")
    assert "Lines with <code>imagenet</code> are not run in tests: it fetches weights." in partly
