"""Audit a dataset: `stadia audit DATASET --out FOLDER`. The same command resumes an interrupted audit.

OUT/audit.json has the options, OUT/ledger.jsonl a line for each attempt at an item.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from stadia.audit.audit_files import write_tables
from stadia.audit.common_faults import CommonFault, find_common_faults
from stadia.audit.items import RECORD, AuditItem, list_items
from stadia.audit.judge_item import ItemVerdict, JudgeOptions, make_judge
from stadia.audit.show_audit import PAGE, compare_audits, write_page
from stadia.batches.engines import LOST, check_engine, run_items
from stadia.batches.ledger import open_ledger
from stadia.core.errors import ConfigError, DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict
from stadia.io.input_files import check_path_exists, expand_home, is_glob, make_absolute

FORMAT, VERSION = "stadia-audit", 1


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """The arguments of `stadia audit`.

    dataset: a folder, a glob, or a CSV of items.
    out: folder of the audit.
    judge: how items are judged.
    workers: number of processes; 0 judges in this process.
    engine: what runs the processes, see `stadia.batches.engines.run_items`.
    compare: folder of an earlier audit whose grades are compared; None without.
    """

    dataset: Path
    out: Path
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    workers: int = 1
    engine: str = "local"
    compare: Path | None = None


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    verdicts: verdicts on all items, in the order of the dataset.
    common: faults that items share.
    changes: name, grade before and grade now of items whose grade changed since the audit that is compared.
    judged: names of the items that this call judged.
    files: names of the tables that were written.
    """

    verdicts: Sequence[ItemVerdict]
    common: Sequence[CommonFault]
    changes: Sequence[tuple[str, str, str]]
    judged: Sequence[str]
    files: Sequence[str]

    @property
    def before(self) -> int:
        """Return the number of items that earlier calls had judged."""
        return len(self.verdicts) - len(self.judged)

    @property
    def bad_share(self) -> float:
        """Return the share of items that are bad, 0 to 1."""
        return sum(verdict.is_bad for verdict in self.verdicts) / len(self.verdicts)

    @property
    def open_share(self) -> float:
        """Return the share of items that are not judged, 0 to 1."""
        grades = [verdict.grade for verdict in self.verdicts if not verdict.is_bad]
        return grades.count(str(Verdict.NOT_JUDGED)) / len(self.verdicts)


def run_audit(request: AuditRequest, track: TrackProgress = no_progress) -> Audit:
    """Judge every item of a dataset that is not done yet, find common faults, and write the tables.

    Items that failed before are tried again.

    request: the arguments.
    track: shows progress.

    Raises DataError for a wrong dataset, RunError if the folder belongs to another audit.
    """
    check_engine(request.engine)
    return _audit_items(request, list_items(request.dataset), track)


SETTLED_S = 10.0
"""Time since the last change of an item's files after which it counts as complete, seconds."""


def watch_audit(
    request: AuditRequest,
    track: TrackProgress = no_progress,
    *,
    pause_s: float = SETTLED_S,
    settled_s: float = SETTLED_S,
) -> Iterator[Audit]:
    """Judge what arrives in a dataset, and yield the audit of all items each time that some were judged. It never ends.

    An item is judged once, when its files have not changed for some time.

    request: the arguments.
    track: shows progress.
    pause_s: time between two looks at the dataset, seconds.
    settled_s: time without a change, seconds.

    Raises RunError if the folder belongs to another audit.
    """
    check_engine(request.engine)
    if not is_glob(request.dataset):
        check_path_exists(expand_home(request.dataset))
    seen = dict[str, AuditItem]()
    while True:
        listed = list[AuditItem]()
        try:
            listed = list_items(request.dataset)
        except DataError:  # nothing has arrived, or a scene is being written
            if request.dataset.suffix.lower() == ".csv":
                raise
        find_change_s = functools.cache(_find_change_s)  # recordings of some datasets share a folder
        arrived = [
            item
            for item in listed
            if item.name not in seen
            and all(time.time() - find_change_s(place) >= settled_s for place in _list_places(item))
        ]
        if arrived:
            seen.update({item.name: item for item in arrived})
            yield _audit_items(request, [item for item in listed if item.name in seen], track)
        time.sleep(pause_s)


LOOPBACK = ("127.0.0.1", "localhost", "::1")
WEBHOOK_S = 10.0
"""Longest time that a webhook may take, seconds."""


def check_webhook(url: str) -> None:
    """Raise ConfigError for a webhook that is not an http address of this machine.

    An audit names files of the machine, which it sends nowhere else.
    """
    try:
        parts = urlsplit(url)
        is_local = (
            url.isascii()
            and not set(url) & set(" \t\r\n")
            and parts.scheme == "http"
            and parts.hostname in LOOPBACK
            and (parts.port or 80) > 0
        )
    except ValueError:  # a port that is no number
        is_local = False
    if not is_local:
        expected, fix = "an http address of this machine", "pass http://127.0.0.1:PORT/PATH"
        raise ConfigError("--webhook", found=url, expected=expected, fix=fix)


def call_webhook(url: str, audit: Audit) -> str:
    """Post the verdicts on the items that were judged, as JSON. Return why that failed, "" otherwise.

    url: an address that `check_webhook` passes.
    audit: the audit of all items so far.
    """
    parts, judged = urlsplit(url), set(audit.judged)
    new = [verdict.model_dump() for verdict in audit.verdicts if verdict.item in judged]
    body = json.dumps({"items": len(audit.verdicts), "bad_share": audit.bad_share, "judged": new}, allow_nan=False)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=WEBHOOK_S)
    try:
        connection.request("POST", target, body.encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return "" if answer.status < 300 else f"{url} returned {answer.status}"
    except (OSError, HTTPException) as error:
        return f"{url} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()


def _list_places(item: AuditItem) -> list[Path]:
    return [path for path in (item.folder or item.images, item.result) if path is not None]


def _find_change_s(place: Path) -> float:
    """Return the time of the last change of a file, or of the files in a folder, seconds since 1970."""
    times_s = [0.0]
    for file in (place, *(place.rglob("*") if place.is_dir() else ())):
        with contextlib.suppress(OSError):  # a temporary file
            times_s.append(file.stat().st_mtime)
    return max(times_s)


def _audit_items(request: AuditRequest, items: Sequence[AuditItem], track: TrackProgress) -> Audit:
    if request.compare is not None:
        compare_audits(request.compare, ())  # a wrong folder is found before the items are judged
    out = make_absolute(request.out)
    judge = replace(request.judge, proof=out)
    with contextlib.ExitStack() as held:
        ledger = open_ledger(
            str(out),
            held,
            ItemVerdict,
            record=RECORD,
            kind="audit",
            name_field="item",
            described=_describe_request(request),
        )
        done = {name for name, verdict in ledger.results.items() if verdict.state == "done"}
        pending = [item for item in items if item.name not in done]
        for verdict in track(_judge_items(pending, judge, request), len(pending), "judging items"):
            ledger.add(verdict)
        names = {item.name: dict(item.groups) for item in items}
        verdicts = [
            ledger.results[name].model_copy(update={"groups": groups})  # more items may give more groups
            for name, groups in names.items()
        ]
        common = find_common_faults(verdicts)
        changes = [] if request.compare is None else compare_audits(request.compare, verdicts)
        files = [*write_tables(out, verdicts, common), PAGE]
        write_page(out, request.dataset.name, verdicts, common, changes)
    return Audit(verdicts, common, changes, [item.name for item in pending], files)


def _judge_items(items: Iterable[AuditItem], options: JudgeOptions, request: AuditRequest) -> Iterator[ItemVerdict]:
    for item, verdict in run_items(items, functools.partial(make_judge, options), request.workers, request.engine):
        yield verdict if verdict is not None else ItemVerdict(item=item.name, state="failed", reason=LOST)


def _describe_request(request: AuditRequest) -> dict[str, object]:
    judge = asdict(replace(request.judge, purposes=(), proof=None))
    judge["purposes"] = [purpose.key for purpose in request.judge.purposes]
    return {"format": FORMAT, "version": VERSION, "dataset": str(make_absolute(request.dataset)), **judge}
