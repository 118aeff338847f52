"""Images of 16 bits whose values need 12 are reported; full ones are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.preflight.frame_checks import check_frames
from stadia.diagnostics.preflight.recording_survey import RecordingSurvey


@pytest.mark.parametrize(("factor", "codes"), [(16, ["D19"]), (257, [])])
def test_twelve_bits_in_sixteen(factor: int, codes: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 256, (48, 64)).astype(np.uint16) * factor)
    (recording,) = open_recordings(tmp_path, "video", camera={"horizontal_fov_deg": 80}, stride=1)
    findings = [finding for finding in check_frames(RecordingSurvey(recording)) if finding.code == "D19"]
    assert [finding.code for finding in findings] == codes
    assert all("multiply the values by 16" in finding.fix for finding in findings)


@pytest.mark.parametrize(("spread", "codes"), [(1000, ["D19"]), (9000, [])])
def test_values_of_a_thermal_camera_that_lie_close_together(spread: int, codes: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(51_000, 51_000 + spread, (48, 64)).astype(np.uint16))
    (recording,) = open_recordings(tmp_path, "video", camera={"horizontal_fov_deg": 80}, stride=1)
    findings = [finding for finding in check_frames(RecordingSurvey(recording)) if finding.code == "D19"]
    assert [finding.code for finding in findings] == codes
    assert all("stretch all images" in finding.fix and "4 levels" in finding.cause for finding in findings)
