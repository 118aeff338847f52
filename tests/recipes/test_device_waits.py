"""How often a training step of `selfsup` waits for the device: counted on a CPU, by the operations that would wait on a
GPU.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stadia import launch
from stadia.core.config import resolve_config
from stadia.losses import selfsup_loss
from stadia.losses.reprojection import TorchReprojector
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.recipes.selfsup.recipe import SelfsupRecipe
from stadia.training.loop import TrainingLoop

WAITING = {
    *("_local_scalar_dense", "equal"),  # item(), float(), bool(): reads a value
    *(
        "nonzero",
        "masked_select",
        "_unique2",
        "index",
        "index_put_",
    ),  # sizes that depend on values, or a list sent as indices
    *("lift_fresh", "_linalg_check_errors"),  # a tensor made of Python's numbers is sent; a solver's error code is read
}


class Waits(TorchDispatchMode):
    """Counts the operations that wait, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Waits:
        """Also count `tolist`, which a tensor in the processor's memory answers without an operation."""
        read = torch.Tensor.tolist

        def tolist(values: torch.Tensor) -> Any:
            self.counts["tolist"] += 1
            return read(values)

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(torch.Tensor, "tolist", tolist)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.patch.undo()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING and not (
            name == "lift_fresh" and args[0].numel() == 1
        ):  # `x[...] = 1` is an argument of a kernel
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("temporal_from_step", ["null", "0"])
def test_a_training_step_waits_once_for_the_device(
    small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporal_from_step: str
) -> None:
    """Once, to stop before the weights are touched where loss or gradient is not finite. Rows, images and checkpoints
    wait too.
    """
    steps: list[Waits] = []

    def start(self: SelfsupRecipe, *_: object) -> None:
        steps.append(Waits())
        steps[-1].__enter__()

    save = TrainingLoop.save_checkpoints

    def end(loop: TrainingLoop, **when: bool) -> None:  # called after every callback
        save(loop, **when)
        steps[-1].__exit__(None, None, None)

    monkeypatch.setattr(SelfsupRecipe, "on_batch_start", start)
    monkeypatch.setattr(TrainingLoop, "save_checkpoints", end)
    monkeypatch.setattr(selfsup_loss, "choose_reprojector", lambda _: TorchReprojector)  # as on a GPU
    rarely = (
        "training.log_every=100",
        "training.checkpoint_every=100",
        "training.validate_every=100",
        "training.max_steps=4",
    )
    sgd = "optimizer.name=sgd"  # adam reads its step counters, which are in the processor's memory on a GPU too
    config = resolve_config(
        SelfsupConfig,
        small.model_dump(mode="json"),
        [*rarely, sgd, f"loss.temporal_from_step={temporal_from_step}", "loss.pyramid=2"],
    )
    launch.train(config, out=tmp_path / "runs")
    assert [step.counts for step in steps[1:-1]] == [Counter(tolist=1)] * 2
    assert steps[-1].counts["lift_fresh"], (
        "the last step keeps the random numbers, in the checkpoint: if that is not seen, nothing is"
    )


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.item(),
        lambda x: bool(x),
        lambda x: x[None][[0]],
        lambda x: torch.tensor([1.0, 2.0]) + x,
        lambda x: x.tolist(),
    ],
)
def test_the_count_sees_it(wait: Any) -> None:
    with Waits() as waits:
        wait(torch.ones(()))
    assert waits.counts.total() == 1
