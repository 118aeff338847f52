"""The best checkpoint is compared with the last one: on few samples, or within their spread, the choice is doubtful."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import small_recipe
import torch
from rich.console import Console
from small_recipe import SAMPLES

from stadia.core.types import Batch
from stadia.files.run_facts import RecipeFacts
from stadia.training.checkpoint import Checkpoint
from stadia.training.run_folder import Run
from stadia.training.validation_scores import CheckpointScore, compare_checkpoints, compute_means


class Rising(small_recipe.SmallRecipe):
    """Its error rises from step 7 on."""

    def validation_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"error": torch.full((batch.size,), abs(self.global_step - 7) + 1.0)}


def make_score(step: int, values: list[float]) -> CheckpointScore:
    samples = {("", "drive", index, "left", False, 0, 0): value for index, value in enumerate(values)}
    return CheckpointScore("val/error", step, sum(values) / len(values), len(values), samples)


@pytest.mark.parametrize(
    ("best", "last", "doubt"),
    [
        ([1.0] * 5, [2.0] * 5, "5 validation samples are few"),
        (
            [1.0, 1.0, 1.1, 0.9],
            [1.3, 0.8, 1.0, 1.0],
            "4 validation samples are few, and the difference is within its spread over them",
        ),
        ([1.0] * 40, [2.0] * 40, ""),
        ([1.0] * 40, [0.9, 1.11] * 20, "the difference is within its spread over 40 validation samples"),
        ([float(n) for n in range(40)], [n + 1.0 for n in range(40)], ""),  # the spread is of the differences
    ],
)
def test_a_choice_is_doubtful_on_few_samples_or_within_the_spread(
    best: list[float], last: list[float], doubt: str
) -> None:
    assert compare_checkpoints(make_score(4, best), make_score(16, last)).doubt == doubt


def make_score_of_sets(step: int, **values: list[float]) -> CheckpointScore:
    samples = {(name, "drive", i, "left", False, 0, 0): one for name, of in values.items() for i, one in enumerate(of)}
    return CheckpointScore("val/error", step, compute_means({"error": samples})["error"], len(samples), samples)


def test_the_spread_of_several_data_sets_is_that_of_the_mean_of_their_means() -> None:
    """The few samples of the small set have half of the weight."""
    best = make_score_of_sets(4, large=[1.0] * 400, small=[1.0] * 36)
    last = make_score_of_sets(16, large=[0.99, 1.01] * 200, small=[0.0, 2.2] * 18)
    compared = compare_checkpoints(best, last)
    assert compared.standard_error == pytest.approx(1.1 / 35**0.5 / 2, rel=1e-3)
    assert compared.doubt == "the difference is within its spread over 436 validation samples"
    few = compare_checkpoints(
        make_score_of_sets(4, large=[1.0] * 400, small=[1.0, 1.0]),
        make_score_of_sets(16, large=[2.0] * 400, small=[2.0, 2.0]),
    )
    assert few.doubt == "2 validation samples of a data set are few"


def train_rising(root: Path, **values: object) -> tuple[Run, list[str]]:
    """Train with a best checkpoint at step 7; return the run, and the notes about that."""
    output = io.StringIO()
    run, _ = small_recipe.train(root, recipe=Rising(), console=Console(file=output, width=500), **values)
    return run, [line for line in output.getvalue().splitlines() if "the best checkpoint is" in line]


class Published(Rising):
    """A recipe whose weights forbid commercial use."""

    @property
    def run_metadata(self) -> RecipeFacts:
        return RecipeFacts(licence="CC-BY-NC-4.0", scale_from="a stereo pair")


def test_a_checkpoint_alone_has_its_licence_and_where_its_metres_come_from(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, recipe=Published())
    for name in ("best", "last"):
        checkpoint = Checkpoint.open(run.checkpoints / f"{name}.safetensors")
        assert (checkpoint.licence, checkpoint.header.scale_from) == ("CC-BY-NC-4.0", "a stereo pair")


def test_a_doubtful_choice_is_printed_and_recorded(tmp_path: Path) -> None:
    run, notes = train_rising(tmp_path)
    count = SAMPLES // 3 * 3
    assert notes == [
        f"note: the best checkpoint is that of step 7 (error 1), the last that of step 20 (14); {count} validation"
        " samples are few: the last may be the better one. Fix: predict with both (checkpoints/best.safetensors,"
        " checkpoints/last.safetensors), or validate on more samples"
    ]
    compared = run.facts.best_checkpoint
    assert (compared.step, compared.last_step, compared.samples) == (7, 20, count)
