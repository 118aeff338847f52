"""Heights of classes: their names, their sources, and that none is a label of what is scored."""

from __future__ import annotations

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.datasets.height_priors import PRIORS, check_scored_on, find_prior
from stadia.synthetic.roadworld.street_models import MODEL_SHARES, MODELS

KITTI = PRIORS["kitti"]


@pytest.mark.parametrize(
    ("name", "mean_m"),
    [
        ("car", 1.526),
        ("Car", 1.526),
        ("Pedestrian", 1.763),
        ("person", 1.763),
        ("Person_sitting", 1.275),
        ("rider", 1.737),
        ("train", 3.531),
    ],
)
def test_class_aliases_of_coco_cityscapes_and_kitti_are_resolved(name, mean_m):
    assert find_prior(name, KITTI).mean_m == mean_m


def test_roadworld_prior_equals_its_generator():
    """The median of a thousand cars as their worlds draw them."""
    random = np.random.default_rng(0)
    means, shares = zip(*((model.size_hwl_m[0], MODEL_SHARES[name]) for name, model in MODELS.items()), strict=True)
    drawn = random.choice(means, 10_000, p=shares) * random.normal(1, 0.025, 10_000)
    prior = PRIORS["roadworld"]["car"]
    assert np.median(drawn) == pytest.approx(prior.mean_m, rel=0.005)
    assert np.std(drawn) == pytest.approx(prior.spread_m, rel=0.03)


@pytest.mark.parametrize("scored_on", ["kitti", "kitti_raw", "kitti_odometry"])
def test_kitti_priors_are_refused_for_scores_on_kitti(scored_on):
    with refuses(ConfigError, expected=scored_on):
        check_scored_on(KITTI, ["stadia", scored_on])
    check_scored_on(PRIORS["mixed"], [scored_on])
    check_scored_on(KITTI, ["cityscapes", "kittiwake"])
