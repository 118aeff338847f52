"""A second attempt with more matches tries the first one's camera before all others."""

from dataclasses import replace
from pathlib import Path

import pytest

from stadia.sfm import camera_search
from stadia.sfm.camera_intervals import LensIntervals
from stadia.sfm.camera_search import START_FOVS_DEG, FoundCamera, choose_best, find_camera
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
