"""Source and scale of the depth of composite images. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError
from stadia.core.types import Claim

EXACT = "exact"

MAP_KEY: Mapping[Claim, str] = {Claim.METRES: "depth_m", Claim.UP_TO_SCALE: "depth"}
"""What a map of depth is called in its .npz: a name with a unit only where there is one. Affine inverse depth is none:
nothing can be placed at it, since its distance is unknown even up to scale.
"""


@dataclass(frozen=True, slots=True)
class Label:
    """Source and scale of the depth of a set of images.

    source: "exact" (a renderer, a depth camera), or "teacher: NAME" (a network's opinion, pasted things and all it got
        wrong).
    """

    source: str = EXACT
    claim: Claim = Claim.METRES

    def to_dict(self) -> dict[str, str]:
        """Return the label as it is stored in files."""
        return {"source": self.source, "claim": self.claim.value}

    @classmethod
    def from_dict(cls, values: Any, path: Path) -> Label:
        """Read a label that `to_dict` made. Raises DataError with the file."""
        try:
            return cls(str(values["source"]), Claim(values["claim"]))
        except (KeyError, TypeError, ValueError) as error:
            expected = "a label with its source and its claim"
            raise DataError(
                path, found=f"{type(error).__name__}: {error}", expected=expected, fix="write the set again"
            ) from error
