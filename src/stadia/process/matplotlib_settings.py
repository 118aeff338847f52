"""Import matplotlib without the `matplotlibrc` of the current folder, which can start programs."""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from stadia.core.errors import escape_controls


class SettingsFinder(MetaPathFinder):
    """Finds matplotlib, and hides one name from it while it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of matplotlib; None for every other module."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == "matplotlib" else None
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module
            loader.exec_module = lambda module: _run_without_local_settings(run, module)
        return spec


def _run_without_local_settings(run: Any, module: ModuleType) -> None:
    """Run matplotlib's first module, which looks for the relative path `matplotlibrc` first."""
    exists = os.path.exists
    os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
    try:
        run(module)
    finally:
        os.path.exists = exists


def install_settings_finder() -> None:
    """Make every later import of matplotlib in this process ignore the current folder."""
    if not any(isinstance(finder, SettingsFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, SettingsFinder())


def format_plot_text(text: str) -> str:
    r"""Return text that matplotlib draws unchanged: `$` starts no formula, and control characters are escaped."""
    return escape_controls(text).replace("$", r"\$")
