"""benchmarks/all.py: runs them in turn, names what it leaves out, and fails where one fails."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_all", REPOSITORY / "benchmarks" / "all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def test_every_command_has_its_script_and_knows_its_options(everything: ModuleType) -> None:
    for benchmark in everything.BENCHMARKS:
        for line in filter(None, (benchmark.arguments, benchmark.short)):
            script, *options = line.split()
            text = (REPOSITORY / script).read_text(encoding="utf-8")
            for option in (word for word in options if word.startswith("--")):
                assert f'"{option}"' in text, f"{script} has no {option}"


def test_sections_of_the_pages_have_a_command(everything: ModuleType) -> None:
    """What stands between comments on a page is written by a benchmark that is listed."""
    for page in ("benchmarks", "profile", "sizing"):
        text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
        scripts = set(re.findall(r"python (benchmarks/\w+\.py)", text)) - {"benchmarks/all.py"}
        listed = {one.arguments.split()[0] for one in everything.BENCHMARKS if f"docs/{page}.md" in one.writes}
        assert listed <= scripts
        assert scripts - listed <= {"benchmarks/batch_sizing.py"}  # the same figures, other assumptions


def test_in_turn(
    everything: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "well.py").write_text("print('well')")
    (tmp_path / "ill.py").write_text("raise SystemExit(3)")
    (tmp_path / "data.py").write_text("import sys; print(sys.argv[1:])")
    one = replace(everything.BENCHMARKS[0], short=None)
    three = (
        replace(one, name="ill", arguments=f"{tmp_path}/ill.py"),
        replace(one, name="well", arguments=f"{tmp_path}/well.py", short=f"{tmp_path}/well.py --short"),
        replace(one, name="data", arguments=f"{tmp_path}/data.py --data DATA"),
    )
    monkeypatch.setattr(everything, "BENCHMARKS", three)
    results = {}
    for name, options in {"all": [], "try": ["--try"], "data": ["--data", str(tmp_path), "--only", "data"]}.items():
        monkeypatch.setattr(sys, "argv", ["all.py", *options])
        results[name] = (everything.main(), capfd.readouterr().out)
    code, out = results["all"]
    assert code == 1
    assert "\nwell\n" in out, "one that fails does not stop the next"
    assert "data: not run: give --data" in out
    assert out.endswith("2 run; failed or under a bar: ill\n")
    code, out = results["try"]
    assert code == 0
    assert "ill: not run: it has no short form" in out
    assert results["data"] == (0, results["data"][1])
    assert f"['--data', '{tmp_path}']" in results["data"][1]
