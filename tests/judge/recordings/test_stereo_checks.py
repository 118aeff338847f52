"""Each usual wrong form of a rig's extrinsics is named, and the right one with it."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.combinations import mark_others
from tests.mutations.mutated_recording import Mutated
from tests.mutations.recordings import MUTATIONS, Mutation
from tests.mutations.stereo_rigs import Unrectified

from stadia.core.types import LEFT, Camera, Recording
from stadia.data.open_dataset import open_recordings
from stadia.judge.catalog import CATALOG
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings import CHECKS
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.judge.recordings.recording_survey import RecordingSurvey
from stadia.judge.recordings.stereo_checks import measure_sides

COMPOSED = "T_right_left = inv(T_BS1) T_BS0"
TRUE_SCALES = {
    "extrinsics in the body's axes: T_BS1 inv(T_BS0)": (
        "E04",
        "along y",
        "T_BS1 inv(T_BS0)",
        COMPOSED,
        "no rotation, and t = (-baseline",
    ),
    "extrinsics in the body's axes: t1 - t0": (
        "E04",
        "along y",
        "t1 - t0, the difference",
        COMPOSED,
        "no rotation, and t = (-baseline",
    ),
    "extrinsics of EuRoC's raw pair": (
        "E04",
        "images are rectified",
        "0.82 degrees",
        "no rotation, and t = (-baseline, 0, 0)",
    ),
    "images not rectified": ("E04", "images are not rectified", "undistort and rectify both"),
    "rotation of the rig transposed": ("E04", "the rotation transposed", "inv(T_BS1) T_BS0"),
    "rotation of the rig in another order": ("E04", "Euler angles in the other order"),
    "sign of the baseline": ("E01", "T_left_right was given", "invert it"),
    "left and right swapped": ("E02", "the folders of the two cameras are swapped"),
}
CHOSEN = [mutation for mutation in MUTATIONS if mutation.name in TRUE_SCALES]


LENS = "intrinsics", "distortion_coefficients"


@cache
def open_euroc(folder: Path) -> Recording:
    """The sample, whose images are read and rectified once."""
    (recording,) = open_recordings(folder / "euroc")
    recording.image = cache(recording.image)  # type: ignore[method-assign]
    return recording


WITHOUT_MOTION = tuple(name for name in CHECKS if name not in ("resize", "synchronization"))
"""Checks that compare no frames of other times, which take most of the time."""


def first(recording: Recording, checks: Sequence[str] | None = None) -> Finding:
    """The first one about the rig: a standing camera, as in the sample of EuRoC, is no matter here."""
    found = run_preflight([recording], checks=checks)
    return next(finding for finding in found if finding.severity is not Severity.NOTE and finding.code != "D03")


def assert_caught(finding: Finding, scales: tuple[str, ...]) -> None:
    assert finding.code == scales[0], finding.measured
    for words in scales[1:]:
        assert words in f"{finding.cause} {finding.fix}"


@pytest.mark.slow
@pytest.mark.parametrize("mutation", CHOSEN, ids=lambda m: m.name)
def test_a_wrong_form_is_named(mutation: Mutation, recording: Recording) -> None:
    assert_caught(first(mutation.apply(recording)), TRUE_SCALES[mutation.name])


@pytest.mark.slow
def test_images_that_are_not_rectified_have_two_Ks(recording: Recording) -> None:
    """K07 names unrectified images, and does not recommend the rectified K."""

    class TwoCameras(Unrectified):
        def camera(self, index: int, side: str = LEFT) -> Camera:
            camera = super().camera(index, side)
            return camera if side == LEFT else replace(camera, K=camera.K + np.array([[0, 0, 0], [0, 0, 7], [0, 0, 0]]))

    raw = TwoCameras(recording, (-0.03, 0.0, 0.0), lambda R: np.eye(3))
    assert_caught(first(raw), ("K07", "images are not rectified", "undistort and rectify both"))

    class RectifiedImages(Mutated):
        def camera(self, index: int, side: str = LEFT) -> Camera:
            return TwoCameras.camera(raw, index, side)

    assert_caught(
        first(RectifiedImages(recording)), ("K07", "K of the unrectified cameras", "use the rectified projection")
    )


@pytest.mark.slow
def test_converging_cameras_are_not_swapped(recording: Recording) -> None:
    """What is further than where their axes cross, here 4.5 m, lies further to the right in the right image."""
    toed_in = Unrectified(recording, (0.0, 0.12, 0.0), lambda R: R)
    survey = RecordingSurvey(toed_in)
    assert measure_sides(survey).positive < 0.2
    assert measure_sides(survey).unrotated > 0.8
    assert "E02" not in {finding.code for finding in run_preflight([toed_in])}


@pytest.mark.real
def test_clean_euroc_is_reported_as_static_only(real_data: Path) -> None:
    """The sample is the three seconds before the start: the corners of the image stand still."""
    found = run_preflight([open_euroc(real_data)])
    assert {finding.code for finding in found if finding.severity is not Severity.NOTE} <= {"D03"}


@pytest.mark.real
@pytest.mark.parametrize("mistake", mark_others(["images", "intrinsics", "focal length"], ["intrinsics"]))
def test_a_wrong_calibration_of_a_pair_that_is_rectified_here(mistake: str, real_data: Path, tmp_path: Path) -> None:
    """Of EuRoC: its cameras have nearly equal rows after each mistake, where images are looked at by eye."""
    (source,), target = (real_data / "euroc").rglob("mav0"), tmp_path / "mav0"
    shutil.copytree(source, target, symlinks=True)
    cam0, cam1 = (target / name for name in ("cam0", "cam1"))
    if mistake == "images":
        for name in ("data", "data.csv"):
            (cam0 / name).rename(target / name)
            (cam1 / name).rename(cam0 / name)
            (target / name).rename(cam1 / name)
    else:
        first, second = ((folder / "sensor.yaml").read_text() for folder in (cam0, cam1))
        lines = {key: [re.search(rf"^{key}:.*$", text, re.M)[0] for text in (first, second)] for key in LENS}  # type: ignore
        if mistake == "intrinsics":
            (cam0 / "sensor.yaml").write_text(exchange(first, lines, 0, 1))
            (cam1 / "sensor.yaml").write_text(exchange(second, lines, 1, 0))
        else:
            fx, fy = (float(number) for number in re.findall(r"[\d.]+", lines["intrinsics"][0])[:2])
            scaled = first.replace(str(fx), str(1.3 * fx)).replace(str(fy), str(1.3 * fy))
            (cam0 / "sensor.yaml").write_text(scaled)
    (recording,) = open_recordings(target)
    found = next(finding for finding in run_preflight([recording], checks=WITHOUT_MOTION) if finding.code == "E04")
    fits = {"images": "with the images of the two cameras", "intrinsics": "with the intrinsics and distortion of"}
    case = "wrong_calibration" if mistake == "focal length" else "exchanged_calibration"
    assert fits.get(mistake, "") in found.cause
    assert found.fix == CATALOG["E04"].cases[case].fix


def exchange(text: str, lines: dict[str, list[str]], own: int, other: int) -> str:
    for pair in lines.values():
        text = text.replace(pair[own], pair[other])
    return text


P2_P3 = "P2", "P3", 0.06, False


@pytest.mark.real
@pytest.mark.parametrize(
    ("left", "right", "offset_m", "has_poses"), mark_others([("P0", "P1", 0.0, True), P2_P3], [P2_P3])
)
def test_exchanged_projections_of_kitti_are_named(
    left: str, right: str, offset_m: float, has_poses: bool, real_data: Path, tmp_path: Path
) -> None:
    """The images are in order and the two rows of calib.txt are not; color cameras have their left one at -6 cm."""
    sequence, copied = real_data / "kitti_odometry/sequences/06", tmp_path / "sequences/06"
    copied.mkdir(parents=True)
    for number, side in enumerate((left, right)):
        (copied / f"image_{side[1]}").symlink_to(sequence / f"image_{number}")
    (copied / "times.txt").write_bytes((sequence / "times.txt").read_bytes())
    if has_poses:
        (tmp_path / "poses").symlink_to(real_data / "kitti_odometry/poses")
    _, *rest = ((sequence / "calib.txt").read_text().splitlines()[0]).split()
    first = np.array(rest, np.float64).reshape(3, 4)
    second = first.copy()
    first[0, 3], second[0, 3] = (first[0, 0] * x_m for x_m in (offset_m, offset_m - 0.5372))
    for rows, code in (((first, second), None), ((second, first), "E01")):
        names = (left, right, *{"P0", "P1"} - {left, right})
        lines = [f"{n}: {' '.join(map(str, P.ravel()))}" for n, P in zip(names, (*rows, *rows), strict=False)]
        (copied / "calib.txt").write_text("\n".join(lines) + "\n")
        checked = run_preflight(open_recordings(tmp_path), checks=WITHOUT_MOTION)
        found = [finding for finding in checked if finding.severity is not Severity.NOTE]
        assert [finding.code for finding in found][:1] == ([code] if code else [])
    assert found[0].cause == CATALOG["E01"].cases["kitti"].cause
