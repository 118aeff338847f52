"""Load a package's own `__init__.py` only when one of its attributes is used.

`import lightning.fabric` first runs `lightning/__init__.py`, which loads all of Lightning, torchmetrics, transformers
and torchvision; `import timm` runs those of torchvision for one class. A command would wait seconds for modules that it
never uses.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any


def defer_packages(packages: Mapping[str, Mapping[str, str]]) -> None:
    """Register packages whose submodules import as usual, and whose own code runs at the first use of an attribute.

    A package that is imported already or is not installed stays as it is.

    Args:
        packages: name -> attributes that are given in advance, such as `__version__`. Parents come first.

    Example:
        >>> defer_packages({"xml.dom": {}})
        >>> import xml.dom
        >>> xml.dom.Node.__name__
        'Node'
    """
    for name, attributes in packages.items():
        if name in sys.modules or (spec := find_spec(name)) is None or spec.loader is None:
            continue
        module: Any = module_from_spec(spec)
        vars(module).update(attributes, __getattr__=_Loader(module))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


class _Loader:
    """The `__getattr__` of a deferred package: imports a submodule, or else runs the package, once."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # of the import system, which also works without
            raise AttributeError(attribute)
        child = f"{self.module.__name__}.{attribute}"
        if child in sys.modules or find_spec(child) is not None:  # `from package import module`
            return import_module(child)
        if vars(self.module).get("__getattr__") is self:
            del self.module.__getattr__
            self.module.__spec__.loader.exec_module(self.module)
        return getattr(self.module, attribute)
