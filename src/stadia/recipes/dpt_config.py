"""Configuration of the recipe `dpt`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stadia.data.config import DataConfig
from stadia.losses.sparse_depth_config import SparseDepthConfig
from stadia.models.dpt_config import DptConfig
from stadia.recipes.config import RecipeConfig


class LabelledDataConfig(DataConfig):
    """Single pictures with ground truth: no neighbours in time, no stereo partner."""

    offsets: tuple[int, ...] = ()
    stereo: bool | Literal["auto"] = False
    ground_truth_depth: bool = True


class DptRecipeConfig(RecipeConfig):
    """Depth by a dense prediction transformer (DPT, arXiv 2103.13413) from ground truth, sparse or dense.

    Data: pictures with depth in metres: KITTI raw with LiDAR, RoadWorld, 7-Scenes, or your own in the stadia layout.
    Depth comes out in metres; with affine-invariant losses alone, up to scale and shift.
    Command: `stadia train dpt --data PATH`.
    Time and scores that were measured: docs/results.md.

    recipe: whose configuration this is.
    backbone_lr_factor: the transformer's learning rate over that of the decoder and head, which have `optimiser.lr`; null = 0.1 where it
        starts from weights (MiDaS, arXiv 1907.01341: 1e-5 and 1e-4), 1 where it starts at random.
    """

    recipe: Literal["dpt"] = "dpt"
    name: str = "dpt"
    data: LabelledDataConfig
    model: DptConfig = DptConfig()
    loss: SparseDepthConfig = SparseDepthConfig()
    backbone_lr_factor: float | None = Field(default=None, gt=0)
