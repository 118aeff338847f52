"""Map names of interchangeable components (networks, losses, ...) to the modules that define them.

Nothing is imported until a component is used.
"""

import difflib
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stadia.core.errors import CheckpointError, ConfigError, summarize_exception
from stadia.core.floors import find_missing_floor, name_missing_floor


def find_nearest_name(name: str, valid: Mapping[str, object] | list[str], *, similarity: float = 0.65) -> str | None:
    """Return the valid name that is most similar to a misspelt one; None if no name is similar enough.

    name: the misspelt name.
    valid: the valid names.
    similarity: smallest similarity, from 0 to 1 (see `difflib`).

    Examples:
        >>> find_nearest_name("optimser", ["optimizer", "schedule"])
        'optimizer'
    """
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=similarity)
    return found[0] if found else None


class Registry(Mapping[str, str]):
    """A read-only mapping from the name of a component, such as a network, to its place "module:attribute".

    With `entry_points`, a name may also be an entry point of an installed package, or `module:attribute` of any module
    on Python's path. The current folder is on this path only with `PYTHONPATH=. stadia ...`.

    kind: singular name of the components for error messages ("loss", "dataset").
    parts: `"package.module:attribute"` by the name of the component.
    refused: names that users give by mistake, with the reason why they are refused.
    entry_points: group of entry points of other packages, such as "stadia.depth_networks".
    """

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, str],
        refused: Mapping[str, str] | None = None,
        *,
        entry_points: str | None = None,
    ) -> None:
        self.kind = kind
        self.entry_points = entry_points
        self._parts = dict(parts)
        self._refused = dict(refused or {})

    def __getitem__(self, name: str) -> str:
        self.check(name)
        return self._find(name) or name

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def check(self, name: str) -> str:
        """Return a name unchanged if the registry contains it. Nothing is imported.

        Raises ConfigError for an unknown name; the message shows the nearest valid name.
        """
        if name not in self._refused and (self._find(name) or self._is_own(name)):
            return name
        near = find_nearest_name(name, self._parts)
        fix = self._refused.get(name) or (f"did you mean '{near}'?" if near else "see `stadia list`")
        own = " or module:attribute of your own" if self.entry_points else ""
        raise ConfigError(self.kind, found=f"'{name}'", expected=f"one of {', '.join(self._parts)}{own}", fix=fix)

    def load(self, name: str) -> Any:
        """Import the component with this name and return it (a class, function or module attribute).

        Raises ConfigError for an unknown name, or if a component of your own cannot be imported; MissingFloorError if
        the component needs a floor that is not installed.
        """
        module, _, attribute = self[name].partition(":")
        if self._find(name) in self._parts.values():
            return load_part(self[name])
        return self._load_own(name, module, attribute)

    def _find(self, name: str) -> str | None:
        if name in self._parts or self.entry_points is None:
            return self._parts.get(name)
        from importlib import metadata  # takes 60 ms, which `stadia --help` can do without

        found = metadata.entry_points(group=self.entry_points, name=name)
        return next((entry_point.value for entry_point in found), None)

    def _is_own(self, name: str) -> bool:
        return self.entry_points is not None and OWN_PART.fullmatch(name) is not None

    def _load_own(self, name: str, module: str, attribute: str) -> Any:
        expected = f"a {self.kind} on Python's path"
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (missing := find_missing_floor(error)) is not None:
                raise missing from error
            found = f"'{name}', but the module '{error.name}' does not exist"
            fix = "install its package, or put its folder on the path: PYTHONPATH=FOLDER stadia ..."
            raise ConfigError(self.kind, found=found, expected=expected, fix=fix) from error
        except Exception as error:
            found = f"'{name}', whose import fails ({summarize_exception(error)})"
            raise ConfigError(self.kind, found=found, expected=expected) from error
        if not hasattr(loaded, attribute):
            near = find_nearest_name(attribute, [key for key in vars(loaded) if not key.startswith("_")])
            fix = f"did you mean '{module}:{near}'?" if near else f"define it in {module}"
            found = f"'{name}', and {module} has no '{attribute}'"
            raise ConfigError(self.kind, found=found, expected=expected, fix=fix)
        part = getattr(loaded, attribute)
        if not callable(part):
            found = f"'{name}', which is {type(part).__name__}"
            raise ConfigError(self.kind, found=found, expected="a class or a function")
        allow_code([name])
        return part


def load_part(place: str) -> Any:
    """Import an attribute of stadia by its place, "module:attribute", such as a function of a higher floor.

    Raises MissingFloorError if its floor is not installed.

    Examples:
        >>> load_part("stadia.core.registry:find_nearest_name").__name__
        'find_nearest_name'
    """
    module, _, attribute = place.partition(":")
    with name_missing_floor():
        return getattr(importlib.import_module(module), attribute)


OWN_PART = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""Form of the name of your own component: `module:attribute`."""


ALLOWED_CODE = "STADIA_ALLOW_CODE"
"""Environment variable with the names of your own components that files may name, separated by spaces, or `*` for any.
"""


def allow_code(names: Iterable[str]) -> None:
    """Allow checkpoints and runs to name these components of your own.

    This holds in this process and in processes that it starts.
    """
    allowed = os.environ.get(ALLOWED_CODE, "").split()
    if new := [name for name in names if name not in allowed]:
        os.environ[ALLOWED_CODE] = " ".join([*allowed, *new])


def refuse_code(path: object, values: Any) -> None:
    """Raise CheckpointError if the configuration in a file names a component of your own that was not allowed.

    path: the file that an error message names.
    values: the configuration.
    """
    allowed, left = os.environ.get(ALLOWED_CODE, "").split(), [values]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            left += value
        if isinstance(value, str) and OWN_PART.fullmatch(value) and not {value, "*"}.intersection(allowed):
            found, expected = f"'{value}', code that the file would import", "parts of stadia or of installed packages"
            fix = "add --allow-code if you trust the file and this module"
            raise CheckpointError(path, found=found, expected=expected, fix=fix)
