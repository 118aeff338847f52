"""Assert the fields of errors, so that a message can be rephrased without a test that fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import pytest

from stadia.core.errors import ConfigMistakes, StadiaError

ErrorT = TypeVar("ErrorT", bound=StadiaError)


@contextmanager
def refuses(
    kind: type[ErrorT] | tuple[type[ErrorT], ...],
    *,
    where: object = (),
    found: object = (),
    expected: object = (),
    fix: object = (),
    names: tuple[str, ...] = (),
) -> Iterator[pytest.ExceptionInfo[ErrorT]]:
    """Assert that the block raises `kind`, and that each given field contains its value, or each of a tuple, as text.

    Each of `names` is in any of the fields. Of several mistakes in a configuration, one has all of them.

    Examples:
        >>> with refuses(DataError, where="scene.json", found=("3", "images")):
        ...     raise DataError("a/scene.json", found="3 images", expected="4")
    """
    with pytest.raises(kind) as raised:
        yield raised
    error = raised.value
    wanted = {"where": where, "found": found, "expected": expected, "fix": fix}
    errors: list[StadiaError] = [*error.mistakes] if isinstance(error, ConfigMistakes) else [error]
    missing = [describe_missing(one, wanted, names) for one in errors]
    assert "" in missing, f"{missing[0]}: {error}"


def describe_missing(error: StadiaError, wanted: Mapping[str, object], names: tuple[str, ...]) -> str:
    """Return the first part that a field of the error lacks, or the error as a whole, or an empty text."""
    for name, parts in wanted.items():
        field = getattr(error, name) or ""
        for part in parts if isinstance(parts, tuple) else (parts,):
            if str(part) not in field:
                return f"{name} '{field}' has no '{part}'"
    fields = (error.where, error.found, error.expected, error.fix or "")
    return next((f"no field has '{name}'" for name in names if not any(name in field for field in fields)), "")
