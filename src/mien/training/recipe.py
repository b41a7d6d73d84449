"""Every setting of a training run, with its default and the reason; files hold only what differs."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mien.errors import ConfigError

_RATIOS = (
    "dropout", "flip", "shift", "zoom", "brightness", "contrast", "colour_probability", "erasing", "mix_probability",
    "noise", "damage_probability", "start_share",
    "early", "calm", "ema", "label_smoothing", "soft_votes", "soft_uniform", "momentum", "layer_decay", "lr_final",
    "plateau_factor", "distill_weight",
)  # fmt: skip
_NOT_NEGATIVE = (
    "frozen_layers", "input_size", "head_weight", "rotation_deg", "mixup", "cutmix", "blur", "weight_decay", "l2",
    "warmup_steps", "plateau_patience", "gradient_clip", "sam_rho", "norm_images", "checkpoint_steps",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. The defaults are the recipe for small networks from scratch."""

    # the network
    model: str = "baseline"
    dropout: float | None = None  # None: the network's own default
    pretrained: str = "none"  # none, imagenet, imagenet-caffe, vggface2, or a path to weights
    frozen_layers: int = 0  # the first N layers of a pre-trained backbone stay as they are, batch norm excepted
    layout: Literal["torch", "keras", "caffe"] = "torch"  # strides, padding, batch norm, as the start has them
    channels: int = 0  # 0: the network's own; networks of timm take 1 or 3

    # the data
    seed: int = 0
    input_size: int = 0  # 0: the network's own; else the side in pixels
    ferplus: Literal["none", "soft", "head", "majority", "probability"] = "none"
    soft_votes: float = 0.2  # weight of P(label | votes) in the soft target
    soft_uniform: float = 0.1  # weight of the uniform distribution there; the label keeps the rest
    head_weight: float = 0.25  # of the second head's loss
    balance: Literal["none", "sampler", "loss", "logit-adjust"] = "none"

    # augmentation: each sample draws its own, on whole batches on the device
    flip: float = 0.5  # probability
    rotation_deg: float = 15.0  # uniform in +- this
    shift: float = 0.1  # uniform in +- this share of the side
    zoom: float = 0.15  # uniform scale in 1 +- this
    padding: Literal["zeros", "border", "reflection"] = "reflection"
    brightness: float = 0.3  # uniform in +- this, on pixels in [0, 1]
    contrast: float = 0.3  # uniform factor in 1 +- this
    colour_probability: float = 0.5
    erasing: float = 0.5  # probability of one erased rectangle, Zhong et al. 2017
    erasing_area: tuple[float, float] = (0.02, 0.2)  # share of the image
    mixup: float = 0.0  # Beta(a, a) of Zhang et al. 2017; 0: off
    cutmix: float = 0.0  # Beta(a, a) of Yun et al. 2019; 0: off; with mixup, each half of the batches
    mix_probability: float = 0.5  # share of the batches that are mixed at all
    blur: float = 0.0  # Gaussian; its standard deviation is uniform in [0, this share of the side]; 0: off
    noise: float = 0.0  # Gaussian, a pixel; its standard deviation is uniform in [0, this], on pixels in [0, 1]; 0: off
    damage_probability: float = 0.4  # of blur, and of noise; teachers see the view before both
    early: float = 0.0  # share of the epochs, at the start, that see smaller pictures: cheaper, as accurate at the end
    early_size: int = 36  # side of those, in pixels; for networks with global pooling
    calm: float = 0.1  # share of the epochs, at the end, without erasing, mixup and CutMix

    # optimisation
    epochs: int = 40
    batch_size: int = 128  # over all processes, so their number changes no result
    accumulate: int = 1  # the batch is worked through in this many pieces, where memory is short
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = 3e-3
    momentum: float = 0.9  # SGD, with Nesterov
    weight_decay: float = 0.05  # not on norm layers and biases
    l2: float = 0.0  # Keras' kernel regulariser on the layers that the network names
    layer_decay: float = 1.0  # rate of a layer = lr * this ** (distance from the head)
    schedule: Literal["constant", "cosine", "onecycle", "plateau", "inverse"] = "cosine"
    warmup_steps: int = 500
    lr_final: float = 0.0  # cosine ends here, as a share of lr; inverse, plateau: decay per step, Keras' SGD(decay=)
    plateau_factor: float = 0.5
    plateau_patience: int = 5  # epochs without a better validation accuracy
    label_smoothing: float = 0.1
    gradient_clip: float = 0.0  # norm; 0: off
    sam_rho: float = 0.0  # Foret et al. 2021; 0: off
    ema: float = 0.999  # decay of the averaged weights that are evaluated and exported; 0: off
    norm_images: int = 0  # plain training images that batch norm's statistics are taken from before validation; 0: off,
    # which is what runs did that name no such setting
    start_share: float = 0.0  # of the weights begun with (`--from`) in those kept at the end, WiSE-FT; 0: off
    keep: Literal["last", "best"] = "last"  # which epoch the run stands for; best: by validation accuracy

    # distillation, filled in by `mien distill`
    distill_weight: float = 0.7  # of T^2 * KL to the teachers; the labels keep the rest
    distill_temperature: float = 2.0

    # the machine
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # autocast
    channels_last: bool = True
    compile: bool = False
    checkpoint_steps: int = 0  # also save every N steps; 0: at the end of each epoch only

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            choices = get_args(hints[field.name]) if get_origin(hints[field.name]) is Literal else ()
            if choices and getattr(self, field.name) not in choices:
                raise ConfigError(f"{field.name} is {getattr(self, field.name)!r}: use one of {', '.join(choices)}")
        positive = ("epochs", "batch_size", "accumulate", "lr", "early_size", "distill_temperature")
        if bad := [name for name in positive if not getattr(self, name) > 0]:
            raise ConfigError(f"{bad[0]} is {getattr(self, bad[0])}: it must be positive")
        if bad := [name for name in _NOT_NEGATIVE if not getattr(self, name) >= 0]:  # NaN, too
            raise ConfigError(f"{bad[0]} is {getattr(self, bad[0])}: it must be 0 or more")
        if bad := [name for name in _RATIOS if not 0 <= (getattr(self, name) or 0) <= 1]:
            raise ConfigError(f"{bad[0]} is {getattr(self, bad[0])}: it must lie in [0, 1]")
        if not self.blur <= 0.25:
            raise ConfigError(f"blur is {self.blur}: at over a quarter of the side nothing of the picture is left")
        if self.zoom >= 1 or self.dropout == 1:
            raise ConfigError("zoom and dropout must be less than 1: at 1 nothing of the picture is left")
        if self.soft_votes + self.soft_uniform > 1:
            raise ConfigError("soft_votes and soft_uniform together must not exceed 1: the label keeps the rest")
        if not 0 <= self.erasing_area[0] <= self.erasing_area[1] <= 1:
            raise ConfigError(f"erasing_area is {self.erasing_area}: it must be two rising shares in [0, 1]")
        if self.start_share and self.keep != "last":
            raise ConfigError("start_share mixes the weights of the last epoch: use keep = 'last'")
        if self.norm_images == 1:
            raise ConfigError("norm_images is 1: one image has no statistics; use 0 for none, or 1000 and more")
        if self.batch_size % self.accumulate:
            raise ConfigError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")

    def to_dict(self) -> dict[str, Any]:
        """All settings, JSON-safe; saved with the run."""
        return asdict(self)


def from_dict(table: Mapping[str, Any], *, source: str) -> Recipe:
    """The defaults with what `table` changes; `source` names it in errors.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type or out of range.
    """
    return override(Recipe(), table, source=source)


def override(recipe: Recipe, table: Mapping[str, Any], *, source: str) -> Recipe:
    """`recipe` with the values of `table`, checked.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type or out of range.
    """
    hints = get_type_hints(Recipe)
    if unknown := sorted(table.keys() - hints.keys()):
        raise ConfigError(f"{source}: unknown keys {', '.join(unknown)}: use some of {', '.join(sorted(hints))}")
    return replace(recipe, **{key: _typed(key, value, hints[key], source) for key, value in table.items()})


def read(name_or_path: str) -> Recipe:
    """A recipe that mien ships, by its name, or one from a TOML file.

    Raises:
        ConfigError: there is none, or it is malformed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = Path(str(resources.files("mien") / "recipes" / f"{name_or_path}.toml"))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{name_or_path!r} is no recipe: use one of {', '.join(names())}, or a .toml file") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read it as a recipe: {error}") from error
    return from_dict(table, source=path.name)


def names() -> tuple[str, ...]:
    """The recipes that mien ships, sorted."""
    folder = resources.files("mien") / "recipes"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`key=value` strings, as `--set` takes them; the value as TOML, or else as it stands.

    Raises:
        ConfigError: a setting has no `=`.
    """
    table: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write it as key=value")
        try:
            table[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key.strip()] = value.strip()
    return table


def _typed(key: str, value: Any, hint: Any, source: str) -> Any:
    """`value` as the field's type; integers serve as floats, lists as tuples."""
    if get_origin(hint) is Literal:
        hint = str
    if get_origin(hint) is tuple and isinstance(value, list | tuple) and len(value) == len(get_args(hint)):
        return tuple(_typed(key, item, kind, source) for item, kind in zip(value, get_args(hint), strict=True))
    kinds = get_args(hint) if get_origin(hint) not in (None, tuple) else (hint,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        raise ConfigError(f"{source}: {key} is {value!r}, which is no {getattr(hint, '__name__', hint)}")
    return value
