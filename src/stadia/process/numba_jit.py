"""Compile Python loops with Numba, and keep the compiled code in a private folder of the user.

Numba caches pickles, which can run any code: `docs/explanation/security.md`.
"""

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

from stadia.files.paths import find_private_folder

_F = TypeVar("_F", bound=Callable[..., object])


def compile_loops(function: _F, *, fastmath: Collection[str] = ()) -> _F:
    """Compile a function at its first call, and cache the result on disk in a private folder.

    The kernel is serial and releases Python's global lock.

    fastmath: LLVM's freedoms of arithmetic ("contract", "arcp", ...). None by default, so results are bit-equal.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    kernel: Any = njit(function, **options)
    folder = find_kernel_cache()
    if folder is not None:
        with contextlib.suppress(RuntimeError, OSError):  # no file of the source, no space for the cache
            kernel._cache = _KernelCache(function, folder)
    return cast(_F, kernel)


def find_kernel_cache() -> Path | None:
    """Return the private folder of compiled code, or None."""
    return find_private_folder(f"numba-{numba.__version__}")


def _stamp_callees(function: Any) -> tuple[tuple[str, int, int], ...]:
    """Return name, time and size of other files whose kernels a function calls."""
    files, todo, seen = set[Path](), [function], set[Any]()
    while todo:
        caller = todo.pop()
        seen.add(caller)
        callees = (getattr(caller.__globals__.get(name), "py_func", None) for name in caller.__code__.co_names)
        todo += [callee for callee in callees if callee is not None and callee not in seen]
        files.add(Path(caller.__code__.co_filename))
    files.discard(Path(function.__code__.co_filename))
    stats = ((path, path.stat()) for path in sorted(files))
    return tuple((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


class _KernelCache(FunctionCache):
    """Numba's cache of one function in a given folder; a damaged entry is compiled again."""

    def __init__(self, function: Callable[..., object], folder: Path) -> None:
        before = config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(folder), ""  # not those of a file in the current folder
        try:
            super().__init__(function)
        finally:
            config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before
        if not Path(self.cache_path).is_relative_to(folder):
            raise RuntimeError("Numba chose another folder for its cache")
        stamps = self._impl.locator.get_source_stamp(), _stamp_callees(function)
        self._cache_file: Any = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamps)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged entry may raise anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk: the kernel is compiled, and runs
            super().save_overload(sig, data)
