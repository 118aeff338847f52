"""Configuration of the dense prediction transformer. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, row_of
from stadia.models import NETWORKS
from stadia.models.attention_config import AttentionConfig

KITTI, NYU = (0.00006016, 0.00579), (0.000305, 0.1378)
"""Scale and shift of DPT-Hybrid's output in 1/m (isl-org/DPT); depth is at most 172.7 m and 7.257 m."""


class DptConfig(StrictModel):
    """A dense prediction transformer (DPT, arXiv 2103.13413) and its initial weights.

    network: name (`stadia parts networks`). `dpt-tiny` and `dpt-small` train on two cores and have no published
        weights.
    pretrained: load the file `weights`, or else the published weights from the hub; missing weights are an error.
        false starts at random.
    weights: local file: a .pt of isl-org/DPT, a .safetensors of transformers, or the folder that holds one.
    allow_initialized: parameters (* and ? are wildcards) that may stay random if the file lacks them; others stop the
        run.
    allow_left_over: names in the file that the network may leave unused; others stop the run.
    scale, shift: inverse depth in 1/m is scale * output + shift; set both or neither. null: a random network starts at
        10 m; published weights, which have no scale, use 1 and 0 until they are fitted. DPT-Hybrid's values are
        0.00006016 and 0.00579 for KITTI, 0.000305 and 0.1378 for NYU. 1 / shift is the largest possible depth in m.
    """

    network: Annotated[str, AfterValidator(row_of(NETWORKS))] = "dpt-hybrid"
    pretrained: bool = True
    weights: str | None = None
    allow_initialized: tuple[str, ...] = ()
    allow_left_over: tuple[str, ...] = ()
    attention: AttentionConfig = AttentionConfig()
    scale: float | None = Field(default=None, gt=0)
    shift: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.scale is None) != (self.shift is None):
            raise ValueError("scale and shift belong together: give both, or neither and they are fitted")
        return self
