"""Average predicted maps with those of the mirrored image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from stadia.core.types import Camera, PredictedMaps
from stadia.geometry.camera import mirror


def average_mirrored(
    predict: Callable[[Tensor, Camera], PredictedMaps], image: Tensor, camera: Camera
) -> PredictedMaps:
    """Return the mean of the maps of images and of the mirrored maps of the mirrored images.

    The result of a mirrored image is the mirrored result. The right view's inverse depth stays as it is: in a mirrored
    image the other camera of the rig is on the other side.

    Args:
        predict: of images (B, 3, H, W) and their camera, maps (B, 1, H, W).
        image: (B, 3, H, W) RGB in [0, 1].
        camera: of these images.

    Source: post-processing of Godard et al., "Unsupervised Monocular Depth Estimation with Left-Right Consistency",
    CVPR 2017, section 3.3, without its weights at the edges, which are for occlusions of stereo.
    """
    maps, mirrored = predict(image, camera), predict(*mirror(image, camera))
    inverse_depth = (maps.inverse_depth + mirrored.inverse_depth.flip(-1)) / 2
    if maps.log_uncertainty is None or mirrored.log_uncertainty is None:
        return replace(maps, inverse_depth=inverse_depth)
    log_uncertainty = (maps.log_uncertainty + mirrored.log_uncertainty.flip(-1)) / 2
    return replace(maps, inverse_depth=inverse_depth, log_uncertainty=log_uncertainty)
