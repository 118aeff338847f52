"""Libraries that import torchvision load fast, and whether or not its compiled part does.

test_other_systems.py loads them after the shim.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from stadia.process.torchvision_shim import defer_packages


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_missing_operators_are_declared_where_the_compiled_part_cannot_load():
    done = python(
        "import torch\n"
        "def refuse(path): raise OSError('cannot load')\n"
        "torch.ops.load_library = refuse\n"
        "import stadia.process.torchvision_shim as shim\n"
        "assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms\n"
        "assert shim.declare_missing_operators() == []\n"
        "import torchvision\n"
    )
    assert done.returncode == 0, done.stderr[-500:]


# -- Packages whose own code waits for the first use of an attribute.


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "stadia_test_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from stadia_test_package.part import value\nloaded = True\n")
    (folder / "part.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("stadia_test_package", "stadia_test_package.part"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    return folder.name


def test_a_submodule_is_imported_without_the_package(package):
    defer_packages({package: {"__version__": "1.0"}})
    from stadia_test_package import part
    from stadia_test_package.part import value

    assert (part.value, value, sys.modules[package].__version__) == (7, 7, "1.0")
    assert "loaded" not in vars(sys.modules[package])


def test_an_attribute_runs_the_package(package):
    defer_packages({package: {}})
    import stadia_test_package

    assert stadia_test_package.loaded
    assert stadia_test_package.value == 7
    with pytest.raises(AttributeError, match="missing"):
        _ = stadia_test_package.missing


HEAVY = ("torch._dynamo", "torchvision.ops.poolers", "scipy.stats", "scipy.optimize", "matplotlib.figure", "numba")


NEEDLESS = {
    "stadia.predict.options, stadia.diagnostics.preflight.preflight_runner": ("torch", *HEAVY),  # of check
    "stadia.predict.depth_task, stadia.recipes.selfsup.recipe": HEAVY,
    "stadia.launch.workflow, stadia.recipes.selfsup.recipe, stadia.predict.depth_task": (
        "torchmetrics.functional",
        "lightning.pytorch",
        "transformers",
        *HEAVY[1:],
    ),
}
"""Modules of check, predict and train -> what they do not need."""


@pytest.mark.slow
def test_a_command_imports_nothing_that_it_does_not_need():
    steps = [
        f"import {modules}\nprint({name!r}, *sorted(sys.modules.keys() & {set(heavy)!r}))"
        for name, (modules, heavy) in zip(("check", "predict", "train"), NEEDLESS.items(), strict=True)
    ]
    program = "\n".join(["import sys", *steps])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["check", "predict", "train"]
