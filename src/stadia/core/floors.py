"""Floors of the installation: which extra installs a library, and the error if a floor is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stadia.core.errors import StadiaError


@dataclass(frozen=True)
class Floor:
    """A floor above the first one, which `pip install 'stadia[NAME]'` installs.

    purpose: what needs the floor, as the subject of a sentence.
    libraries: modules that the floor installs, and that no lower floor has.
    """

    purpose: str
    libraries: tuple[str, ...]


FLOORS = {
    "depth": Floor("Predicting", ("onnx", "onnxruntime", "starlette", "uvicorn")),
    "train": Floor(
        "Training", ("torch", "huggingface_hub", "lightning_fabric", "numba", "safetensors", "tensorboard", "timm")
    ),
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
        self.args = (f"{FLOORS[extra].purpose} needs the {extra} floor. Install it: {fix}.",)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.library,)


def find_missing_floor(error: BaseException) -> MissingFloorError | None:
    """Return the error of a floor that is not installed, if a failed import is one of its libraries; otherwise None.

    Examples:
        >>> print(find_missing_floor(ModuleNotFoundError(name="torch.nn")))
        Training needs the train floor. Install it: pip install 'stadia[train]'.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    library = (name or "").partition(".")[0]
    return MissingFloorError(library) if any(library in floor.libraries for floor in FLOORS.values()) else None


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
