"""Checkpoints: what is written is read back exactly, and what is damaged or foreign is refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from tests.refusals import refuses
from tests.training.loop import small_recipe
from torch import nn

from stadia.core.errors import CheckpointError
from stadia.io.run_facts import RecipeFacts
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, load_weights, write_checkpoint

HEADER = CheckpointHeader(
    recipe="small", config={"a": {"b": 1.5}}, kind="training", step=12, epoch=1, metrics={"val/error": 0.25}
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(0.5), b.nan_to_num(0.5))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or a != a


def nest() -> dict[str, Any]:
    shared = torch.randn(6)
    return {
        "state_dict": {
            "w": torch.randn(2, 3),
            "half": torch.randn(3).bfloat16(),
            "count": torch.tensor(7),
            "mask": torch.tensor([True, False]),
        },
        "optimizer_states": [
            {
                "state": {0: {"step": torch.tensor(3.0), "avg": torch.empty(0)}},
                "param_groups": [{"betas": (0.9, 0.999), "params": [0]}],
            }
        ],
        "odd": {
            "none": None,
            "true": True,
            "big": 2**60,
            "pi": 0.1 + 0.2,
            "inf": float("inf"),
            "nan": float("nan"),
            "text": "ü/$x",
            "$key": 1,
        },
        "views": [
            shared,
            shared[2:],
            torch.randn(4, 4).t(),
            torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
        ],
        "empty": {},
    }


def test_nested_state_is_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    value = nest()
    write_checkpoint(path, HEADER, value)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.header == HEADER
    assert same(checkpoint.state(), value)
    assert sorted(checkpoint.weights()) == ["count", "half", "mask", "w"]
    description = json.loads(path.with_suffix(".json").read_text())
    assert (description["recipe"], description["step"], description["metrics"]) == ("small", 12, {"val/error": 0.25})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda v: v.update(version=2), ("2", "4")),
        (lambda v: v.update(version="4"), ("4",)),
        (lambda v: v.update(format="another"), ("4",)),
        (lambda v: v.update(kind="both"), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(step=-1), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(step=10**15), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(epoch=-1), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(metrics={"a": "inf"}), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(recipe="x" * 1000), ("last.safetensors", "ValidationError")),
        (lambda v: v.pop("recipe"), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(step="many"), ("last.safetensors", "ValidationError")),
        (lambda v: v.update(checksum="0"), ("last.safetensors", "changed")),
        (lambda v: v.update(state={"$tensor": "gone"}), ("last.safetensors",)),
        (lambda v: v.update(state={"$items": [1]}), ("last.safetensors",)),
    ],
)
def test_headers_from_outside_are_checked(tmp_path: Path, change, names: tuple[str, ...]) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, HEADER, {"w": torch.zeros(2)})
    with safetensors.safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["stadia"])
    change(values)
    text = json.dumps(values)
    metadata = {"stadia": text, "stadia-sha256": hashlib.sha256(text.encode()).hexdigest()}
    safetensors.torch.save_file({"w": torch.zeros(2)}, path, metadata=metadata)
    with refuses(CheckpointError, names=names):
        Checkpoint.open(path).state()


STORED = Path(__file__).parent / "checkpoint-of-version-3.safetensors"


def test_a_stored_checkpoint_opens() -> None:
    checkpoint = Checkpoint.open(STORED)
    assert (checkpoint.header.step, checkpoint.header.recipe) == (12, "selfsup")
    weights = checkpoint.weights()
    assert weights["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["half"].dtype == torch.bfloat16
    state = checkpoint.state()
    assert (state["betas"], state["best"]) == ((0.9, 0.999), float("inf"))
    assert state["optimizer"]["state"][0]["exp_avg"].item() == 0.25


@pytest.mark.parametrize("place", range(0, 2000, 97))
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, place: int) -> None:
    data = bytearray(STORED.read_bytes())
    data[place % len(data)] ^= 1 << (place % 8)
    path = tmp_path / "last.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        Checkpoint.open(path).state()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, foreign)
    with refuses(CheckpointError, where="foreign.safetensors"):
        Checkpoint.open(foreign)
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickled.ckpt")
    (tmp_path / "K.txt").write_text("700 0 320\n0 700 96\n0 0 1\n")
    (tmp_path / "config.json").write_text('{"name": "test"}')
    (tmp_path / "empty.pth").touch()
    with refuses(CheckpointError, where="pickled.ckpt"):
        Checkpoint.open(tmp_path / "pickled.ckpt")
    torch.save({"w": torch.zeros(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with refuses(CheckpointError, where="old.pth", fix="stadia import"):
        Checkpoint.open(tmp_path / "old.pth")
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 0 1")
    with refuses(CheckpointError, where="path.txt", fix="evaluate --trajectory"):
        Checkpoint.open(tmp_path / "path.txt")
    for name in ("K.txt", "config.json", "empty.pth"):
        with refuses(CheckpointError, where=name):
            Checkpoint.open(tmp_path / name)
    with refuses(CheckpointError, where="nothing.safetensors"):
        Checkpoint.open(tmp_path / "nothing.safetensors")


def test_run_folder_opens_its_best_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.open(tmp_path)
    folder = tmp_path / "checkpoints"
    write_checkpoint(folder / "last.safetensors", HEADER, {})
    assert Checkpoint.open(tmp_path).path == folder / "last.safetensors"
    write_checkpoint(folder / "best.safetensors", HEADER, {})
    assert Checkpoint.open(tmp_path).path == folder / "best.safetensors"
    assert Checkpoint.open(folder / "last.json").path == folder / "last.safetensors"


# -- weights into a module
# ------------------------------------------------------------------------------------------------


def saved(path: Path, module: nn.Module, recipe: str = "small") -> Checkpoint:
    write_checkpoint(path, HEADER.model_copy(update={"recipe": recipe}), {"state_dict": module.state_dict()})
    return Checkpoint.open(path)


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path / "a.safetensors", nn.Linear(2, 3), recipe="supervised")
    with refuses(CheckpointError, where="a.safetensors", found="supervised", expected="small"):
        load_weights(checkpoint, nn.Linear(2, 3), recipe="small")
    with refuses(CheckpointError, where="a.safetensors", expected=("small", "large")):
        load_weights(checkpoint, nn.Linear(2, 3), recipe=("small", "large"))
    load_weights(checkpoint, nn.Linear(2, 3), recipe=("small", "supervised"))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.Linear(2, 4), ("weight", "3", "2", "4")),
        (nn.Linear(2, 3, bias=False), ("bias",)),
        (nn.Sequential(nn.Linear(2, 3)), ("0.weight",)),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(
    tmp_path: Path, module: nn.Module, names: tuple[str, ...]
) -> None:
    checkpoint = saved(tmp_path / "a.safetensors", nn.Linear(2, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with refuses(CheckpointError, names=names):
        load_weights(checkpoint, module, recipe="small")
    assert same(dict(module.state_dict()), before)


class Published(small_recipe.SmallRecipe):
    @property
    def run_metadata(self) -> RecipeFacts:
        return RecipeFacts(licence="CC-BY-NC-4.0", scale_from="a stereo pair")


@pytest.mark.slow
def test_a_checkpoint_alone_has_its_licence_and_where_its_metres_come_from(tmp_path: Path) -> None:
    run, _ = small_recipe.train(tmp_path, recipe=Published())
    for name in ("best", "last"):
        checkpoint = Checkpoint.open(run.checkpoints / f"{name}.safetensors")
        assert (checkpoint.licence, checkpoint.header.scale_from) == ("CC-BY-NC-4.0", "a stereo pair")
