"""Imports point down, serving never reaches torch, and `mien --help` and `import mien` stay light."""

import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli import VERBS

REPOSITORY = Path(__file__).parents[1]
TRAINING = ("torch", "torchvision", "timm", "torchmetrics", "captum", "sklearn", "tensorboard")
EXTRAS = ("matplotlib", "av", "pyarrow", "ray", "kagglehub")
INFERENCE = ("cv2", "onnxruntime", "PIL", "flask")

HELP = "sys.argv = ['mien', '--help']; from mien.cli import main; main()"
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None, no_logo=True))"


def test_import_contracts_hold() -> None:
    # in a process of its own: the linter sets up logging, and switches off every logger that is there
    done = subprocess.run([sys.executable, "-c", LINT], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("mien", (*TRAINING, *EXTRAS, *INFERENCE), id="import mien is light"),
        pytest.param("mien.cli", (*TRAINING, *EXTRAS, *INFERENCE, "numpy", "http.client"), id="mien --help is light"),
        pytest.param("mien.pipeline", (*TRAINING, *EXTRAS, "flask"), id="pipeline"),
        pytest.param("mien.web", (*TRAINING, *EXTRAS), id="web"),
        pytest.param("mien.batch", (*TRAINING, *EXTRAS), id="batch"),
        pytest.param("mien.video", (*TRAINING, *EXTRAS), id="video"),
        pytest.param("mien.datasets", (*TRAINING, *EXTRAS), id="data"),
        pytest.param("mien.evaluation", (*TRAINING, *EXTRAS), id="evaluation"),
        pytest.param("mien.explain", (*TRAINING, *EXTRAS), id="heatmaps"),
    ],
)
def test_import_leaves_out(module: str, absent: tuple[str, ...]) -> None:
    assert _loaded(f"import {module}", absent) == set()


def test_help_leaves_out_what_it_does_not_need() -> None:
    assert _loaded(HELP, (*TRAINING, *EXTRAS, *INFERENCE, "numpy", "rich", "http.client")) == set()


@pytest.mark.parametrize(
    ("statement", "most"),
    [
        pytest.param("import mien", 50, id="import mien"),
        pytest.param(HELP, 250, id="mien --help"),
    ],
)
def test_few_modules_are_loaded_at_start(statement: str, most: int) -> None:
    """Beyond those that Python has loaded by then: each is a file to find and to run."""
    assert len(_modules(statement) - _modules("pass")) <= most


def test_name_that_needs_inference_loads_it_late() -> None:
    assert "torch" not in _loaded("from mien import Analyzer, load", TRAINING)


def test_every_verb_has_a_file() -> None:
    files = {path.stem for path in (REPOSITORY / "src" / "mien" / "cli").glob("*.py")}
    assert set(VERBS) <= files


def _loaded(statement: str, names: tuple[str, ...]) -> set[str]:
    """Which of `names` are in `sys.modules` of a fresh interpreter after `statement`."""
    return set(names) & _modules(statement)


def _modules(statement: str) -> set[str]:
    """`sys.modules` of a fresh interpreter after `statement`."""
    at_exit = "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))"
    code = f"{at_exit}; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    return set(done.stderr.split())
