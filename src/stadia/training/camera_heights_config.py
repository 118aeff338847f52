"""Configuration of the camera heights that a training learns. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel


class CameraHeightsConfig(StrictModel):
    """The learnt camera height above the road, one for each group of cameras mounted alike.

    known_m: known heights in metres, by group. They supervise from the first step on, and start the average.
    between_m: lowest and highest height that depth may give, by group, known without depth (`first_height`).
    first_epoch: the first height is estimated at the end of this epoch, from 0, and then at the end of each one.
    last_epoch: the last epoch with an estimate; -1: none, so that known_m stays. None: every epoch.
    test_from_epoch: outliers against the horizon are left out from this epoch on; a horizon has to be learnt first.
    test: the reference of the test. centered: the median over all objects of the group. absolute: the average height
        (eq. 2 of Scale Field, CVPR 2023), all objects before there is one. absolute is more robust where more than half
        of the objects are wrong, but a wrong height keeps only the objects that confirm it, which H17 reports.
    tolerance: an object is an outlier where the logarithm of its camera height differs by more from the reference.
    oddness_spread: null: an object has full weight within the tolerance and none beyond. Else its weight is
        exp(-d^2 / (2 spread^2)) at a difference d of the logarithm. Estimates of an epoch use the tolerance either way.
    fewest_frames, fewest_share: an epoch has no estimate with fewer frames than either of these, and never with fewer
        than 5.
    least_kept: nor where the share of inlier objects is not larger.
    most_spread: nor where the quartiles of the frames differ by this much, over their median.
    most_disagreement: nor where the height differs by this share from that by the horizon, which needs no depth.
    most_apart: nor where the median over frames of the log ratio of two heights, over a plane through the road and over
        the road pixels, is this large: a curved road has no height.
    most_change: a height that changes by a larger factor counts half.
    """

    known_m: dict[int, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    between_m: dict[int, tuple[float, float]] = Field(default_factory=dict)
    first_epoch: int = Field(default=1, ge=0)
    last_epoch: int | None = Field(default=None, ge=-1)
    test_from_epoch: int = Field(default=2, ge=0)
    test: Literal["centered", "absolute"] = "centered"
    tolerance: float = Field(default=0.2, gt=0)
    oddness_spread: float | None = Field(default=None, gt=0)
    fewest_frames: int = Field(default=200, ge=1)
    fewest_share: float = Field(default=0.02, ge=0, le=1)
    least_kept: float = Field(default=0.4, ge=0, lt=1)
    most_spread: float = Field(default=0.5, gt=0)
    most_disagreement: float = Field(default=0.15, gt=0)
    most_apart: float = Field(default=0.05, gt=0)
    most_change: float = Field(default=1.3, gt=1)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.known_m and self.last_epoch is not None and self.last_epoch < self.first_epoch:
            epochs = f"last_epoch={self.last_epoch} is before first_epoch={self.first_epoch}"
            raise ValueError(f"{epochs} and known_m is empty: there is never a height")
        return self
