"""The ledger of a batch: a line for each attempt at an item, in a local folder or in a remote store.

The same command resumes a batch. A batch with other options is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from stadia.core.config import StrictModel
from stadia.core.errors import DataError, RunError
from stadia.io.atomic_files import hold_folder, open_to_append
from stadia.io.input_files import is_url, parse_json, parse_json_lines
from stadia.io.output_files import check_output_folder
from stadia.io.remote_store import RemoteStore

Row = TypeVar("Row", bound=StrictModel)

LEDGER = "ledger.jsonl"
MAX_LEDGER_BYTES = 1 << 30

UPLOAD_EVERY = 20
"""Number of results between two uploads of the ledger to a remote store, because each upload writes the whole file."""


class Ledger(Generic[Row]):
    """The results of a batch by item, appended to a local file, or uploaded whole to a remote store.

    out: folder or URL of the batch.
    rows: results of earlier calls.
    name_field: the field of a row that has the name of its item.
    is_resumed: whether an earlier call began this batch.
    """

    def __init__(self, out: str, rows: Sequence[Row], name_field: str, *, is_resumed: bool) -> None:
        self._name_field = name_field
        self.results: dict[str, Row] = {getattr(row, name_field): row for row in rows}
        self.is_resumed = is_resumed
        self._lines = [row.model_dump_json() for row in rows]
        self._store = RemoteStore(out) if is_url(out) else None
        self._file = Path(out) / LEDGER
        self._added = 0

    def add(self, row: Row) -> None:
        """Record the result of an item; to a remote store it is uploaded with the next UPLOAD_EVERY results."""
        line = row.model_dump_json()
        self.results[getattr(row, self._name_field)] = row
        self._added += 1
        if self._store is None:
            with open_to_append(self._file) as stream:
                stream.write(f"{line}\n".encode())
            return
        self._lines.append(line)
        if self._added % UPLOAD_EVERY == 0:
            self.close()

    def close(self) -> None:
        """Upload the ledger if it is in a remote store."""
        if self._store is not None:
            self._store.write(LEDGER, "".join(f"{line}\n" for line in self._lines).encode())


def open_ledger(
    out: str,
    held: contextlib.ExitStack,
    row_type: type[Row],
    *,
    record: str,
    kind: str,
    name_field: str,
    described: Mapping[str, Any],
    update: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Ledger[Row]:
    """Begin a batch, or resume it.

    out: folder or URL of the batch.
    held: keeps the folder for this process until it closes.
    row_type: class of the rows.
    record: name of the file with the options of the batch.
    kind: kind of the output folder, a key of `output_files.MARKS`.
    name_field: the field of a row that has the name of its item.
    described: the options of this call.
    update: gives the options of an earlier version of stadia their present names and defaults.

    Raises RunError if the folder has a batch with other options.
    """
    text = json.dumps(described, indent=2, sort_keys=True, default=str)
    store = RemoteStore(out)
    if not is_url(out):
        held.enter_context(hold_folder(Path(out)))
        check_output_folder(Path(out), record, kind, fix="choose another --out")
    if not store.exists(record):
        store.write(record, text.encode())
        return Ledger[Row](out, (), name_field, is_resumed=False)
    wanted = parse_json(record, text, kind)
    before = parse_json(store.join(record), store.read(record, max_bytes=1 << 24).decode("utf-8", "replace"), kind)
    if isinstance(before, dict):
        before = update(before)
    if before != wanted:
        changed = sorted(key for key in wanted if not isinstance(before, dict) or before.get(key) != wanted[key])
        found, expected = f"{kind} with other {', '.join(changed)}", "the same options"
        raise RunError(store.join(record), found=found, expected=expected, fix="choose another --out")
    return Ledger(out, read_rows(out, row_type), name_field, is_resumed=True)


def read_rows(out: str, row_type: type[Row]) -> list[Row]:
    """Return the rows of the ledger of a batch; damaged lines are left out.

    out: folder or URL of the batch.
    row_type: class of the rows.
    """
    store = RemoteStore(out)
    if not store.exists(LEDGER):
        return []
    text = store.read(LEDGER, max_bytes=MAX_LEDGER_BYTES).decode("utf-8", "replace")
    rows = []
    for row in parse_json_lines(store.join(LEDGER), text, "a ledger of a batch"):
        if isinstance(row, DataError) or not isinstance(row, dict) or not row_type.model_fields.keys() >= row.keys():
            continue
        with contextlib.suppress(ValidationError):  # its item is tried again
            rows.append(row_type.model_validate(row))
    return rows
