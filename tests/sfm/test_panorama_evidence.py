"""The verdict on a panoramic map, from the counts of held-out matches across each place of its path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stadia.core.verdict import Verdict
from stadia.sfm.panorama_map import PanoramaEvidence


def make_evidence(
    shares: Sequence[float], *, count: int = 100, placed: float = 1.0, angle_deg: float = 9.0
) -> PanoramaEvidence:
    fits = count * np.array(shares)
    return PanoramaEvidence(placed, angle_deg, [str(row) for row in range(len(shares) + 1)], fits, count - fits)


@pytest.mark.parametrize(
    ("evidence", "grade", "word"),
    [
        (make_evidence((0.9, 0.95, 0.85)), Verdict.USABLE, ""),
        (make_evidence((0.9, 0.95), count=9), Verdict.NOT_JUDGED, "too few matches"),
        (make_evidence((0.9, 0.95), count=9, angle_deg=0.5), Verdict.DOUBTFUL, "hardly moved"),
        (make_evidence((0.3, 0.4, 0.9)), Verdict.UNUSABLE, "60%"),
        (make_evidence((0.9, 0.9, 0.1)), Verdict.UNUSABLE, "between the frames 2 and 3"),
        (make_evidence((0.7, 0.7, 0.7)), Verdict.DOUBTFUL, "30%"),
        (make_evidence((0.9, 0.9, 0.9), placed=0.5), Verdict.DOUBTFUL, "50%"),
        (make_evidence((0.9, 0.9, 0.9), angle_deg=0.5), Verdict.DOUBTFUL, "hardly moved"),
    ],
)
def test_the_grade_names_its_reason(evidence: PanoramaEvidence, grade: Verdict, word: str) -> None:
    found = evidence.judge()
    assert found.verdict is grade
    assert word in found.reason


def test_a_place_that_no_match_crosses_leaves_its_scale_open() -> None:
    fits, misses = np.array([90.0, 0, 90]), np.array([10.0, 0, 10])
    found = PanoramaEvidence(1.0, 9.0, list("abcd"), fits, misses).judge()
    assert found.verdict is Verdict.DOUBTFUL
    assert "the frames b and c" in found.reason
