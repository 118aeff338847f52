"""Write the checkpoints of this folder: `python tests/training/corpus/make_corpus.py`.

The files are kept, and are not written again when the code changes: they show what earlier versions wrote.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

FOLDER = Path(__file__).parent
TENSORS = {
    "state_dict/weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "state_dict/half": torch.tensor([0.5, -1.0]).bfloat16(),
    "optimizer/state/0/exp_avg": torch.tensor(0.25),
}
HEADER: dict[str, Any] = {
    "format": "stadia-checkpoint",
    "recipe": "selfsup",
    "config": {"seed": 0, "optimizer": {"lr": 0.0001}},
    "kind": "training",
    "step": 12,
    "epoch": 1,
    "metrics": {"val/abs_rel": 0.25},
}
STATE = {
    "state_dict": {"weight": {"$tensor": "state_dict/weight"}, "half": {"$tensor": "state_dict/half"}},
    "optimizer": {"state": {"$items": [[0, {"exp_avg": {"$tensor": "optimizer/state/0/exp_avg"}}]]}},
    "betas": {"$tuple": [0.9, 0.999]},
    "best": {"$float": "inf"},
    "step": 12,
}


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.reshape(-1).view(torch.uint8).numpy().data)


def header(version: int, **changed: Any) -> dict[str, Any]:
    """Return the header of a version as it was written."""
    if version >= 3:
        sums: dict[str, Any] = {
            key: hashlib.sha256(f"{t.dtype} {tuple(t.shape)} ".encode() + raw(t)).hexdigest()
            for key, t in TENSORS.items()
        }
    else:
        sums = {key: zlib.crc32(raw(t)) for key, t in TENSORS.items()}
    return {**HEADER, "version": version, "state": STATE, "checksums": sums, **changed}


def write(name: str, values: dict[str, Any] | str | None, *, digest: str | None = None) -> Path:
    text = values if isinstance(values, str) else json.dumps(values)
    metadata = {"stadia": text} if values is not None else {"made": "elsewhere"}
    if isinstance(values, dict) and values["version"] >= 3:
        metadata["stadia-sha256"] = digest or hashlib.sha256(text.encode()).hexdigest()
    path = FOLDER / f"{name}.safetensors"
    safetensors.torch.save_file(TENSORS, path, metadata=metadata)
    return path


def damage(name: str, source: Path, change: Callable[[bytes], bytes]) -> None:
    (FOLDER / f"{name}.safetensors").write_bytes(change(source.read_bytes()))


def main() -> None:
    whole = [write(f"version-{version}", header(version)) for version in (1, 2, 3)]
    write("refused-version-4", header(4))
    write("refused-other-digest", header(3), digest="0" * 64)
    write("refused-negative-step", header(3, step=-1))
    write("refused-step-of-400-digits", json.dumps(header(2)).replace('"step": 12', f'"step": {"9" * 400}'))
    write("refused-epoch-negative", header(3, epoch=-7))
    write("refused-metric-nan", json.dumps(header(2)).replace("0.25", "NaN"))
    write("refused-kind", header(3, kind="code"))
    write("refused-format", header(3, format="another"))
    write("refused-brackets", "[" * 100_000)
    write("refused-no-header", None)
    for path in whole[1:]:
        damage(f"refused-changed-tensor-{path.stem}", path, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        damage(f"refused-truncated-{path.stem}", path, lambda data: data[:-1])
    damage("refused-changed-header", whole[2], lambda data: data.replace(b"0.0001", b"0.0009"))
    damage("refused-changed-shape", whole[2], lambda data: data.replace(b'"shape":[2,3]', b'"shape":[3,2]'))


if __name__ == "__main__":
    main()
