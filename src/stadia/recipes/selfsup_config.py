"""Configuration of the recipe `selfsup`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from stadia.recipes.self_supervised_config import SelfSupervisedConfig


class SelfsupConfig(SelfSupervisedConfig):
    """Depth and camera motion from unlabeled video, mono or stereo; at the level of Monodepth2 (arXiv 1806.01260).

    Data: KITTI's rectified pairs, or your own video. With stereo the baseline is in metres, and so is all that comes
        out;
    from mono video everything is up to one unknown scale, and says so. With more said by the networks it is D3VO:
    docs/d3vo.md.
    Command: `stadia train selfsup --data PATH`.
    Time and scores that were measured: docs/results.md.

    recipe: whose configuration this is.
    """

    recipe: Literal["selfsup"] = "selfsup"
    name: str = "selfsup"
