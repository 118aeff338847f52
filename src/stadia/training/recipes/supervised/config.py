"""Configuration of the recipe `supervised`. Imports no torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from stadia.core.errors import ConfigError
from stadia.data.config import VALIDATION_KEYS, DataConfig, Pixels
from stadia.losses.config import SparseDepthConfig
from stadia.networks.config import DepthModelConfig, check_size_multiple
from stadia.training.recipes.base.config import RecipeConfig, RunName, TeacherConfig, data_keys


class LabeledDataConfig(DataConfig):
    """Single images with ground truth: no neighbors in time, no stereo.

    height, width: network size, a multiple of 32 for most networks.
    """

    height: Pixels = 192
    width: Pixels = 640
    offsets: tuple[int, ...] = ()
    stereo: bool | Literal["auto"] = False
    ground_truth_depth: bool = True


class SupervisedModelConfig(DepthModelConfig):
    """A depth network, and its start.

    network: the depth network (`stadia list networks`) with its own keys; keys without a name are for `dpt`.
    """

    part_of_keys: ClassVar[Mapping[str, str]] = {"network": "dpt"}


class SupervisedConfig(RecipeConfig):
    """Depth by any network from sparse or dense ground truth; by default from `base`, the package's own.

    Data: images with depth in metres: KITTI raw with LiDAR, RoadWorld, 7-Scenes, or your own in the stadia layout.
    Depth is in metres; with affine-invariant losses alone, up to scale and shift.
    Command: `stadia train supervised --data PATH`. Results: docs/results/depth.md.

    recipe: name of this recipe.
    backbone_lr_factor: learning rate of the network's backbone over `optimizer.lr`; null: 0.1 with published weights
        (MiDaS, arXiv 1907.01341), else 1.
    balance: weights of several datasets: "none", or "min_norm": each loss is weighted so that the combination of their
        gradients at the network's last layers is shortest (MGDA; MiDaS, arXiv 1907.01341).
    balance_every: batches of a dataset between two measurements of its gradient.
    teacher: network whose depth is a label in addition to the ground truth; `teacher=NETWORK` for short.
    """

    evaluation_keys: ClassVar[tuple[str, ...]] = data_keys(*VALIDATION_KEYS)
    validation: ClassVar[tuple[str, ...]] = ("abs_rel", "rmse", "d1")

    recipe: Literal["supervised"] = "supervised"
    name: RunName = "supervised"
    data: LabeledDataConfig
    model: SupervisedModelConfig = SupervisedModelConfig()
    loss: SparseDepthConfig = SparseDepthConfig()
    teacher: TeacherConfig = TeacherConfig()
    backbone_lr_factor: float | None = Field(default=None, gt=0)
    balance: Literal["none", "min_norm"] = "none"
    balance_every: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        if self.balance != "none" and not self.data.extra_datasets:
            raise ValueError("balance needs several datasets (data.extra_datasets): leave it out")
        return self

    @model_validator(mode="after")
    def _size_suits_the_network(self) -> Self:
        network = self.model.network
        try:
            check_size_multiple(network.name, network.size_multiple, height=self.data.height, width=self.data.width)
        except ConfigError as error:
            what = f"found {error.found}; expected {error.expected}. Fix: {error.fix}"
            raise ValueError(f"data.height and data.width: {what}") from error
        return self
