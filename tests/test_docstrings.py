"""The examples in docstrings give the output that they print.

ruff's D100 to D104 (`make lint`) require a docstring of each module, function and class.
"""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "stadia").rglob("*.py"))
WITH_EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples_give_their_output(path: Path) -> None:
    """An example may use `torch`, `np` and every name of its module."""
    module = importlib.import_module(module_name(path))
    torch.manual_seed(0)
    tried = doctest.testmod(module, extraglobs={"torch": torch, "np": np}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried.attempted > 0
    assert tried.failed == 0
