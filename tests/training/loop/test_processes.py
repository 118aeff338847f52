"""A training does not depend on the number of its processes, and a restarted job finds its run."""

import csv
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.training.loop import small_recipe
from tests.training.loop.test_distributed import needs_gloo, run_in_processes
from torch import nn

from stadia.core.errors import ConfigError
from stadia.training.loop.config import TrainingConfig
from stadia.training.loop.fit import fit
from stadia.training.loop.processes import (
    GlobalBatchNorm2d,
    ProcessLayout,
    agree_on_attempt,
    find_job,
    find_layout,
    find_run_of_job,
    record_job,
    resolve_batch_size,
    start_attempt,
    use_global_batch_norm,
)
from stadia.training.loop.run_folder import Run

STEPS = 50
TOLERANCE = 1e-5
"""Relative. Sums over samples are taken in another order, in float32, over 50 updates."""

LAUNCHER = ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES")


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


class WithoutDropout(small_recipe.SmallRecipe):
    def __init__(self) -> None:
        super().__init__(lr=0.005)
        self.network[3].p = 0.0


def train(rank: int, root: Path, devices: int, values: dict[str, Any]) -> None:
    given = {"max_steps": STEPS, "global_batch_size": 4, "accelerator": "cpu", "threads": 1, "log_every": 1}
    config = resolve_batch_size(
        TrainingConfig(**{**given, "loggers": ("csv",), "workers": 0, "images_every": 0, "devices": devices, **values})
    )
    run = Run.create(root, "small", {"training": config.model_dump(mode="json")}, recipe="small", seed=1)
    fit(WithoutDropout(), small_recipe.SmallLoader(0, batch_size=config.batch_size), None, config, run)


def read_losses(root: Path) -> list[dict[str, float]]:
    (table,) = root.glob("*/metrics.csv")
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    names = [name for name in rows[0] if name.startswith(("loss", "train", "optim")) and "speed" not in name]
    return [{name: float(row[name]) for name in names if row[name]} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    root = tmp_path_factory.mktemp("alone")
    train(0, root, 1, {})
    return read_losses(root)


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "values"),
    [
        pytest.param(2, {"strategy": "ddp"}, marks=pytest.mark.exhaustive),
        pytest.param(4, {"strategy": "ddp"}, marks=pytest.mark.exhaustive),
        (2, {"strategy": "ddp", "grad_accumulation_steps": 2}),
    ],
    ids=["2", "4", "2, two batches a step"],
)
def test_losses_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, alone: list[dict[str, float]], count: int, values: dict[str, Any]
) -> None:
    if "grad_accumulation_steps" in values:  # batch statistics are those of each of the two batches
        train(0, tmp_path / "alone", 1, {"grad_accumulation_steps": 2})
        alone = read_losses(tmp_path / "alone")
    assert run_in_processes(count, train, tmp_path / "shared", count, values) == [0] * count
    shared = read_losses(tmp_path / "shared")
    assert len(shared) == len(alone) == STEPS
    assert all("train/loss" in row for row in shared)
    for expected, found in zip(alone, shared, strict=True):
        assert found == pytest.approx(expected, rel=TOLERANCE, abs=1e-7)


def test_batch_of_a_process_follows_from_the_global_one(no_launcher: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(global_batch_size=24, grad_accumulation_steps=3, devices=2)
    assert resolve_batch_size(config).batch_size == 4
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert find_layout(config) == ProcessLayout(nodes=2, per_node=2, is_started=True)
    assert resolve_batch_size(config).batch_size == 2
    assert resolve_batch_size(TrainingConfig(batch_size=5)).batch_size == 5
    with monkeypatch.context() as by_hand, refuses(ConfigError, where="WORLD_SIZE", fix="torchrun"):
        by_hand.setenv("RANK", "0")
        by_hand.delenv("LOCAL_WORLD_SIZE")
        find_layout(config)
    with refuses(ConfigError, where="global_batch_size", found="20", expected="12", fix="24"):
        resolve_batch_size(config.model_copy(update={"global_batch_size": 20}))


def test_layout_of_slurm(no_launcher: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_layout(TrainingConfig(devices=2)) == ProcessLayout(1, 2)
    for name, value in (("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_NNODES", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    with refuses(ConfigError, where="SLURM_NTASKS", found="8", fix="--ntasks-per-node"):  # Fabric would refuse it late
        find_layout(TrainingConfig())
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    assert find_layout(TrainingConfig()) == ProcessLayout(nodes=2, per_node=4, is_started=True)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with refuses(ConfigError, where="SLURM_NTASKS", found="2 tasks on 2", expected="4", fix="--ntasks-per-node=4"):
        find_layout(TrainingConfig())
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")
    with refuses(ConfigError, where="SLURM_NTASKS", found="2 without", fix="--ntasks-per-node"):
        find_layout(TrainingConfig())
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with refuses(ConfigError, where="OMPI_COMM_WORLD_SIZE", found="2", fix="torchrun"):
        find_layout(TrainingConfig())


def test_global_batch_norm_in_one_process_is_batch_norm() -> None:
    torch.manual_seed(0)
    layer, image = nn.Sequential(nn.BatchNorm2d(3)), torch.randn(4, 3, 5, 6)
    expected = layer[0](image)
    layer[0].reset_running_stats()
    use_global_batch_norm(layer)
    assert type(layer[0]) is GlobalBatchNorm2d
    assert torch.equal(layer[0](image), expected)


def check_batch_norm(rank: int, count: int, is_compiled: bool) -> None:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=count)
    torch.manual_seed(0)
    image = torch.randn(4 * count, 3, 5, 6, dtype=torch.float64) * 3 + 7
    weight = torch.randn(4 * count, 3, 5, 6, dtype=torch.float64)
    reference = nn.BatchNorm2d(3).double()
    whole = image.clone().requires_grad_()
    output = reference(whole)
    (output * weight).sum().backward()
    layer = use_global_batch_norm(nn.BatchNorm2d(3).double())
    own = slice(4 * rank, 4 * rank + 4)
    part = image[own].clone().requires_grad_()
    network = nn.Sequential(layer, nn.Identity())
    found = (torch.compile(network, backend="aot_eager") if is_compiled else network)(part)
    (found * weight[own]).sum().backward()
    torch.testing.assert_close(found, output[own])
    assert whole.grad is not None
    torch.testing.assert_close(part.grad, whole.grad[own])
    torch.testing.assert_close(layer.running_mean, reference.running_mean)
    torch.testing.assert_close(layer.running_var, reference.running_var)
    for name in ("weight", "bias"):
        gradient = getattr(layer, name).grad
        torch.distributed.all_reduce(gradient)
        torch.testing.assert_close(gradient, getattr(reference, name).grad)
    torch.distributed.destroy_process_group()


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize(("count", "is_compiled"), mark_others([(2, False), (3, False), (2, True)], [(3, False)]))
def test_global_batch_norm_is_that_of_the_whole_batch(count: int, is_compiled: bool) -> None:
    method = "spawn" if is_compiled else "fork"  # a compiler's threads do not survive a fork
    assert run_in_processes(count, check_batch_norm, count, is_compiled, method=method) == [0] * count


@pytest.mark.slow
def test_a_restarted_job_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "2026-01-01-000000-drive"
    run.mkdir()
    (run / "run.json").write_text("{}")
    record_job(tmp_path, run)
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name], "no job, no record"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    assert find_run_of_job(tmp_path) is None
    record_job(tmp_path, run)
    assert find_run_of_job(tmp_path) is None, "the first start trains a new run"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert find_run_of_job(tmp_path) == run
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-8")
    assert find_run_of_job(tmp_path) is None, "another job"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(os, "getppid", lambda: 7)
    record_job(tmp_path, run)
    assert find_run_of_job(tmp_path) == run
    monkeypatch.setattr(os, "getppid", lambda: 8)
    assert find_run_of_job(tmp_path) is None, "torchrun's default name is that of every job"


def agree(shared: torch.distributed.Store, ranks: Sequence[int]) -> list[tuple[str, list[dict[str, Any]]]]:
    results = dict[int, Any]()

    def start(rank: int) -> None:
        results[rank] = agree_on_attempt(shared, rank, 2, {"restarts": rank})

    threads = [threading.Thread(target=start, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # the first of them finds the entries of the attempt before
    for thread in threads:
        thread.join(timeout=600)
    return [results[rank] for rank in range(2)]


def start_twice(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": f"job-of-{rank}",
        "TORCHELASTIC_RESTART_COUNT": str(rank),
    }
    start_attempt()
    start_attempt()  # a second training of this process
    torch.distributed.init_process_group("gloo")
    total = torch.tensor([rank + 1])
    torch.distributed.all_reduce(total)
    (folder / str(rank)).write_text(f"{find_job()} {os.environ['TORCHELASTIC_RESTART_COUNT']} {total.item()}")


@pytest.mark.slow
@needs_gloo
def test_processes_of_torchrun_get_a_store_one_job_and_one_count_of_restarts(tmp_path: Path) -> None:
    agent = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        assert run_in_processes(2, start_twice, agent.port, folder) == [0, 0]
        assert {file.read_text() for file in folder.iterdir()} == {"torchrun-job-of-0- 1 3"}
