"""experiments/tableworld_pose.py: what a constant guess is worth, and when a loss is better than another."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stadia.geometry.se3 import quaternion_multiply
from stadia.objectpose.boxes import Symmetry, symmetric_angle_deg


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    path = Path(__file__).parents[2] / "experiments" / "tableworld_pose.py"
    spec = importlib.util.spec_from_file_location("tableworld_pose", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def about_y(degrees: Tensor) -> Tensor:
    half = torch.deg2rad(degrees.double()) / 2
    return torch.stack((half.cos(), 0 * half, half.sin(), 0 * half), -1)


def test_constant_baseline_is_the_mean_except_unobservable_rotation(experiment: ModuleType) -> None:
    torch.manual_seed(0)
    pose = torch.nn.functional.normalize(torch.randn(4, dtype=torch.float64), dim=-1)
    noisy = torch.nn.functional.normalize(pose + 0.02 * torch.randn(200, 4, dtype=torch.float64), dim=-1)
    spun, turned = (
        quaternion_multiply(noisy, about_y(angle))
        for angle in (360 * torch.rand(200), 180 * torch.randint(0, 2, (200,)))
    )
    for labels, symmetry in ((noisy, "none"), (spun, "revolution"), (turned, [(0.0, 0.0, 1.0, 0.0)])):
        found = experiment.mean_rotation(labels, Symmetry.parse([symmetry] * 200))
        assert float(symmetric_angle_deg(found[None], pose[None], Symmetry.parse([symmetry]))) < 1, symmetry


def test_medians_are_listed_beside_asymmetric_and_constant_baselines(experiment: ModuleType) -> None:
    revolution = torch.tensor([True, True, True, False])
    told = experiment.medians(
        experiment.Turned(revolution, torch.tensor([1.0, 2, 3, 90]), torch.tensor([4.0, 5, 6, 100]))
    )
    assert told == {
        "objects_found": 4,
        "rotation_error_deg_median": 2.5,
        "rotation_error_deg_median_of_constant": 5.5,
        "objects_found_without_revolutions": 1,
        "rotation_error_deg_median_without_revolutions": 90,
        "rotation_error_deg_median_of_constant_without_revolutions": 100,
    }
    assert experiment.medians(experiment.Turned(*torch.zeros(3, 0).bool()))["rotation_error_deg_median"] is None


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ((11.0, 22.0, 33.0), "+2, spread 1 over 3 seeds: larger"),
        ((13.0, 18.0, 31.0), "+0.6667, spread 2.52 over 3 seeds: not larger"),
        ((7.0, None, None), "-3 of one seed: no spread, no verdict"),
        ((None, None, float("nan")), "no seed has both"),
    ],
)
def test_a_verdict_is_of_differences_seed_by_seed(
    experiment: ModuleType, other: tuple[float | None, ...], told: str
) -> None:
    """The seeds themselves are 10 apart, independent of the losses."""
    assert experiment.verdict((10.0, 20.0, 30.0), other).startswith(told)


def test_each_loss_names_its_comparison(experiment: ModuleType) -> None:
    assert experiment.words_of("squared_error:pixel")[:2] == [
        "loss.rotation.name=squared_error",
        "loss.rotation_of=pixel",
    ]
    assert experiment.words_of("bounded_log")[:2] == ["loss.rotation.name=bounded_log", "loss.rotation_of=object"]
    run = dict.fromkeys(experiment.COMPARED, 1.0)
    lines = experiment.told_of({"a": [run, run], "b:pixel": [run, dict.fromkeys(experiment.COMPARED, 3.0)]})
    assert "b:pixel - a: rotation_error_deg_median +1, spread 1.41 over 2 seeds: not larger than its spread" in lines
