"""Pictures of training: what augmentation makes of faces, and which faces a network gets most wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import DataError
from mien.evaluation import plots
from mien.evaluation.metrics import Floats, confusion_matrix
from mien.explain.canvas import FAINT, GAP, MARGIN, Canvas, fit, wrap
from mien.preprocess import InputSpec
from mien.training import augment
from mien.training.data import DeviceData
from mien.training.engine import Engine
from mien.training.recipe import Recipe

FACES = 8  # of a contact sheet
FACE = 84.0  # side of one, in page units
SPACE = 8.0  # between faces of a row
CAPTION = 200.0  # width of the column of captions
TEXT, SMALL = 13.0, 11.0
MISTAKES = 24


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of a contact sheet."""

    name: str
    says: str  # what the recipe does, in words
    recipe: Recipe | None  # with this effect alone, and always; None: the recipe does not have it


def effects(recipe: Recipe) -> tuple[Effect, ...]:
    """Each augmentation of `recipe` alone, then all together as training draws them."""
    off = replace(
        recipe, flip=0.0, rotation_deg=0.0, shift=0.0, zoom=0.0, colour_probability=0.0, erasing=0.0, mixup=0.0,
        cutmix=0.0, mix_probability=1.0, blur=0.0, noise=0.0,
    )  # fmt: skip
    moved = replace(off, flip=recipe.flip, rotation_deg=recipe.rotation_deg, shift=recipe.shift, zoom=recipe.zoom)
    coloured = replace(off, colour_probability=1.0)
    has_colour = recipe.colour_probability > 0 and (recipe.brightness > 0 or recipe.contrast > 0)
    turned = f"±{recipe.rotation_deg:g}°, shift ±{_percent(recipe.shift)}, zoom ±{_percent(recipe.zoom)}"
    light = f"brightness ±{_percent(recipe.brightness)}, contrast ±{_percent(recipe.contrast)}"
    low, high = (_percent(share) for share in recipe.erasing_area)
    mixed = f"{_percent(recipe.mix_probability)} of the batches"
    worn = replace(off, blur=recipe.blur, noise=recipe.noise, damage_probability=1.0)
    is_worn = recipe.damage_probability > 0 and (recipe.blur > 0 or recipe.noise > 0)
    strengths = [f"blur up to {100 * recipe.blur:g} % of the side"] if recipe.blur else []
    strengths += [f"noise up to {255 * recipe.noise:.0f} grey levels"] if recipe.noise else []
    damaged = f"{', '.join(strengths)}; each: {_percent(recipe.damage_probability)} of the faces"
    return (
        Effect("as stored", "", off),
        Effect("affine", f"{turned}; {_percent(recipe.flip)} mirrored", moved if moved != off else None),
        Effect(
            "colour", f"{light}; {_percent(recipe.colour_probability)} of the faces", coloured if has_colour else None
        ),
        Effect(
            "erasing",
            f"{low} to {high} of the area; {_percent(recipe.erasing)} of the faces",
            replace(off, erasing=1.0) if recipe.erasing else None,
        ),
        Effect("mixup", f"Beta({recipe.mixup:g}); {mixed}", replace(off, mixup=recipe.mixup) if recipe.mixup else None),
        Effect(
            "CutMix", f"Beta({recipe.cutmix:g}); {mixed}", replace(off, cutmix=recipe.cutmix) if recipe.cutmix else None
        ),
        Effect("blur and noise", damaged, worn if is_worn else None),
        Effect("all together", "as training draws them", recipe),
    )


def augmented(recipe: Recipe, pixels: Tensor, *, seed: int) -> Tensor:
    """A batch (N, C, H, W) in [0, 1] as a step of training sees it, without the calm of the last epochs."""
    generator = torch.Generator(pixels.device).manual_seed(seed)
    height, width = pixels.shape[2:]
    draws = augment.draw(recipe, len(pixels), generator, calm=False, size_hw=(height, width))
    views = augment.view(pixels, draws, padding=recipe.padding)
    views = augment.mix(views, views[draws.partner], draws) if augment.mixes(recipe) else views
    return augment.damage(views, draws)


def of_a_run(engine: Engine) -> dict[str, NDArray[np.uint8]]:
    """Pictures (H, W, 3) RGB of a run at its end, by tag: its augmentation, confusion matrix and surest mistakes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    labels = engine.about["labels"]
    sheets = {"train/augmentation": contact_sheet(engine.recipe, engine.train, engine.spec)}
    probabilities = validation_probabilities(engine)
    if worst := mistakes_sheet(engine.validation, probabilities, labels, engine.spec):
        sheets["validation/mistakes"] = worst
    shown = {tag: np.asarray(sheet.png(pixels_per_unit=1), np.uint8) for tag, sheet in sheets.items()}
    truth = engine.validation.labels.cpu().numpy()
    matrix = confusion_matrix(truth, probabilities.argmax(1), len(labels))
    shown["validation/confusion"] = plots.to_image(plots.confusion_figure(matrix, labels, show="shares"))
    return shown


def contact_sheet(recipe: Recipe, data: DeviceData, spec: InputSpec, *, faces: int = FACES) -> Canvas:
    """A page with a row an effect: the same faces, as many of each class as fit, drawn with the recipe's seed.

    Raises:
        DataError: there are no faces.
    """
    if not len(data):
        raise DataError("there are no faces to show")
    rows = _one_of_each(data.labels, faces, seed=recipe.seed)
    pixels = data.pixels(rows, spec)
    shown = effects(recipe)
    width = 2 * MARGIN + CAPTION + len(rows) * (FACE + SPACE) - SPACE
    canvas = Canvas(width, 2 * MARGIN + 30 + len(shown) * (FACE + SPACE) - SPACE)
    canvas.text(MARGIN, MARGIN + 14, f"Augmentation: {recipe.model}, seed {recipe.seed}", size=16)
    for number, effect in enumerate(shown):
        y = MARGIN + 30 + number * (FACE + SPACE)
        canvas.text(MARGIN, y + 20, effect.name, size=TEXT)
        says = effect.says if effect.recipe is not None else "off in this recipe"
        for line, text in enumerate(wrap(says, CAPTION - GAP, SMALL)):
            canvas.text(MARGIN, y + 38 + 15 * line, text, size=SMALL, colour=FAINT)
        if effect.recipe is None:
            continue
        views = augmented(effect.recipe, pixels, seed=recipe.seed) if number else pixels
        for column, picture in enumerate(to_pictures(views)):
            x = MARGIN + CAPTION + column * (FACE + SPACE)
            canvas.picture(x, y, width=FACE, height=FACE, pixels=picture)
    return canvas


def mistakes_sheet(
    data: DeviceData, probabilities: Floats, labels: Sequence[str], spec: InputSpec, *, most: int = MISTAKES
) -> Canvas | None:
    """A page of the wrong decisions that the network is surest of; `probabilities` is (N, K). None: no mistake."""
    truth = data.labels.cpu().numpy()
    said, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(said != truth)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    if not len(worst):
        return None
    pictures = to_pictures(data.pixels(torch.from_numpy(worst).to(data.device), spec))
    across = min(FACES, len(worst))
    down = -(-len(worst) // across)
    side, below = 1.25 * FACE, 42.0
    canvas = Canvas(
        2 * MARGIN + max(3, across) * (side + SPACE) - SPACE, 2 * MARGIN + 30 + down * (side + below) - SPACE
    )
    canvas.text(MARGIN, MARGIN + 14, "Surest mistakes: the label, then the answer", size=16)
    for number, (row, picture) in enumerate(zip(worst, pictures, strict=True)):
        x = MARGIN + number % across * (side + SPACE)
        y = MARGIN + 30 + number // across * (side + below)
        canvas.picture(x, y, width=side, height=side, pixels=picture)
        canvas.text(x, y + side + 14, fit(labels[truth[row]], side, SMALL), size=SMALL, colour=FAINT)
        canvas.text(x, y + side + 28, fit(f"{labels[said[row]]} {100 * sure[row]:.0f} %", side, SMALL), size=SMALL)
    return canvas


def validation_probabilities(engine: Engine) -> Floats:
    """(N, K) softmax, as trained, of the weights that the run keeps last, for each validation face."""
    parts = [logits.double().softmax(1).cpu() for _, logits in engine.validation_logits()]
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def to_pictures(pixels: Tensor) -> NDArray[np.uint8]:
    """(N, 1 or 3, H, W) in [0, 1] to (N, H, W, 3) uint8 RGB."""
    bytes_ = (pixels.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return np.ascontiguousarray(bytes_.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())


def _one_of_each(labels: Tensor, n: int, *, seed: int) -> Tensor:
    """Rows of at most `n` faces in random order, the classes in turn."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels.cpu()[order]
    turn = torch.empty_like(shuffled)  # how many of the same class came before
    for label in range(int(shuffled.max()) + 1):
        of = shuffled == label
        turn[of] = torch.arange(int(of.sum()))
    classes = int(shuffled.max()) + 1
    return order[torch.argsort(turn * classes + shuffled)][:n].to(labels.device)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
