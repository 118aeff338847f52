"""Libraries that import torchvision load, whether or not its compiled part does.

test_other_systems.py loads them after the shim.
"""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_missing_operators_are_declared_where_the_compiled_part_cannot_load():
    """As if torchvision's library could not be loaded: both schemas are there, torchvision imports, nothing is declared
    twice.
    """
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


@pytest.mark.slow
def test_a_module_without_compilation_stays_a_module():
    """The compiler is loaded for functions at their first call alone; torch itself decorates all else, and says why."""
    done = python(
        "import sys, torch\n"
        "import stadia.process.torchvision_shim\n"
        "double = torch.compiler.disable(lambda x: 2 * x)\n"
        "triple = torch.compiler.disable(recursive=False)(lambda x: 3 * x)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "assert (double(3), triple(3)) == (6, 9)\n"
        "module = torch.compiler.disable(torch.nn.Linear(2, 2), reason='a test')\n"
        "assert isinstance(module, torch.nn.Module), type(module)\n"
    )
    assert done.returncode == 0, done.stderr[-500:]
