"""Configuration of the recipe `selfsup`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from stadia.training.recipes.base.config import RunName, SelfSupervisedConfig


class SelfsupConfig(SelfSupervisedConfig):
    """Depth and camera motion from unlabeled video, mono or stereo (Monodepth2, arXiv 1806.01260).

    Data: KITTI's rectified pairs, or your own video. Stereo video gives metres by its baseline; mono video gives depth
        and motion up to one scale. With uncertainty and brightness it is D3VO: docs/how-to/d3vo.md.
    Command: `stadia train selfsup --data PATH`. Results: docs/results/index.md.

    recipe: name of this recipe.
    motion: source of the motion between frames: the pose "network", or the "map" of each video (`stadia map`), whose
        points also supervise depth. "auto" takes the map if every dataset is a video with one, and no loss gives
        metres.
    """

    recipe: Literal["selfsup"] = "selfsup"
    name: RunName = "selfsup"
    motion: Literal["auto", "network", "map"] = "auto"
