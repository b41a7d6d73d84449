"""Recipes: defaults, files, settings, and what is refused."""

import math
from pathlib import Path

import pytest

from mien import models
from mien.errors import ConfigError
from mien.training import recipe as recipes
from mien.training.recipe import Recipe


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_reads_and_names_a_network(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.model in models.names()


def test_the_faithful_baseline_is_the_case_study_s() -> None:
    recipe = recipes.read("baseline")
    assert (recipe.model, recipe.optimizer, recipe.lr, recipe.batch_size) == ("baseline", "adam", 1e-3, 64)
    assert (recipe.rotation_deg, recipe.shift, recipe.zoom, recipe.flip) == (10.0, 0.1, 0.1, 0.5)
    assert (recipe.ema, recipe.label_smoothing, recipe.erasing, recipe.weight_decay) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(["epochs=3"], {"epochs": 3}, id="integer"),
        pytest.param(["lr=1e-2", "ema=0"], {"lr": 0.01, "ema": 0.0}, id="floats, an integer among them"),
        pytest.param(["model=vgg-narrow"], {"model": "vgg-narrow"}, id="bare word"),
        pytest.param(['model="vgg-narrow"'], {"model": "vgg-narrow"}, id="quoted word"),
        pytest.param(["compile=true"], {"compile": True}, id="boolean"),
        pytest.param(["erasing_area=[0.1, 0.3]"], {"erasing_area": (0.1, 0.3)}, id="pair"),
        pytest.param(["dropout=0.5"], {"dropout": 0.5}, id="optional number"),
    ],
)
def test_settings(settings: list[str], expected: dict[str, object]) -> None:
    recipe = recipes.override(Recipe(), recipes.parse_settings(settings), source="--set")
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(["epoch=3"], "unknown keys epoch", id="unknown key"),
        pytest.param(["epochs"], "key=value", id="no value"),
        pytest.param(["epochs=many"], "epochs is 'many'", id="wrong type"),
        pytest.param(["epochs=1.5"], "epochs is 1.5", id="float for an integer"),
        pytest.param(["epochs=true"], "epochs is True", id="boolean for an integer"),
        pytest.param(["optimizer=lion"], "use one of adam, adamw, sgd", id="unknown choice"),
        pytest.param(["lr=0"], "lr is 0.0: it must be positive", id="zero rate"),
        pytest.param(["flip=1.5"], "flip is 1.5: it must lie in", id="probability over 1"),
        pytest.param(["norm_images=1"], "one image has no statistics", id="statistics of one image"),
        pytest.param(["batch_size=10", "accumulate=3"], "no multiple", id="pieces that do not fit"),
    ],
)
def test_bad_settings_name_the_key(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.override(Recipe(), recipes.parse_settings(settings), source="--set")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("epochs = ", "cannot read it as a recipe", id="no TOML"),
        pytest.param("speed = 3", "unknown keys speed", id="unknown key"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        recipes.read(str(path))


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="baseline"):
        recipes.read("basline")


def test_saved_recipes_read_back() -> None:
    recipe = recipes.read("resnet9-narrow")
    assert recipes.from_dict(recipe.to_dict(), source="run") == recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"zoom": 1.0}, "zoom and dropout must be less than 1", id="zoom to nothing"),
        pytest.param({"blur": float("inf")}, "over a quarter of the side", id="blur without end"),
        pytest.param({"blur": float("nan")}, "blur is nan: it must be 0 or more", id="blur that is no number"),
        pytest.param({"frozen_layers": -1}, "frozen_layers is -1: it must be 0 or more", id="negative count"),
        pytest.param({"rotation_deg": math.nan}, "rotation_deg is nan: it must be 0 or more", id="no number"),
        pytest.param({"soft_votes": 0.8, "soft_uniform": 0.8}, "must not exceed 1", id="no share left for the label"),
        pytest.param({"erasing_area": (0.3, 0.1)}, "two rising shares", id="falling areas"),
        pytest.param({"distill_weight": 7.0}, r"must lie in \[0, 1\]", id="weight over 1"),
    ],
)
def test_values_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.override(Recipe(), settings, source="--set")
