"""Checkpoints of every version of the format: each opens as its version promises, or is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stadia.core.errors import CheckpointError
from stadia.training.checkpoint import Checkpoint

CORPUS = Path(__file__).parent / "corpus"
REFUSED = {
    "version-4": "found stadia-checkpoint version 4; expected stadia-checkpoint version 3",
    "other-digest": "a header with changed bytes",
    "negative-step": "an unreadable header",
    "step-of-400-digits": "an unreadable header",
    "epoch-negative": "an unreadable header",
    "metric-nan": "an unreadable header",
    "kind": "an unreadable header",
    "format": "found another version 3",
    "brackets": "an unreadable header",
    "no-header": "a safetensors file without a stadia header",
    "changed-tensor-version-2": "tensor '.*' with changed bytes",
    "changed-tensor-version-3": "tensor '.*' with changed bytes",
    "truncated-version-2": "a truncated or damaged file",
    "truncated-version-3": "a truncated or damaged file",
    "changed-header": "a header with changed bytes",
    "changed-shape": "tensor 'state_dict/weight' with changed bytes",
}


def test_every_file_of_the_corpus_is_tested() -> None:
    names = {path.stem for path in CORPUS.glob("*.safetensors")}
    assert names == {f"version-{number}" for number in (1, 2, 3)} | {f"refused-{name}" for name in REFUSED}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_version_opens(version: int) -> None:
    checkpoint = Checkpoint.open(CORPUS / f"version-{version}.safetensors")
    assert (checkpoint.version, checkpoint.header.step, checkpoint.header.recipe) == (version, 12, "selfsup")
    weights = checkpoint.weights()
    assert weights["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["half"].dtype == torch.bfloat16
    state = checkpoint.state()
    assert (state["betas"], state["best"]) == ((0.9, 0.999), float("inf"))
    assert state["optimizer"]["state"][0]["exp_avg"].item() == 0.25


def test_versions_from_2_on_can_be_resumed() -> None:
    for version in (2, 3):
        Checkpoint.open(CORPUS / f"version-{version}.safetensors").check_resumable()
    with pytest.raises(CheckpointError, match=r"found the training state of version 1; expected version 3\. Fix: set"):
        Checkpoint.open(CORPUS / "version-1.safetensors").check_resumable()


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_by_name(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"refused-{name}\.safetensors: .*{REFUSED[name]}.*Fix: ") as caught:
        Checkpoint.open(CORPUS / f"refused-{name}.safetensors").state()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", range(0, 2000, 37))
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, at: int) -> None:
    data = bytearray((CORPUS / "version-3.safetensors").read_bytes())
    data[at % len(data)] ^= 1 << (at % 8)
    path = tmp_path / "last.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        Checkpoint.open(path).state()
