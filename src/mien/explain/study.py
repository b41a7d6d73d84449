"""One face, one model: the maps of several methods and labels, with their checks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.explain.checks import faithfulness, randomisation
from mien.explain.explainer import ExplainablePredictor, explain, unavailable
from mien.explain.heatmap import Heatmap
from mien.explain.page import Finding

Cascade = Callable[[], Iterator[tuple[str, ExplainablePredictor]]]
"""Gives the model with more and more of its layers shuffled, as `mien.explain.randomise` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to find out."""

    methods: tuple[str, ...] = ("occlusion",)
    patch_px: int | None = None  # of occlusion; in the crop's proportion where None
    stride_px: int | None = None
    check: bool = False  # deletion and insertion, and the model randomised where a cascade is given
    seed: int = 0  # of the random maps


def study_face(
    predictor: ExplainablePredictor,
    crop: NDArray[np.uint8],
    labels: tuple[str, ...],
    request: Request,
    *,
    cascade: Cascade | None = None,
) -> tuple[tuple[Finding, ...], dict[str, str]]:
    """Findings for every method and label in turn, and why the methods that are missing cannot explain this model.

    Raises:
        ConfigError: there is no such method.
        ValueError: a label is unknown, or patch and stride do not fit the crop.
        MissingExtraError: a method needs the train extra.
    """
    missing = {method: reason for method in request.methods if (reason := unavailable(predictor, method))}
    possible = tuple(method for method in request.methods if method not in missing)

    def maps_of(model: ExplainablePredictor) -> list[Heatmap]:
        sizes = {"patch_px": request.patch_px, "stride_px": request.stride_px}
        return [heatmap for method in possible for heatmap in explain(model, crop, labels, method=method, **sizes)]

    maps = maps_of(predictor)
    if not request.check or not maps:
        return tuple(Finding(heatmap) for heatmap in maps), missing
    stages = [(layer, maps_of(model)) for layer, model in cascade()] if cascade is not None else []
    findings = []
    for i, heatmap in enumerate(maps):
        faithful = faithfulness(predictor.predict, crop, heatmap, labels=predictor.spec.labels, seed=request.seed)
        shuffled = [(layer, others[i]) for layer, others in stages]
        findings.append(Finding(heatmap, faithful, randomisation(heatmap, shuffled) if shuffled else None))
    return tuple(findings), missing
