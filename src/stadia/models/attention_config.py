"""Configuration of attention, and its cost in multiplications. Imports no torch."""

import math
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel, check_registered
from stadia.models import ATTENTIONS


class AttentionConfig(StrictModel):
    """The attention of a transformer. Each kind uses its own fields.

    name: `sdpa` is exact; `explicit` is the same with the matrix written out. Others are approximations.
    factor: for memory_compressed: tokens of the grid that share one key and value. They form a window that is as square
        as possible, and wider than high: 2 is 1x2, 3 is 1x3, 4 is 2x2. 1 is exact.
    features: for performer: random features per head; null means int(d ln d) for a head of size d: 266 for 64.
    redraw_every: for performer: training passes between two draws of its features; null never redraws.
    merge: for token_merging: share of the grid's tokens to merge into others, at most one half. 0 is exact.
    """

    name: Annotated[str, AfterValidator(check_registered(ATTENTIONS))] = "sdpa"
    factor: int = Field(default=2, ge=1, le=16)
    features: int | None = Field(default=None, ge=1)
    redraw_every: int | None = Field(default=1000, ge=1)
    merge: float = Field(default=0.25, ge=0, le=0.5)

    @property
    def window(self) -> tuple[int, int]:
        """Return (rows, columns) of memory_compressed's windows."""
        rows = max(side for side in range(1, math.isqrt(self.factor) + 1) if self.factor % side == 0)
        return rows, self.factor // rows

    def features_for(self, head_dim: int) -> int:
        """Return performer's number of random features."""
        return self.features or max(1, int(head_dim * math.log(head_dim)))

    def removed(self, places: int) -> int:
        """Return the number of a grid's tokens that token_merging merges, in integers that an export can trace."""
        share = Fraction(str(self.merge))
        return places * share.numerator // share.denominator
