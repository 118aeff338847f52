"""Configuration of the camera heights that a training learns. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel


class CameraHeightsConfig(StrictModel):
    """The camera's height above the road, one of each group of cameras mounted alike, from all objects of an epoch
    together.

    known_m: heights in metres, by group, that are known before: they teach from the first step on, and are the first of
        the average.
    between_m: lowest and highest, by group, that depth may say: what is known without it leaves no more open
        (`first_height`).
    first_epoch: at the end of this epoch, from 0, the first height is taken; and at the end of each later one.
    last_epoch: the last at whose end a height is taken; -1: none, so that known_m stays. None: every epoch.
    test_from_epoch: objects that are odd against the horizon are left out from this epoch on; a horizon has to be
        learnt first.
    test: what it is odd against. centered: the median of what all objects of the group say. absolute: the height that is
        known (eq. 2 of
        Scale Field, CVPR 2023), none being left out before one is: surer where more than half of the objects are wrong,
            and a wrong height
        believes those alone that agree with it and stays, which is told (H17).
    tolerance: an object is odd where the camera height that it stands for is by this much, in its logarithm, off that.
    oddness_spread: null: an object teaches in full up to the tolerance and not at all beyond. Else by exp(-odd^2 / (2
        spread^2)), odd being
        that logarithm: the odder the less. What an epoch says of a height goes by the tolerance either way.
    fewest_frames, fewest_share: an epoch says nothing of a group in fewer frames than either of these, and never in
        fewer than 5.
    least_kept: nor where not more than this share of the objects is left.
    most_spread: nor where the frames' quartiles are this far apart, over their median.
    most_disagreement: nor where the height is by this share off what the horizon says without any depth.
    most_apart: nor where a plane through the road and the road's pixels say heights of a frame's camera that are by
        this much apart, in
        the logarithm and the median: a road that still bends has no height.
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
    def _learns_or_knows(self) -> Self:
        if not self.known_m and self.last_epoch is not None and self.last_epoch < self.first_epoch:
            raise ValueError(
                f"last_epoch={self.last_epoch} is before first_epoch={self.first_epoch} and known_m is empty: no height"
                " ever"
            )
        return self
