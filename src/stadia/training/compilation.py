"""Compile the networks and the loss of a recipe with torch.compile, by `training.compile`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

COMPILED_PARTS: dict[str, frozenset[str]] = {
    "off": frozenset(),
    "loss": frozenset({"loss"}),
    "networks": frozenset({"networks"}),
    "all": frozenset({"loss", "networks"}),
    "graphs": frozenset({"loss", "networks"}),
}
"""Value of `training.compile` -> what it compiles. "graphs" also replays CUDA graphs, for images of one size."""


class CompilableRecipe(Protocol):
    """The part of a recipe that is compiled."""

    def modules_to_compile(self) -> Iterable[nn.Module]:
        """Return the modules whose forward a training step calls."""

    def compile_loss(self, **options: Any) -> None:
        """Compile the loss with the options of torch.compile."""


def compile_recipe(recipe: CompilableRecipe, kind: str) -> None:
    """Compile a recipe in place. Names of weights, hooks and checkpoints stay.

    The code is generated at the first batch of each image size, which takes a minute or more, and kept on disk.

    kind: a value of `training.compile` but "auto".
    """
    parts = COMPILED_PARTS[kind]
    if parts:
        keep_compiled_code_private()
    options: dict[str, Any] = {"dynamic": False} | ({"mode": "reduce-overhead"} if kind == "graphs" else {})
    if "networks" in parts:
        for module in recipe.modules_to_compile():
            module.compile(**options)
    if "loss" in parts:
        recipe.compile_loss(**options)


def begin_graph() -> None:
    """Let CUDA graphs write into the tensors of their last replay."""
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def keep_compiled_code_private() -> None:
    """Let torch keep compiled code in a private folder of the user, unless TORCHINDUCTOR_CACHE_DIR names another.

    Its default is a folder of a known name in /tmp, which another user may create first; it holds programs.
    """
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    from stadia.process.numba_jit import find_kernel_cache  # Numba is slow to import

    private = find_kernel_cache()
    folder = Path(tempfile.mkdtemp(prefix="stadia-compiled-")) if private is None else private / "torch"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
