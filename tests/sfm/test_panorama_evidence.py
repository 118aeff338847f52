"""Matches that a panoramic map did not use agree with a right map, and contradict one whose poses are disturbed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stadia.sfm.panorama_map import HeldOutPair, PanoramaEvidence, PanoramaGrade, compare_held_out

FOCAL_PX, SIDE = 256.0, 512


def make_scene(count: int = 40) -> tuple[Any, ...]:
    """Return a model with points, two of its views half a metre apart, and the numbers of the matched features."""
    pycolmap = pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", FOCAL_PX, SIDE, SIDE)
    points = np.random.default_rng(0).uniform((-2, -2, 4), (2, 2, 8), (count, 3))
    model = SimpleNamespace(
        cameras={1: camera}, points3D={row: SimpleNamespace(xyz=xyz) for row, xyz in enumerate(points)}
    )
    poses = [pycolmap.Rigid3d(pycolmap.Rotation3d(np.eye(3)), np.array([x, 0, 0.0])) for x in (0, -0.5)]
    views = [
        SimpleNamespace(
            camera_id=1,
            pose=pose,
            points2D=[
                SimpleNamespace(xy=camera.img_from_cam(pose * xyz), point3D_id=row, has_point3D=lambda: True)
                for row, xyz in enumerate(points)
            ],
        )
        for pose in poses
    ]
    for view in views:
        view.cam_from_world = lambda view=view: view.pose
    return model, *views, np.repeat(np.arange(count)[:, None], 2, 1)


def compare(disturb: Any = None) -> HeldOutPair:
    model, first, second, features = make_scene()
    if disturb is not None:
        second.pose = disturb(second.pose)
    (found,) = compare_held_out(model, {("a", "b"): [(first, second, features)]})
    return found


def test_matches_agree_with_the_map_they_are_projected_from() -> None:
    found = compare()
    assert (found.first, found.second, found.matches, found.within) == ("a", "b", 40, 1.0)


@pytest.mark.parametrize(("turn_deg", "moved"), [(2.0, 0.0), (0.0, 0.3), (0.0, -1.0)])
def test_a_disturbed_pose_contradicts_them(turn_deg: float, moved: float) -> None:
    def disturb(pose: Any) -> Any:
        import pycolmap

        a = np.radians(turn_deg)
        turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        return pycolmap.Rigid3d(
            pycolmap.Rotation3d(turn @ pose.rotation.matrix()), pose.translation + np.array([moved, 0, 0])
        )

    assert compare(disturb).within < 0.1


def test_points_behind_the_view_contradict_the_map() -> None:
    def turn_around(pose: Any) -> Any:
        import pycolmap

        return pycolmap.Rigid3d(pycolmap.Rotation3d(np.diag([-1.0, 1, -1])), pose.translation)

    assert compare(turn_around).within == 0.0


def test_few_matches_are_no_pair() -> None:
    model, first, second, features = make_scene(12)
    assert not list(compare_held_out(model, {("a", "b"): [(first, second, features)]}))


@pytest.mark.parametrize(
    ("shares", "placed", "angle_deg", "grade", "word"),
    [
        ((0.9, 0.95, 0.85), 1.0, 9.0, PanoramaGrade.USABLE, ""),
        ((0.9,), 1.0, 9.0, PanoramaGrade.NOT_JUDGED, "1 pair"),
        ((0.3, 0.4, 0.9), 1.0, 9.0, PanoramaGrade.UNUSABLE, "60%"),
        ((0.9, 0.9, 0.1), 1.0, 9.0, PanoramaGrade.UNUSABLE, "between the frames 2 and 6"),
        ((0.7, 0.7, 0.7), 1.0, 9.0, PanoramaGrade.DOUBTFUL, "30%"),
        ((0.9, 0.9, 0.9), 0.5, 9.0, PanoramaGrade.DOUBTFUL, "50%"),
        ((0.9, 0.9, 0.9), 1.0, 0.5, PanoramaGrade.DOUBTFUL, "hardly moved"),
    ],
)
def test_the_grade_names_its_reason(
    shares: tuple[float, ...], placed: float, angle_deg: float, grade: PanoramaGrade, word: str
) -> None:
    pairs = [HeldOutPair(str(row), str(row + 4), 100, share) for row, share in enumerate(shares)]
    found, reason = PanoramaEvidence(placed, angle_deg, pairs).judge()
    assert found == grade
    assert word in reason
