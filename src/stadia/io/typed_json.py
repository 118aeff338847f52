"""Read JSON that other programs write as a type, and name the first wrong key."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stadia.core.errors import DataError
from stadia.io.input_files import MAX_TEXT_BYTES, read_json


class FileEntry(BaseModel):
    """An entry of a file that other programs write. Unknown keys are allowed."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


def validate_content(path: object, content: Any, kind: Any, *, expected: str, fix: str) -> Any:
    """Convert the parsed content of a file to a type.

    path: the file, for messages.
    content: its content, such as parsed JSON.
    kind: the type, such as a pydantic model.
    expected: description of a valid file, for messages.
    fix: what the user can do, for messages.

    Raises DataError, with the file and the first wrong key, if the content does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))[:100] or "the file"
        raise DataError(path, found=f"{key}: {problem['msg']}", expected=expected, fix=fix) from error


def read_typed_json(path: Path, kind: Any, *, expected: str, fix: str, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a JSON file and convert its content to a type, such as a pydantic model.

    Takes the same arguments and raises the same exceptions as `validate_content`.
    """
    return validate_content(path, read_json(path, max_bytes=max_bytes), kind, expected=expected, fix=fix)
