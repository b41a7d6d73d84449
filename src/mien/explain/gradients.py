"""Explanations from gradients, for networks in torch: saliency, SmoothGrad, Grad-CAM, integrated gradients.

Needs the train extra; torch and Captum load when a function is called. All of them explain the class score
(the logit before temperature and softmax), so that the other classes' scores do not show in the map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.bundle import ModelSpec, encode_weights
from mien.errors import ModelError, require
from mien.explain.cam import require_weights
from mien.explain.heatmap import Heatmap, check_crop, from_raw, label_index
from mien.preprocess import network_input

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK = 64  # crops, or steps of integration, a forward pass
INTEGRATION_BASELINE = 128  # integrated gradients start from a crop of middle grey, occlusion's patch


class TorchPredictor:
    """A network in torch that predicts as an exported `.onnx` does, and keeps its gradients within reach."""

    def __init__(self, network: "nn.Module", spec: ModelSpec) -> None:
        """Wrap a network as `mien.training.run.load_model` gives it; it is put into eval mode."""
        self.network: Any = network  # of any class: the registry's networks share a form, no base
        network.eval()
        if getattr(network, "global_pooling", False):  # from the network itself: it may have changed since its export
            classifier: Any = self.network.classifier
            spec = replace(spec, cam_weights=encode_weights(classifier.weight.detach().cpu().numpy()))
        self.spec = spec

    def predict(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(N, H, W)` grey or `(N, H, W, 3)` RGB uint8 crops to calibrated probabilities `(N, K)`."""
        return self._run(crops, self.network)[0]

    def predict_with_features(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities `(N, K)` and the last map before global pooling `(N, C, h, w)`.

        Raises:
            ModelError: the network has no global pooling.
        """
        require_weights(self.spec)
        probabilities, features = self._run(crops, self.network.forward_features)
        return probabilities, features

    def gradient_map(self, crop: NDArray[np.uint8], label: str, *, method: str) -> Heatmap:
        """The map of `method`, a key of `GRADIENT_METHODS`, at its defaults; errors as that method's."""
        return GRADIENT_METHODS[method](self, crop, label)

    def _run(
        self, crops: NDArray[np.uint8], forward: Callable[..., Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and what `forward` gives, which is the logits or the features under them."""
        torch = require("torch", "train")
        images = torch.from_numpy(network_input(crops, self.spec.input))
        outputs, logits = [], []
        with torch.inference_mode():
            for part in images.split(CHUNK):
                output = forward(part)
                outputs.append(output)
                logits.append(output if output.ndim == 2 else self.network.classifier(output.mean((2, 3))))
        probabilities = torch.softmax(torch.cat(logits).float() / self.spec.temperature, dim=1)
        return probabilities.numpy(), torch.cat(outputs).float().numpy()


def saliency_map(predictor: TorchPredictor, crop: NDArray[np.uint8], label: str) -> Heatmap:
    """Magnitude of the class score's gradient (Simonyan et al. 2013), the largest over the channels: `(H, W)`.

    Raises:
        ValueError: the label is unknown.
        MissingExtraError: torch or Captum is not installed.
    """
    attr = require("captum.attr", "train")

    def attribute(images: "Tensor", target: int) -> "Tensor":
        gradient: Tensor = attr.Saliency(predictor.network).attribute(images, target=target, abs=True)
        return gradient.amax(1)

    return _heatmap(predictor, crop, label, "saliency", attribute)


def smoothgrad_map(
    predictor: TorchPredictor,
    crop: NDArray[np.uint8],
    label: str,
    *,
    samples: int = 32,
    noise_ratio: float = 0.15,
    seed: int = 0,
) -> Heatmap:
    """Saliency averaged over noisy copies of the crop (Smilkov et al. 2017): `(H, W)`.

    `noise_ratio` is the noise's standard deviation as a share of the crop's range. torch's own random state is left
    as it was.

    Raises:
        ValueError: the label is unknown.
        MissingExtraError: torch or Captum is not installed.
    """
    torch, attr = require("torch", "train"), require("captum.attr", "train")

    def attribute(images: "Tensor", target: int) -> "Tensor":
        spread = float(images.detach().amax() - images.detach().amin()) * noise_ratio
        tunnel = attr.NoiseTunnel(attr.Saliency(predictor.network))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            mean: Tensor = tunnel.attribute(
                images,
                target=target,
                nt_type="smoothgrad",
                nt_samples=samples,
                nt_samples_batch_size=min(samples, CHUNK),
                stdevs=spread,
                abs=False,
            )
        return mean.abs().amax(1)

    return _heatmap(predictor, crop, label, "smoothgrad", attribute)


def gradcam_map(predictor: TorchPredictor, crop: NDArray[np.uint8], label: str) -> Heatmap:
    """Last spatial feature map, weighted by its mean gradient, positive part (Selvaraju et al. 2017): `(H, W)`.

    Works without global pooling; with it, it is the positive part of the class activation map.

    Raises:
        ModelError: the network has no spatial feature map.
        ValueError: the label is unknown.
        MissingExtraError: torch or Captum is not installed.
    """
    attr = require("captum.attr", "train")

    def attribute(images: "Tensor", target: int) -> "Tensor":
        layer = last_spatial_layer(predictor.network, images)
        cam: Tensor = attr.LayerGradCam(predictor.network, layer).attribute(images, target=target)
        return cam[:, 0].clamp(min=0)

    return _heatmap(predictor, crop, label, "gradcam", attribute)


def integrated_gradients_map(
    predictor: TorchPredictor, crop: NDArray[np.uint8], label: str, *, steps: int = 48
) -> Heatmap:
    """Gradients integrated from a grey crop to this one (Sundararajan et al. 2017), summed over channels: `(H, W)`.

    Completeness: the values times `scale` sum to the score of the crop minus the score of the grey crop
    (at the network's own input size; a crop of another size gets the map resized).

    Raises:
        ValueError: the label is unknown.
        MissingExtraError: torch or Captum is not installed.
    """
    torch, attr = require("torch", "train"), require("captum.attr", "train")
    grey = torch.from_numpy(network_input(np.full_like(crop, INTEGRATION_BASELINE)[None], predictor.spec.input))

    def attribute(images: "Tensor", target: int) -> "Tensor":
        shares: Tensor = attr.IntegratedGradients(predictor.network).attribute(
            images, grey, target=target, n_steps=steps, internal_batch_size=CHUNK
        )
        return shares.sum(1)

    return _heatmap(predictor, crop, label, "integrated-gradients", attribute)


GRADIENT_METHODS: dict[str, Callable[[TorchPredictor, NDArray[np.uint8], str], Heatmap]] = {
    "saliency": saliency_map,
    "smoothgrad": smoothgrad_map,
    "gradcam": gradcam_map,
    "integrated-gradients": integrated_gradients_map,
}
"""By the names of `mien.explain.METHODS`."""


def last_spatial_layer(network: "nn.Module", images: "Tensor") -> "nn.Module":
    """The module that gives the network's last map `(N, C, h, w)` with more than one position.

    Found by running it: containers end after their parts, so a stage counts with its skip connection.

    Raises:
        ModelError: there is none, as in a network of dense layers only.
    """
    torch = require("torch", "train")
    seen: list[nn.Module] = []

    def remember(module: "nn.Module", _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            seen.append(module)

    inner = [module for module in network.modules() if module is not network]
    handles = [module.register_forward_hook(remember) for module in inner]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ModelError("the network has no spatial feature map, so Grad-CAM is not available: use occlusion")
    return seen[-1]


@contextmanager
def _frozen(network: "nn.Module") -> Iterator[None]:
    """Gradients of the input only: the weights' are not computed, and none are left behind."""
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


def _heatmap(
    predictor: TorchPredictor,
    crop: NDArray[np.uint8],
    label: str,
    method: str,
    attribute: Callable[["Tensor", int], "Tensor"],
) -> Heatmap:
    """Run `attribute`, images `(1, C, h, w)` and class to a map `(1, h', w')`, and bring it to the crop's size."""
    torch = require("torch", "train")
    crop_hw = check_crop(crop)
    target = label_index(label, predictor.spec.labels)
    images = torch.from_numpy(network_input(crop[None], predictor.spec.input)).requires_grad_(True)
    with _frozen(predictor.network):
        raw = attribute(images, target).detach().float().numpy()[0]
    probability = float(predictor.predict(crop[None])[0, target])
    return from_raw(raw, crop_hw=crop_hw, label=label, method=method, probability=probability)
