"""Ground truth counted from another first frame: the rig's depth fits a neighbor's map better than its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from stadia.diagnostics.preflight import ground_truth_checks, scale_consistency


@dataclass
class Named:
    name: str = "drive"


def reported(spreads: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What is measured where the spread at each shift is this."""
    fits = {
        shift: scale_consistency.DepthProportionality(np.zeros(100), 0.97, spread, 0.0)
        for shift, spread in spreads.items()
    }
    monkeypatch.setattr(ground_truth_checks, "compare_depth_with_rig", lambda survey, shift=0: fits.get(shift))
    found = ground_truth_checks._compare_adjacent_frames(Named())  # type: ignore[arg-type]
    return found.measured if found is not None else None


def test_a_neighbor_that_fits_better_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1 frame(s) earlier" in (reported({0: 0.033, -1: 0.024, 1: 0.041}, monkeypatch) or "")
    assert "2 frame(s) later" in (reported({0: 0.06, 1: 0.04, 2: 0.024}, monkeypatch) or "")


def test_its_own_that_fits_as_well_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reported({0: 0.024, -1: 0.033, 1: 0.033}, monkeypatch) is None
    assert reported({0: 0.024, -1: 0.023}, monkeypatch) is None  # a camera that hardly moves
    assert reported({0: 0.024}, monkeypatch) is None
