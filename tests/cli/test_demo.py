"""`mien demo` leaves its pictures, shows commands that can be typed again, and spares the user's photo."""

from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from mien.cli import app
from mien.errors import ConfigError


def test_leaves_picture_and_heatmap(tmp_path: Path, tiny_onnx: Path, grace_hopper: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--model", str(tiny_onnx), "--output", str(out := tmp_path / "my demo")])
    assert result.exit_code == 0, result.output
    photo = out / "grace_hopper.jpg"
    assert photo.read_bytes() == grace_hopper.read_bytes()
    with Image.open(out / "annotated" / "grace_hopper.jpg") as annotated, Image.open(photo) as original:
        assert annotated.size == original.size
        assert annotated.tobytes() != original.tobytes()
    with Image.open(out / "heatmap.png") as heatmap:
        assert min(heatmap.size) > 300
    assert f"$ mien predict '{photo}' --output" in result.stderr
    assert "emotion" in result.stdout


def test_own_photo_in_the_output_folder_is_spared(tmp_path: Path, tiny_onnx: Path, astronaut: Path) -> None:
    photo = tmp_path / "me.png"
    photo.write_bytes(astronaut.read_bytes())
    options = ["--image", str(photo), "--model", str(tiny_onnx), "--output", str(tmp_path)]
    assert CliRunner().invoke(app, ["demo", *options]).exit_code == 0
    assert photo.read_bytes() == astronaut.read_bytes()


def test_missing_photo_is_named(tmp_path: Path, tiny_onnx: Path) -> None:
    options = ["--image", str(tmp_path / "nosuch.jpg"), "--model", str(tiny_onnx), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["demo", *options])
    assert isinstance(result.exception, ConfigError)
    assert "nosuch.jpg" in str(result.exception)
