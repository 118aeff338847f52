"""A second attempt with more matches tries the first one's camera before all others."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from stadia.sfm import camera_search
from stadia.sfm.camera_intervals import LensIntervals
from stadia.sfm.camera_search import START_FOVS_DEG, FoundCamera, calibrate_pairs, choose_best, find_camera
from stadia.sfm.reconstruction import Workers
from stadia.sfm.sparse_map import LensCamera

BEFORE = FoundCamera(LensCamera.from_fov(60, 48, 64), LensIntervals({}, 20.0), 1.0, 0.31, None, True, 0.01)


@pytest.mark.parametrize(
    ("focal", "registered", "cost", "agree", "is_confirmed"),
    [
        (1.02, 1.0, 0.34, True, True),
        (1.06, 1.0, 0.34, True, False),  # another focal length
        (1.0, 0.9, 0.34, True, False),  # fewer frames
        (1.0, 1.0, 0.34, False, False),  # its starts did not agree
        (1.0, 1.0, 0.5, True, False),  # worse residuals
    ],
)
def test_one_start_confirms_an_earlier_camera_or_all_are_tried(
    monkeypatch, focal, registered, cost, agree, is_confirmed
):
    tried = []

    def try_start(database, names, start, given, angle_deg, workers):
        tried.append(start.focal_px)
        camera = replace(BEFORE.camera, focal_px=focal * BEFORE.camera.focal_px)
        return replace(BEFORE, camera=camera, registered=registered, cost=cost)

    monkeypatch.setattr(camera_search, "try_start", try_start)
    monkeypatch.setattr(camera_search, "calibrate_pairs", lambda *_: None)
    before = replace(BEFORE, starts_agree=agree)
    found = find_camera(Path("x.db"), range(9), 48, 64, given=None, workers=Workers(1), before=before)
    assert (tried[0] == BEFORE.camera.focal_px) == agree
    assert (len(tried) == 1) == is_confirmed
    if is_confirmed:
        assert found.starts_agree
        assert found.start_spread == pytest.approx(focal - 1)
    else:
        assert len(tried) > len(START_FOVS_DEG)


@pytest.mark.parametrize(
    ("shifts", "costs", "changed", "agrees"),
    [
        ((0.0, 0.01, 0.02), (0.4, 0.4, 0.4), {}, True),  # blurred images: no fair model, but one focal length
        ((0.0, 0.03), (0.4, 0.4), {}, False),
        ((0.0, 0.01, 0.02), (0.4, 0.4, 0.4), {"registered": 0.5}, True),
        ((0.0, 0.01, 0.02), (0.4, 0.4, 0.4), {"registered": 0.3}, False),
        ((0.0, 0.01, 0.02), (0.9, 0.9, 0.9), {}, False),
        ((0.0, 0.01, 0.02), (0.4, 0.4, 0.4), {"angle_deg": 2.0}, False),  # one first pair of images
        ((0.0, 0.01, 0.02, None, None, None), (0.4,) * 6, {}, False),  # half of the starts found no model
        ((0.0, 0.01, 0.02, 0.3, 0.4, 0.5), (0.4,) * 3 + (0.9,) * 3, {}, False),  # not most of them
        ((0.0, 0.01, 0.02, 0.2), (0.4, 0.4, 0.4, 0.41), {}, False),  # a rival that is as good
        ((0.0, 0.03), (0.2, 0.2), {}, True),
        ((0.0, 0.05), (0.2, 0.2), {}, False),
    ],
)
def test_starts_agree_by_a_fair_model_or_by_their_number(shifts, costs, changed, agrees):
    starts = [
        replace(
            BEFORE,
            camera=replace(BEFORE.camera, focal_px=(1 + shift) * 55),
            cost=cost,
            **{"angle_deg": 2.0 + row % 2, **changed},
        )
        for row, (shift, cost) in enumerate(zip(shifts, costs, strict=True))
        if shift is not None
    ]
    best = choose_best(starts, len(shifts))
    assert best.starts_agree == agrees
    if agrees:
        assert best.start_spread == pytest.approx(max(shifts))


@pytest.mark.parametrize(("registered", "is_open"), [(1.0, True), (0.1, False)])
def test_only_fair_models_leave_a_focal_length_open(registered, is_open):
    rival = replace(BEFORE, camera=replace(BEFORE.camera, focal_px=80.0), cost=0.1, registered=registered)
    assert choose_best([replace(BEFORE, cost=0.1), rival], 2).is_open == is_open


@pytest.mark.parametrize(("factors", "tried"), [((1.0, 1.4, 0.7), 3), ((1.0, 1.1, 0.9), 7)])
def test_an_open_focal_length_ends_the_search(monkeypatch, factors, tried):
    found = []

    def try_start(database, names, start, given, angle_deg, workers):
        camera = replace(BEFORE.camera, focal_px=factors[len(found) % len(factors)] * BEFORE.camera.focal_px)
        found.append(replace(BEFORE, camera=camera, cost=0.1))
        return found[-1]

    monkeypatch.setattr(camera_search, "try_start", try_start)
    assert not find_camera(Path("x.db"), range(9), 48, 64, given=None, workers=Workers(1)).starts_agree
    assert len(found) == tried


def make_database(path: Path, focal_px: float) -> Path:
    """Write the fundamental matrices of eight images of 800x600 into a COLMAP database.

    The optical axes must not meet in one point: such cameras leave the focal length open.
    """
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=800, height=600, params=[focal_px, 400.0, 300.0])
    inverse_K = np.linalg.inv(camera.calibration_matrix())
    rng = np.random.default_rng(0)
    poses = [(Rotation.from_rotvec(rng.normal(0, 0.25, 3)), rng.normal(0, 1, 3)) for _ in range(8)]
    matches = np.tile(np.arange(100, dtype=np.uint32)[:, None], (1, 2))
    with pycolmap.Database.open(str(path)) as store:
        camera_id = store.write_camera(camera)
        ids = [store.write_image(pycolmap.Image(name=f"{row:08d}", camera_id=camera_id)) for row in range(8)]
        for first, second in itertools.combinations(range(8), 2):
            (turn, start), (other_turn, end) = poses[first], poses[second]
            R = (other_turn * turn.inv()).as_matrix()
            x, y, z = other_turn.apply(start - end)
            E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ R
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
            geometry.F, geometry.inlier_matches = inverse_K.T @ E @ inverse_K, matches
            store.write_two_view_geometry(ids[first], ids[second], geometry)
    return path


@pytest.mark.parametrize("focal_px", [500.0, 800.0, 1100.0])
def test_pairs_of_images_show_the_focal_length(tmp_path, focal_px):
    found = calibrate_pairs(make_database(tmp_path / "matches.db", focal_px), 600, 800)
    assert found.focal_px == pytest.approx(focal_px, rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["matches.db"]


def test_a_telephoto_lens_is_tried_where_no_usual_one_maps(monkeypatch, tmp_path):
    started = []

    def try_start(database, names, start, given, angle_deg, workers):
        started.append(start.focal_px)
        return replace(BEFORE, camera=start, cost=0.1) if start.focal_px > 1500 else None

    monkeypatch.setattr(camera_search, "try_start", try_start)
    database = make_database(tmp_path / "matches.db", 900.0)
    found = find_camera(database, range(12), 600, 800, given=None, workers=Workers(1))
    assert found.camera.focal_px == pytest.approx(1604, rel=0.01)
    assert any(focal_px == pytest.approx(900, rel=0.02) for focal_px in started)
