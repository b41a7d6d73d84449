"""What benchmarks/train_zoo.py trains, in order of value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mien.evaluation.tta import Tta


@dataclass(frozen=True)
class Item:
    """One run."""

    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()  # names of earlier items
    aligned: bool = False  # on aligned images (`mien data prepare --align`)
    tta: Tta = "none"  # of its record

    @property
    def but_seed(self) -> tuple[object, ...]:
        """Equal for runs that take equally long."""
        settings = {key: value for key, value in self.settings.items() if key != "seed"}
        return self.recipe, settings, self.teachers, self.aligned


LIGHT = ("vgg-modern", "resnet18-se", "cbam")
ABLATED = "resnet9-narrow"


def _seeds(name: str, recipe: str, seeds: Iterable[int], **settings: Any) -> tuple[Item, ...]:
    return tuple(Item(f"{name}-s{seed}", recipe, {**settings, "seed": seed}) for seed in seeds)


ZOO: tuple[Item, ...] = (
    # three light, diverse teachers and their student: the default model
    *(Item(name, name, {"epochs": 100}) for name in LIGHT),
    Item("student", "student", teachers=LIGHT),
    # the case study's three, faithfully, then improved
    Item("baseline", "baseline"),
    Item("vgg", "vgg"),
    Item("resnet50", "resnet50"),
    Item("resnet50-improved", "resnet50-improved"),
    Item("resnet50-imagenet", "resnet50-imagenet", {"epochs": 40}, teachers=("student",)),
    Item("resnet50-scratch", "resnet50-scratch"),
    Item("baseline-distilled", "baseline-distilled", {"epochs": 120}, teachers=("student",)),
    # what it left for later
    Item("senet50", "senet50"),
    Item("lhc", "lhc"),
    Item("aligned", ABLATED, aligned=True),
    *(Item(f"balance-{way}", ABLATED, {"balance": way}) for way in ("none", "sampler", "loss", "logit-adjust")),
    Item("resnet50-scratch-adam", "resnet50-scratch", {"optimizer": "adam", "lr": 1e-3}),
    # the best single network, three seeds
    *(replace(item, tta="full") for item in _seeds("resnet34-se", "resnet34-se", (0, 1, 2))),
    # a second student, of the ensemble
    Item("student-2", "student", {"seed": 1}, teachers=(*LIGHT, "lhc", "resnet34-se-s0", "resnet34-se-s1")),
    # ablations at equal budget, two seeds each
    *_seeds("no-votes", ABLATED, (0, 1), ferplus="none"),
    *_seeds("votes-soft", ABLATED, (0, 1), ferplus="soft"),
    *_seeds("votes-head", ABLATED, (0, 1), ferplus="head"),
    *_seeds("sam", ABLATED, (0, 1), sam_rho=0.05),
    *_seeds("mixup", ABLATED, (0, 1), mixup=0.2),
    *_seeds("cutmix", ABLATED, (0, 1), cutmix=1.0),
    *_seeds("no-average", ABLATED, (0, 1), ema=0.0),
    *_seeds("input-64", ABLATED, (0, 1), input_size=64, early=0.0),
    *_seeds("epochs-100", ABLATED, (0, 1), epochs=100),
)
