"""Floors of the installation: which extra installs a library, and the error if a floor is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from stadia.core.errors import StadiaError


@dataclass(frozen=True)
class Floor:
    """A floor above the first one, which `pip install 'stadia[NAME]'` installs.

    libraries: modules that the floor installs, and that no lower floor has.
    """

    libraries: tuple[str, ...]


FLOORS = {
    "depth": Floor(("onnx", "onnxruntime")),
    "train": Floor(("torch", "huggingface_hub", "lightning_fabric", "numba", "safetensors", "tensorboard", "timm")),
}
"""Floors by the name of their extra, the lower one first. The first floor, `pip install stadia`, needs no extra."""


class MissingFloorError(StadiaError):
    """Raised if a command or function needs a floor that is not installed.

    library: the module that is missing.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        extra = next(name for name, floor in FLOORS.items() if library in floor.libraries)
        fix = f"pip install 'stadia[{extra}]'"
        super().__init__(library, found="no such module", expected=f"the {extra} floor of stadia", fix=fix)
        self.args = (f"This needs the {extra} floor of stadia. Install it: {fix}",)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.library,)


def is_installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    try:
        return find_spec(library) is not None
    except ImportError:
        return False


def require_library(library: str) -> None:
    """Raise MissingFloorError if a library of a floor is not installed."""
    if not is_installed(library):
        raise MissingFloorError(library)


def find_missing_floor(error: BaseException) -> MissingFloorError | None:
    """Return the error of a floor that is not installed, if a failed import is one of its libraries; otherwise None.

    An installed library that lacks a module is too old, which is another error.

    Examples:
        >>> print(find_missing_floor(ModuleNotFoundError(name="torch")))
        This needs the train floor of stadia. Install it: pip install 'stadia[train]'
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    library = (name or "").partition(".")[0]
    if not any(library in floor.libraries for floor in FLOORS.values()):
        return None
    return MissingFloorError(library) if name == library or not is_installed(library) else None


@contextmanager
def name_missing_floor() -> Iterator[None]:
    """Raise MissingFloorError in place of the error of an import, if the import needs a floor that is not installed.

    It is also a decorator of a function that imports inside.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (missing := find_missing_floor(error)) is not None:
            raise missing from error
        raise
