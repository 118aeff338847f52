"""K06: a wrong focal length is found by camera rotation, and images too small to measure rotation are not reported."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from tests.mutations.mutated_recording import Alone, Image, Mutated
from tests.mutations.recordings import MUTATIONS

from stadia.core.types import Camera, Recording
from stadia.data.open_dataset import open_recordings, sample_recordings
from stadia.data.recordings import FrameRange
from stadia.judge.catalog import NotChecked
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.intrinsics_checks import (
    EpipolarComparison,
    _check_kitti_focal_length,
    _check_rotations,
    check_intrinsics,
    check_intrinsics_size,
    compare_epipolar_lines,
)
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.judge.recordings.recording_survey import RecordingSurvey

Pairs = list[
    tuple[tuple[float, float], tuple[float, float]]
]  # pitch and yaw in degrees, told by the poses and seen through K

RIGHT: dict[str, Pairs] = {
    "train-013": [((0.63, -0.75), (0.19, -0.24)), ((-0.51, -1.03), (-0.48, -0.71)), ((-0.49, 0.26), (-0.49, 0.17))],
    "train-031": [((0.31, -1.28), (0.69, -0.5)), ((0.08, -0.98), (0.32, -0.53)), ((0.23, -1.93), (0.1, -1.58))],
}
"""Of images of 224 x 64 with a right K: the same factor, 1.5 on the whole, and none that the steps agree on."""


def requested(pairs: Pairs) -> list[Finding]:
    def R(turn: tuple[float, float]) -> np.ndarray:
        return cv2.Rodrigues(np.radians([*turn, 0.0]))[0]

    def T(turn: tuple[float, float]) -> np.ndarray:
        moved = np.eye(4)
        moved[:3, :3] = R(turn)
        return moved

    steps = [
        SimpleNamespace(measured=SimpleNamespace(R=R(seen)), T_second_first=T(reported)) for reported, seen in pairs
    ]
    recording = SimpleNamespace(filmed_camera=lambda _: SimpleNamespace(K=torch.eye(3)))
    return list(_check_rotations(SimpleNamespace(steps=steps, anchors=(0,), recording=recording)))  # type: ignore[arg-type]


@pytest.mark.parametrize("pairs", RIGHT.values(), ids=RIGHT)
def test_turns_that_small_images_see_badly_are_no_focal_length(pairs: Pairs) -> None:
    assert requested(pairs) == []


def test_a_factor_that_is_sure_to_be_large_stops() -> None:
    (finding,) = requested([((0.0, 1.0), (0.0, 0.5)), ((1.0, 0.0), (0.5, 0.0))])
    assert finding.severity is Severity.STOP


def test_a_factor_of_no_lens_blames_no_focal_length() -> None:
    """On a straight drive, rotations by matches may be a twelfth of the poses'."""
    with pytest.raises(NotChecked):
        requested([((0.0, 1.2), (0.0, 0.1)), ((1.2, 0.0), (0.1, 0.0))])


@pytest.mark.parametrize(("fx", "words"), [(353.6, "about 0.50"), (971.0, "unrectified images")])
def test_another_focal_length_than_that_of_kitti_has_its_own_cause(fx: float, words: str) -> None:
    K = np.array([[fx, 0, 601.9], [0, fx, 183.1], [0, 0, 1]])
    found = _check_kitti_focal_length(K, SimpleNamespace(width=1226, height=370))  # type: ignore[arg-type]
    assert found is not None
    assert words in found.cause
    assert "another image size" not in found.title, "the size is right, the focal length is not"


@pytest.fixture(scope="module")
def kitti_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three gray frames of a size of KITTI's images."""
    path = tmp_path_factory.mktemp("kitti") / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1226, 370, "yuv420p"
        for value in (100, 120, 140):
            image = np.full((370, 1226, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("camera", "code", "words"),
    [
        ({"focal_px": 1400}, "K04", "fx 1400.0 for an image of 1226x370"),
        ({"focal_px": 3000}, "K05", "fx / W 2.447"),
        ({"K": ((360, 0, 305), (0, 360, 91.5), (0, 0, 1))}, "K04", "611x184"),
    ],
)
def test_a_video_has_the_same_camera_findings_by_check_and_in_a_training(
    kitti_video: Path, camera: dict[str, Any], code: str, words: str
) -> None:
    """A training stores its frames at the size of the network, which changes their shape too."""

    def read_findings(recording: Any) -> list[tuple[str, ...]]:
        found: list[Finding] = []
        for check in (check_intrinsics, check_intrinsics_size):
            try:
                found += check(RecordingSurvey(recording))
            except NotChecked:
                assert not found, "a camera that is found wrong is checked"
        return [(finding.code, finding.measured, finding.expected, finding.cause, finding.fix) for finding in found]

    (checked,) = sample_recordings(kitti_video, camera=camera, stride=1)
    (trained,) = open_recordings(kitti_video, camera=camera, stride=1, size=(192, 320))
    assert trained.image(0).shape == (192, 320, 3)
    first, *_ = read_findings(checked)
    assert first[0] == code
    assert words in first[1]
    assert read_findings(trained) == read_findings(FrameRange(trained, 0, 2)) == read_findings(checked)


CROPS = {  # shares that are cut off: top, bottom, left, right
    "a quarter below, as of Cityscapes": (0, 0.25, 0, 0),
    "all but the upper left": (0, 0.3, 0, 0.3),
    "the left half": (0, 0, 0.5, 0),
}


def cropped(shares: tuple[float, ...]) -> dict[str, Any]:
    """Changes that cut images and ground truth, and K with them."""

    def cut(height: int, width: int) -> tuple[int, int, int, int]:
        top, bottom, left, right = (
            int(share * side) for share, side in zip(shares, (height, height, width, width), strict=True)
        )
        return top, height - bottom, left, width - right

    def image(whole: Image) -> Image:
        top, bottom, left, right = cut(*whole.shape[:2])
        return whole[top:bottom, left:right].copy()

    def camera(whole: Camera) -> Camera:
        top, bottom, left, right = cut(whole.height, whole.width)
        offset = np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
        return replace(whole, K=whole.K - offset, height=bottom - top, width=right - left)

    return {"image": image, "depth": image, "camera": camera}


def without_notes(recording: Recording) -> list[Finding]:
    return [finding for finding in run_preflight([recording]) if finding.severity is not Severity.NOTE]


@pytest.mark.slow
@pytest.mark.parametrize("shares", CROPS.values(), ids=CROPS)
def test_correct_crop_is_confirmed_by_poses(shares: tuple[float, ...], recording: Recording) -> None:
    assert without_notes(Mutated(recording, **cropped(shares))) == []


@pytest.mark.slow
@pytest.mark.parametrize("shares", CROPS.values(), ids=CROPS)
def test_correct_crop_without_poses_warns(shares: tuple[float, ...], recording: Recording) -> None:
    (finding,) = without_notes(Alone(recording, **cropped(shares)))
    assert finding.code in ("K03", "K04")
    assert finding.severity is Severity.WARN
    assert "the images are a crop and K is correct" in finding.cause
    assert finding.evidence["lines"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("K halved", Severity.WARN),
        ("a crop that was not subtracted", Severity.WARN),
        ("cx and cy exchanged", Severity.STOP),
    ],
)
def test_a_wrong_K_without_poses_stops_only_where_it_cannot_be(
    name: str, severity: Severity, recording: Recording
) -> None:
    (mutation,) = [mutation for mutation in MUTATIONS if mutation.name == name]
    (first, *_) = without_notes(Alone(mutation.apply(recording)))
    assert (first.code, first.severity) == (mutation.codes[0], severity)


@pytest.mark.parametrize(
    ("given", "others", "severity"),
    [
        (0.1, {"another": 1.0}, None),
        (1.0, {"another": 0.9}, Severity.WARN),
        (1.0, {"another": 2.0, "a third": 0.4}, Severity.STOP),
        (40.0, {"another": 9.0}, Severity.WARN),
        (np.inf, {}, Severity.WARN),
    ],
)
def test_epipolar_comparison_severities(given: float, others: dict[str, float], severity: Severity | None) -> None:
    assert EpipolarComparison(given, others).severity is severity


@pytest.mark.slow
def test_poses_that_stand_still_confirm_no_K(recording: Recording) -> None:
    survey = RecordingSurvey(Mutated(recording, pose=lambda T: np.eye(4)))
    assert compare_epipolar_lines(survey, survey.K(0), {"the same": survey.K(0)}).others == {}
