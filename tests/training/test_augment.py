"""Augmentation: seeded, one draw a sample, and geometrically what it says."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mien.training import augment
from mien.training.recipe import Recipe

STILL = Recipe(
    flip=0, rotation_deg=0, shift=0, zoom=0, brightness=0, contrast=0, erasing=0, colour_probability=0, calm=0
)


def drawn(recipe: Recipe, n: int = 64, seed: int = 0, *, calm: bool = False, side: int = 24) -> augment.Draws:
    return augment.draw(recipe, n, torch.Generator().manual_seed(seed), calm=calm, size_hw=(side, side))


def faces(n: int = 64, side: int = 24) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(9))


def test_nothing_drawn_is_nothing_changed() -> None:
    images = faces()
    torch.testing.assert_close(augment.view(images, drawn(STILL), padding="border"), images, atol=1e-5, rtol=0)


def test_a_certain_flip_is_the_mirror_image() -> None:
    images = faces()
    seen = augment.view(images, drawn(replace(STILL, flip=1)), padding="border")
    torch.testing.assert_close(seen, images.flip(3), atol=1e-5, rtol=0)


def test_shift_moves_by_whole_pixels_as_slicing_does() -> None:
    images, draws = faces(2, 20), drawn(STILL, 2)
    inverse = draws.inverse.clone()
    inverse[:, 0, 2] = 2 * 3 / 20  # the output looks 3 pixels to the right
    seen = augment.view(images, replace(draws, inverse=inverse), padding="zeros")
    torch.testing.assert_close(seen[..., :-3], images[..., 3:], atol=1e-5, rtol=0)
    assert not seen[..., -3:].any()


def test_rotation_by_a_right_angle_is_rot90() -> None:
    images, draws = faces(3), drawn(STILL, 3)
    inverse = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).expand(3, 2, 3)
    seen = augment.view(images, replace(draws, inverse=inverse), padding="border")
    torch.testing.assert_close(seen, torch.rot90(images, 1, (2, 3)), atol=1e-5, rtol=0)


def test_draws_keep_to_the_recipe() -> None:
    draws = drawn(replace(STILL, rotation_deg=10, zoom=0.1, shift=0.1, flip=0.5), 4000)
    linear = draws.inverse[:, :, :2]
    scale = torch.linalg.det(linear).abs().sqrt()
    assert scale.min() > 1 / 1.1 - 1e-4
    assert scale.max() < 1 / 0.9 + 1e-4
    mirrored = (torch.linalg.det(linear) < 0).float().mean()
    assert 0.45 < mirrored < 0.55
    assert draws.inverse[:, :, 2].abs().max() <= 0.2  # +-0.1 of the side, in coordinates that span 2
    angle = torch.rad2deg(torch.atan2(linear[:, 0, 1], linear[:, 1, 1])).abs()
    assert 9 < angle.max() <= 10.001


def test_every_sample_draws_its_own() -> None:
    inverse = drawn(Recipe()).inverse
    assert len({tuple(row) for row in inverse.flatten(1).tolist()}) == len(inverse)


def test_the_seed_decides_and_nothing_else() -> None:
    recipe = Recipe(mixup=0.2, cutmix=1.0, mix_probability=1.0)
    torch.manual_seed(1)
    first = drawn(recipe, seed=3)
    torch.manual_seed(2)
    again, other = drawn(recipe, seed=3), drawn(recipe, seed=4)
    assert torch.equal(first.inverse, again.inverse)
    assert torch.equal(first.share, again.share)
    assert not torch.equal(first.inverse, other.inverse)


def test_slices_of_a_batch_see_what_the_whole_batch_sees() -> None:
    recipe = Recipe(mixup=0.4, mix_probability=1.0)
    images, draws = faces(), drawn(recipe)
    whole = augment.view(images, draws, padding="reflection")
    part = torch.arange(16, 32)
    torch.testing.assert_close(
        augment.view(images[part], draws.rows(part), padding="reflection"), whole[part], atol=1e-6, rtol=0
    )


def test_erasing_fills_a_rectangle_of_the_drawn_area() -> None:
    recipe = replace(STILL, erasing=1.0, erasing_area=(0.1, 0.2))
    changed = augment.view(torch.zeros(500, 1, 48, 48), drawn(recipe, 500), padding="border") > 0
    share = changed.float().mean((1, 2, 3))
    assert share.min() > 0.07
    assert share.max() < 0.24
    rows, columns = changed[:, 0].any(2).sum(1), changed[:, 0].any(1).sum(1)
    assert torch.equal(changed.sum((1, 2, 3)), rows * columns)  # a rectangle, no other shape


def test_calm_leaves_out_erasing_and_mixing() -> None:
    recipe = Recipe(erasing=1.0, mixup=0.5, mix_probability=1.0)
    draws = drawn(recipe, calm=True)
    assert torch.equal(draws.share, torch.ones(64))
    assert not (draws.erase_xyxy[:, 2:] - draws.erase_xyxy[:, :2]).prod(1).any()


def test_mixup_is_the_weighted_mean_of_pictures_and_targets() -> None:
    draws = drawn(replace(STILL, mixup=1.0, mix_probability=1.0))
    images, targets = faces(), torch.eye(7)[torch.arange(64) % 7]
    mixed = augment.mix(images, images[draws.partner], draws)
    shares = augment.mix_targets(targets, targets[draws.partner], draws)
    weight = float(draws.share[5])
    expected = weight * images[5] + (1 - weight) * images[draws.partner[5]]
    torch.testing.assert_close(mixed[5], expected)
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    assert 0.3 < draws.share.mean() < 0.7  # Beta(1, 1)


def test_cutmix_weighs_targets_by_the_pasted_area() -> None:
    draws = drawn(replace(STILL, cutmix=1.0, mix_probability=1.0), 200)
    zeros, ones = torch.zeros(200, 1, 48, 48), torch.ones(200, 1, 48, 48)
    pasted = augment.mix(zeros, ones, draws).mean((1, 2, 3))
    torch.testing.assert_close(1 - pasted, draws.share, atol=0.06, rtol=0)  # whole pixels


def test_kernels_are_opencvs_gaussians() -> None:
    deviations = (0.5, 1.0, 1.7, 2.0)
    found = augment._gaussians(torch.tensor([0.0, *deviations]), most_px=2.0)
    assert found[0].tolist() == [0.0] * 6 + [1.0] + [0.0] * 6
    for kernel, deviation in zip(found[1:], deviations, strict=True):
        expected = torch.from_numpy(cv2.getGaussianKernel(13, deviation)[:, 0]).float()
        torch.testing.assert_close(kernel, expected, atol=1e-6, rtol=0)


def test_blur_is_opencvs_filter() -> None:
    """Each sample has a kernel of its own; beyond the picture its edge goes on."""
    images = faces(40, 32).repeat(1, 3, 1, 1)
    draws = drawn(replace(STILL, blur=0.06, damage_probability=0.6), 40, side=32)
    assert draws.blur is not None
    found = augment.damage(images, draws)
    middle = draws.blur.shape[1] // 2
    deviations = []
    for image, kernel, blurred in zip(images, draws.blur, found, strict=True):
        deviation = float((kernel * torch.arange(-middle, middle + 1) ** 2).sum().sqrt())
        across = cv2.sepFilter2D(
            np.moveaxis(image.numpy(), 0, 2), -1, kernel.numpy(), kernel.numpy(), borderType=cv2.BORDER_REPLICATE
        )
        torch.testing.assert_close(blurred, torch.from_numpy(np.moveaxis(across, 2, 0).copy()), atol=1e-5, rtol=0)
        deviations.append(deviation)
    untouched = [torch.equal(one, image) for one, image in zip(found, images, strict=True)]
    assert 8 < sum(untouched) < 24  # of 40, at a probability of 0.6
    assert 1.5 < max(deviations) <= 0.06 * 32 + 1e-3
    assert len({round(one, 4) for one in deviations}) > 15


def test_noise_has_the_drawn_strength_and_stays_in_range() -> None:
    recipe = replace(STILL, noise=0.2, damage_probability=0.5)
    draws, grey = drawn(recipe, 1000), torch.full((1000, 2, 24, 24), 0.5)
    seen = augment.damage(grey, draws)
    assert torch.equal(seen[:, 0], seen[:, 1])  # grey noise: faces are grey, whatever their channels
    deviation = seen[:, 0].flatten(1).std(1)
    noisy = deviation > 0
    assert 0.45 < noisy.float().mean() < 0.55
    assert 0.19 < deviation.max() < 0.215
    assert deviation[noisy].mean() == pytest.approx(0.1, abs=0.01)  # uniform in [0, 0.2]
    dark = augment.damage(torch.zeros(1000, 1, 24, 24), draws)
    assert dark.min() == 0


def test_noise_lies_over_the_blur() -> None:
    """As a sensor's does over what its lens drew."""
    draws = drawn(replace(STILL, blur=0.08, noise=0.05, damage_probability=1.0))
    assert draws.noise is not None
    images = 0.3 + 0.4 * faces()
    blurred = augment.damage(images, replace(draws, noise=None))
    torch.testing.assert_close(augment.damage(images, draws), (blurred + draws.noise).clamp(0, 1))
    assert (blurred - images).abs().max() > 0.05


def test_other_settings_draw_the_same_with_damage_and_without() -> None:
    plain, damaged = drawn(Recipe(mixup=0.2)), drawn(Recipe(mixup=0.2, blur=0.05, noise=0.1))
    assert plain.blur is plain.noise is None
    for name in ("inverse", "gain", "offset", "erase_xyxy", "fill", "partner", "share"):
        assert torch.equal(getattr(plain, name), getattr(damaged, name)), name
    images = faces()
    assert augment.damage(images, plain) is images


def test_slices_of_a_batch_are_damaged_as_the_whole_batch_is() -> None:
    images, draws = faces(), drawn(Recipe(blur=0.05, noise=0.1))
    part = torch.arange(16, 32)
    torch.testing.assert_close(
        augment.damage(images[part], draws.rows(part)), augment.damage(images, draws)[part], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("side", [36, 60])
def test_a_view_of_another_size_is_the_picture_resized(side: int) -> None:
    images = torch.linspace(0, 1, 48).expand(2, 1, 48, 48)
    seen = augment.view(images, drawn(STILL, 2), padding="border", size_hw=(side, side))
    expected = torch.nn.functional.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
