"""Invalid values of a recording are reported once, with their frame; none of them breaks a check."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.mutations.mutated_recording import Image, Matrix, Mutated

from stadia.core.types import Camera, Recording
from stadia.data.frame_selection import FrameSelection
from stadia.data.open_dataset import open_recordings
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings import CHECKS
from stadia.judge.recordings.frame_checks import _draw_two_images, check_frames
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.judge.recordings.recording_survey import RecordingSurvey


def only(recording: Recording) -> Finding:
    """The one finding that is no note; all other checks wait for it."""
    found = run_preflight([recording])
    (stop,) = [finding for finding in found if finding.severity is not Severity.NOTE]
    assert stop.severity is Severity.STOP
    assert sum(f"{stop.code} must be fixed first" in finding.measured for finding in found) == len(list(CHECKS))
    assert not any("the check itself failed" in finding.measured for finding in found)
    return stop


BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "depth with a channel": (
        {"depth": lambda d: d[..., None]},
        "depth_m of frame 0, left: float32 of shape (96, 320, 1)",
        "(H, W)",
    ),
    "poses as lists": ({"pose": lambda T: T.tolist()}, "T_world_camera of frame 0, left: list", "(4, 4)"),
    "times that are none": ({"time": lambda i: float("nan")}, "timestamp_s of frame 0, left: nan", "finite"),
    "a batch of K": (
        {"camera": lambda c: Camera(c.K[None], c.height, c.width)},
        "camera of frame 0, left: K of shape (1, 3, 3)",
        "K of shape (3, 3)",
    ),
}


@pytest.mark.parametrize(("changes", "measured", "expected"), BROKEN.values(), ids=BROKEN)
def test_value_of_another_shape_is_reported_with_its_frame(
    changes: dict[str, Any], measured: str, expected: str, recording: Recording
) -> None:
    found = only(Mutated(recording, **changes))
    assert (found.code, found.measured) == ("D01", measured)
    assert expected in found.expected


def test_exception_is_reported_with_its_frame(recording: Recording) -> None:
    def raising(T: Matrix) -> Matrix:
        raise KeyError(3)

    found = only(Mutated(recording, pose=raising))
    assert (found.code, found.measured) == ("D01", "T_world_camera of frame 0, left: it raised KeyError: 3")


def half(image: Image) -> Image:
    return image[::2, ::2].copy()


class OneSide(Mutated):
    def image(self, index: int, side: str = "left") -> Image:
        return half(super().image(index, side)) if side == "right" else super().image(index, side)


@pytest.mark.parametrize(
    ("broken", "image", "words"),
    [
        (lambda r: Mutated(r, image=half), "frame 0, left, is 160x48", "by 0.5000"),
        (OneSide, "frame 0, right, is 160x48", "by 0.5000"),
        (lambda r: Mutated(r, image=lambda x: x[32:, :240].copy()), "frame 0, left, is 240x64", "crop_camera"),
    ],
    ids=["all", "one side", "cropped"],
)
def test_image_of_another_size_than_its_camera_is_reported_with_both(
    broken: Any, image: str, words: str, recording: Recording
) -> None:
    found = only(broken(recording))
    assert found.code == "K04"
    assert found.measured == f"the image of {image}, and its camera is for 320x96"
    assert words in found.fix


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


@pytest.mark.parametrize(("standing", "expected"), [(40, []), (60, ["60 of 100 frames of the video show no motion"])])
def test_frames_of_a_standing_camera_that_are_left_out_are_counted(
    standing: int, expected: list[str], recording: Recording
) -> None:
    kept = Mutated(recording)
    kept.selection = FrameSelection(kept=[*range(100 - standing)], standing=standing)  # type: ignore[attr-defined]
    survey = RecordingSurvey(kept)
    findings = [finding for finding in check_frames(survey) if finding.code == "D03"]
    assert not any(_draw_two_images(finding, survey) for finding in findings)
    found = [finding.measured for finding in findings]
    assert [text.partition(" and are")[0] for text in found] == expected


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ([*range(0, 100, 2)], [("D02", "one of 2 is new")]),
        ([*range(50)], [("D03", "the camera stands")]),
        (np.cumsum([1, 3] * 12 + [2] * 25).tolist(), [("D02", "one of 2 is new")]),
        (np.cumsum([2] * 48 + [4, 9]).tolist(), [("D02", "one of 2 is new")]),
        (np.cumsum([1, 3] * 24 + [2, 9]).tolist(), [("D03", "the camera stands")]),
    ],
)
def test_a_video_at_twice_its_frame_rate_does_not_stand(
    kept: list[int], found: list[tuple[str, str]], recording: Recording
) -> None:
    changed = Mutated(recording)
    changed.selection = FrameSelection(kept=kept, standing=50, copies=48)  # type: ignore[attr-defined]
    findings = [one for one in check_frames(RecordingSurvey(changed)) if one.code in ("D02", "D03")]
    assert [one.code for one in findings] == [code for code, _ in found]
    assert all(words in one.measured for one, (_, words) in zip(findings, found, strict=True))
