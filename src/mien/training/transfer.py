"""What a recipe says of its network and of the weights that it starts from."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
from torch import nn

from mien import models
from mien.errors import ConfigError, ModelError
from mien.labels import FERPLUS8
from mien.models import imagenet_weights, pretrained
from mien.models.keras_weights import VGGFACE2_INPUT
from mien.models.timm_net import PREFIX, grey_input
from mien.models.two_heads import TwoHeads
from mien.preprocess import InputSpec
from mien.training import checkpoint
from mien.training.recipe import Recipe


def settle(recipe: Recipe) -> Recipe:
    """`recipe` with the layout that its start needs, so that a checkpoint rebuilds the same network.

    Raises:
        ConfigError: the network has no such start.
        ModelError: the network or the file is unknown.
    """
    pretrained.check(models.info(recipe.model), recipe.pretrained)
    if pretrained.is_keras(recipe.pretrained):
        return replace(recipe, layout="keras")
    if pretrained.is_caffe(recipe.pretrained):
        return replace(recipe, layout="caffe")
    about = _about(recipe.pretrained)
    return recipe if about is None else replace(recipe, layout=about["recipe"].get("layout", recipe.layout))


def input_spec(recipe: Recipe) -> InputSpec:
    """What the recipe's network takes: normalisation and channel order are those of the weights it starts from.

    Raises:
        ModelError: the network or the file is unknown.
    """
    about = _about(recipe.pretrained)
    if about is not None:
        spec = InputSpec.from_dict(about["input"])
    elif recipe.layout == "keras":
        spec = VGGFACE2_INPUT
    elif recipe.layout == "caffe":
        spec = imagenet_weights.INPUT
    else:
        spec = models.info(recipe.model).input
    if recipe.channels == 1:
        spec = grey_input(spec)
    return replace(spec, size_hw=(recipe.input_size, recipe.input_size)) if recipe.input_size else spec


def build(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network with random weights.

    Raises:
        ModelError: the network is unknown, or has not what the recipe asks of it.
        ConfigError: a second head is asked for where it cannot be.
    """
    options: dict[str, object] = {}
    if recipe.dropout is not None:
        options["dropout"] = recipe.dropout
    if recipe.layout != "torch":
        options["layout"] = recipe.layout
    if recipe.channels:
        options["channels"] = recipe.channels
    if recipe.input_size and recipe.model.startswith(PREFIX):
        options["input_size"] = recipe.input_size
    net = models.create(recipe.model, num_classes, **options)
    return TwoHeads(net, len(FERPLUS8)) if recipe.ferplus == "head" else net


def load_pretrained(model: nn.Module, recipe: Recipe) -> None:
    """Give a fresh network the weights that its recipe starts from.

    Raises:
        ModelError: they are missing, damaged, or do not fit.
    """
    net = model.net if isinstance(model, TwoHeads) else model
    assert isinstance(net, nn.Module)
    name = recipe.pretrained
    if Path(name).is_dir():
        name = str(checkpoint.kept(Path(name)))
    pretrained.load(net, models.info(recipe.model), name)


def freeze(model: nn.Module, recipe: Recipe, *, trained: bool) -> None:
    """Freeze the recipe's first layers; `trained`: the weights come from a model of an earlier run.

    Raises:
        ConfigError: they are random, or there are not as many.
    """
    if not recipe.frozen_layers:
        return
    if recipe.pretrained == pretrained.NONE and not trained:
        raise ConfigError(
            f"frozen_layers is {recipe.frozen_layers}, but nothing is pre-trained: random layers that never learn "
            "are of no use; set --pretrained, or frozen_layers = 0"
        )
    net = model.net if isinstance(model, TwoHeads) else model
    assert isinstance(net, nn.Module)
    pretrained.freeze(net, recipe.frozen_layers)


def _about(name: str) -> Mapping[str, Any] | None:
    """What a run, checkpoint or weights file of mien says of itself; None for other starts."""
    if name in (pretrained.NONE, pretrained.IMAGENET) or pretrained.is_keras(name) or pretrained.is_caffe(name):
        return None
    path = Path(name)
    if not path.exists():
        raise ModelError(f"{name} is no start: use the name of one, none, a run, or a file of weights")
    if path.is_dir():
        return checkpoint.about(checkpoint.kept(path))
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(f"{path} is no safetensors file, or is damaged: {error}") from error
        about: Mapping[str, Any] | None = json.loads(metadata["mien"]) if "mien" in metadata else None
        return about
    return checkpoint.about(path)
