"""Kernels compile with a cache and without one, and nobody pays for Numba who runs none."""

import importlib
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import numba
import pytest

from stadia.process import numba_jit

KERNEL = """
from stadia.process.numba_jit import compile_loops

@compile_loops
def double(x):
    return 2 * x
"""
CALLER = """
from helper import double
from stadia.process.numba_jit import compile_loops

@compile_loops
def call(x):
    return double(x)
"""
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
import kernel
print(kernel.double(3.0), sum(kernel.double.stats.cache_hits.values()), kernel.double.stats.cache_path)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "kernel.py").write_text(KERNEL)
    return tmp_path / "cache"


def run_kernel(home: Path) -> tuple[int, str]:
    """Call a kernel of a module that is loaded anew; return the calls that the cache served, and its folder.

    The new module compiles for itself, as in a new process: only the files of the cache outlast the one before.
    `test_compiled_code_lies_in_a_private_folder_and_is_used_again` shows both to be equal.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home.parent / "source")
        patch.delitem(sys.modules, "kernel", raising=False)
        kernel = importlib.import_module("kernel")
        assert kernel.double(3.0) == 6.0
        del sys.modules["kernel"]
    return sum(kernel.double.stats.cache_hits.values()), str(kernel.double.stats.cache_path)


def run_process(home: Path, cwd: Path | None = None) -> tuple[int, str]:
    command = [sys.executable, "-c", PROGRAM, str(home.parent / "source"), str(Path(numba_jit.__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    value, hits, folder = done.stdout.strip().split(" ", 2)
    assert value == "6.0"
    return int(hits), folder


def private_folder(home: Path) -> Path:
    return home / "stadia" / f"numba-{numba.__version__}"


needs_modes = pytest.mark.skipif(sys.platform == "win32", reason="no modes of files")


@pytest.mark.slow
@needs_modes
def test_compiled_code_lies_in_a_private_folder_and_is_used_again(home: Path) -> None:
    hits, folder = run_process(home)
    assert (hits, private_folder(home)) == (0, Path(folder).parent)
    assert stat.S_IMODE(private_folder(home).stat().st_mode) == 0o700
    assert not list(home.parent.glob("source/**/*.nb*"))
    assert run_process(home) == run_kernel(home) == (1, folder)


@pytest.mark.slow
@needs_modes
@pytest.mark.parametrize("kind", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_a_damaged_entry_is_compiled_again(home: Path, kind: str, damage: str) -> None:
    run_kernel(home)
    (path,) = private_folder(home).glob(f"*/*{kind}")
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "noise": b"garbage" * 20, "cut": data[: len(data) // 2]}[damage])
    assert run_kernel(home)[0] == 0
    assert run_kernel(home)[0] == 1, "the entry was not built again"


def test_arithmetic_is_exact_without_fastmath() -> None:
    @numba_jit.compile_loops
    def exact(big: float, small: float) -> float:
        return (big + small) - big

    @partial(numba_jit.compile_loops, fastmath={"reassoc", "nsz"})
    def reordered(big: float, small: float) -> float:
        return (big + small) - big

    assert exact(1e16, 1.0) == 0.0  # rounded, as Python has it
    assert reordered(1e16, 1.0) == 1.0


def test_a_kernel_is_compiled_again_where_a_kernel_of_another_file_has_changed(home: Path) -> None:
    source = home.parent / "source"
    for factor in (2, 3):
        (source / "helper.py").write_text(KERNEL.replace("2 * x", f"{factor}.0 * x"))
        (source / "caller.py").write_text(CALLER)
        os.utime(source / "caller.py", (1, 1))
        os.utime(source / "helper.py", ns=(10**9 + factor, 10**9 + factor))  # within one second
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(source)
            patch.setattr(sys, "dont_write_bytecode", True)  # Python knows a source by its second and its size alone
            importlib.invalidate_caches()
            assert importlib.import_module("caller").call(3.0) == 3.0 * factor
            del sys.modules["caller"], sys.modules["helper"]


@pytest.mark.slow
def test_a_settings_file_in_the_current_folder_chooses_no_cache(home: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    settings = "cache_dir: stolen\ncache_locator_classes: InTreeCacheLocator"
    (tmp_path / "foreign" / ".numba_config.yaml").write_text(settings)
    assert Path(run_process(home, tmp_path / "foreign")[1]).parent == private_folder(home)
    assert not (tmp_path / "foreign" / "stolen").exists()
