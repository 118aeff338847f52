"""A teacher in each recipe of depth: its term, its schedule, what contradicts it, resume, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses
from tests.training.recipes.published_folders import write_network

from stadia.core.errors import ConfigError
from stadia.core.types import Camera, DepthScale
from stadia.losses.loss_report import LossReport
from stadia.training.recipes.base.config import TeacherConfig
from stadia.training.recipes.base.self_supervised import TeacherTerm, check_teacher


class Known:
    height, width, depth_scale = 8, 12, DepthScale.METRES

    def __init__(self, inverse_depth: torch.Tensor) -> None:
        self.known = inverse_depth

    def move(self, device: torch.device) -> None: ...

    def inverse_depth(self, image: torch.Tensor, camera: Camera) -> torch.Tensor:
        return self.known.expand(len(image), -1, -1, -1)


def make_batch() -> Any:
    camera = Camera(torch.eye(3)[None], 8, 12)
    return SimpleNamespace(targets=SimpleNamespace(image=torch.rand(1, 3, 8, 12), camera=camera))


def make_term(**settings: Any) -> TeacherTerm:
    term = TeacherTerm(TeacherConfig(network="known", **settings))
    term._predictor = Known(torch.linspace(0.1, 1, 96).view(1, 1, 8, 12))  # type: ignore[assignment]
    return term


def add(term: TeacherTerm, inverse_depth: torch.Tensor, **values: Any) -> LossReport:
    report = LossReport.from_terms({"own": torch.tensor(1.0)}, {"residual": torch.full((1, 1, 8, 12), 0.1)})
    settings: dict[str, Any] = {"student_scale": DepthScale.METRES, "step": 0, "last_step": 100, **values}
    return term.add(report, inverse_depth, make_batch(), **settings)


def test_the_term_is_zero_at_the_teacher_and_falls_to_zero_at_its_share() -> None:
    term = make_term(weight=0.4, until=0.5)
    same = add(term, torch.linspace(0.1, 1, 96).view(1, 1, 8, 12))
    assert same.terms["teacher"].item() == pytest.approx(0, abs=1e-6)
    student = torch.full((1, 1, 8, 12), 0.5, requires_grad=True)
    values = {step: add(term, student, step=step).terms["teacher"].item() for step in (0, 25, 50, 80)}
    assert values[25] == pytest.approx(values[0] / 2)
    assert values[50] == values[80] == 0
    report = add(term, student)
    assert report.total.item() == pytest.approx(1 + values[0])
    report.total.backward()
    assert student.grad is not None
    assert add(make_term(until=None), student, step=100).terms["teacher"] > 0


def test_a_name_that_is_none_is_refused() -> None:
    with refuses(ConfigError, fix="dpt-large"):
        check_teacher(TeacherConfig(network="dpt-lagre"), 32, 96, Console(quiet=True))


@pytest.mark.slow
def test_heights_of_trees_teach_nothing(tmp_path: Path) -> None:
    folder = write_network(tmp_path / "chmv2", "chmv2")
    with pytest.raises(ConfigError):
        check_teacher(TeacherConfig(network=str(folder)), 64, 96, Console(quiet=True))
