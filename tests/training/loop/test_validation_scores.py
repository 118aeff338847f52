"""Means of a validation: by sample, without those that have no score, and exact over several processes."""

import math

import pytest
import torch

from stadia.differentiable.batch import Meta
from stadia.training.loop import batches
from stadia.training.loop.batches import Sample, ValidationScores


def meta(*indices: int) -> tuple[Meta, ...]:
    return tuple(Meta("drive", index, "left") for index in indices)


def sample(index: int) -> Sample:
    return ("", "drive", index, "left", False, 0, 0)


def test_a_mean_is_over_samples_and_leaves_out_those_without_a_score() -> None:
    book = ValidationScores()
    book.add(meta(0, 1, 2), {"error": torch.tensor([1.0, math.nan, 3.0]), "size": 3.0})
    book.add(meta(3), {"size": torch.tensor(1.0)})
    assert book.means() == {"error": 2.0, "size": 2.5}
    assert book.means() == {}


def test_means_do_not_depend_on_the_batch() -> None:
    scores = torch.rand(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores[4] = math.nan
    means = []
    for size in (1, 2, 7):
        book = ValidationScores()
        for start in range(0, 10, size):
            part = range(start, min(start + size, 10))
            book.add(meta(*part), {"error": scores[list(part)]})
        means.append(book.means())
    assert means[0] == means[1] == means[2]


def test_a_sample_that_two_processes_scored_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        {"error": {sample(0): 1.0, sample(1): 2.0}},
        {"error": {sample(0): 1.0, sample(2): 6.0}, "abs_rel": {sample(2): 0.5}},
    ]
    monkeypatch.setattr(batches, "gather_from_processes", lambda mine: parts)
    assert ValidationScores().means() == {"error": 3.0, "abs_rel": 0.5}


def test_each_data_set_has_its_own_means_and_counts_alike() -> None:
    book = ValidationScores()
    large, small = (
        tuple(Meta("drive", index, data=name) for index in range(count)) for name, count in (("large", 4), ("small", 2))
    )
    book.add(large, {"residual": torch.tensor([1.0, 2.0, 3.0, 4.0]), "abs_rel": 0.5})
    book.add(small, {"residual": torch.tensor([0.5, math.nan])})
    assert book.means() == {"large/residual": 2.5, "small/residual": 0.5, "residual": 1.5, "large/abs_rel": 0.5}
