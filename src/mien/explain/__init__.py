"""Explanations of one prediction. What is imported here needs NumPy and OpenCV only; gradients need the train extra."""

from mien.explain.cam import cam_map, cam_maps
from mien.explain.heatmap import METHODS, Heatmap
from mien.explain.occlusion import occlusion_map, occlusion_maps

__all__ = ["METHODS", "Heatmap", "cam_map", "cam_maps", "occlusion_map", "occlusion_maps"]
