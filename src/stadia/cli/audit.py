"""`stadia audit`: judge every scene and recording of a dataset, and find the faults that many of them share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stadia.cli.options import EngineOption, JsonOption, argument, flag, number, option, refuse_options
from stadia.cli.output import echo, print_lines, show_progress
from stadia.cli.results import LEFT_OPEN, STOPPED
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from stadia.audit.run_audit import Audit

MAX_LISTED = 6
"""Most items and common faults that are listed; audit.csv and common.csv have all."""


def audit(
    context: typer.Context,
    dataset: Annotated[Path, argument("A folder of scenes, a quoted glob, or a CSV of results and images.")],
    out: Annotated[Path, option("A folder for audit.csv, common.csv, exclude.txt and pictures.")],
    purposes: Annotated[
        list[str] | None,
        typer.Option("--for", help="What items are to be good for: splats, mesh, measuring=1%, navigation."),
    ] = None,
    max_bad: Annotated[str, option("Largest share of bad items with exit code 0, such as 2%.")] = "0%",
    certainty: Annotated[float, number("Look at more images until a verdict is as certain.", show_default=True)] = 0.9,
    images: Annotated[int, typer.Option(min=4, help="Images of the first sample of an item.")] = 16,
    max_images: Annotated[int, typer.Option(min=4, help="Most images of an item.")] = 64,
    camera: Annotated[str | None, option("Camera of all results without one: a file, or fx=700,fy=700,...")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Number of processes; one for each processor.")] = None,
    engine: EngineOption = "local",
    compare: Annotated[Path | None, option("Folder of an earlier audit: list items whose grade changed.")] = None,
    watch: Annotated[bool, flag("--watch", "Judge what arrives in DATASET until you press Ctrl-C.")] = False,
    webhook: Annotated[
        str | None, option("With --watch: an address of this machine, such as http://127.0.0.1:8000/new, to post to.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every scene and recording of a dataset, and find the faults that many of them share.

    The same command resumes. Exits with 1 if more items are bad than --max-bad, and with 3 if this is open.
    """
    import os

    from stadia.audit.judge_item import JudgeOptions
    from stadia.audit.run_audit import AuditRequest, run_audit
    from stadia.io.input_files import check_path_exists, expand_home
    from stadia.judge.purposes import parse_purpose

    share = parse_share(max_bad)
    if not 0.5 <= certainty < 1:
        raise ConfigError("--certainty", found=certainty, expected="a probability from .5 to 1", fix="choose .9")
    if camera is not None and "=" not in camera:
        check_path_exists(expand_home(camera))
    judge = JudgeOptions(
        purposes=tuple(parse_purpose(text) for text in purposes or ()),
        certainty=certainty,
        images=images,
        max_images=max(images, max_images),
        calibration=camera,
    )
    count = (os.cpu_count() or 1) if workers is None else workers
    request = AuditRequest(
        dataset=expand_home(dataset),
        out=expand_home(out),
        judge=judge,
        workers=count,
        engine=engine,
        compare=None if compare is None else expand_home(compare),
    )
    if not watch:
        refuse_options(context, ["webhook"], found="no effect without --watch", expected="--watch")
    if watch:
        from stadia.audit.run_audit import call_webhook, check_webhook, watch_audit

        if webhook is not None:
            check_webhook(webhook)
        for found in watch_audit(request):
            if webhook is not None and (failure := call_webhook(webhook, found)):
                echo(f"note: {failure}", err=True)
            if as_json:
                echo(json.dumps(describe_audit(found), allow_nan=False))
            else:
                print_lines(list_lines(found, request.out))
        return
    with show_progress() as bars:
        found = run_audit(request, bars.track)
    code = find_exit_code(found, share)
    if as_json:
        echo(json.dumps(describe_audit(found), indent=2, allow_nan=False))
    else:
        print_lines(list_lines(found, expand_home(out)))
    if code:
        raise typer.Exit(code)


def parse_share(text: str) -> float:
    """Return the share that a user names, such as "2%" or ".02".

    Raises ConfigError for anything else.

    Examples:
        >>> parse_share("2%"), parse_share("0.05")
        (0.02, 0.05)
    """
    words = text.strip()
    try:
        value = float(words.removesuffix("%")) / (100 if words.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError("--max-bad", found=text, expected="a share such as 2%", fix="pass 2%")
    return value


def find_exit_code(audit: Audit, max_bad: float) -> int:
    """Return 0 if at most a share of the items is bad, 1 if more are, and 3 if the items that are not judged decide."""
    if audit.bad_share > max_bad:
        return STOPPED
    return LEFT_OPEN if audit.bad_share + audit.open_share > max_bad and audit.open_share > 0 else 0


def list_lines(audit: Audit, out: Path) -> Iterator[str]:
    """Yield the lines of an audit: how many items have each grade, common faults, and the worst items."""
    from stadia.audit.audit_files import sort_worst_first
    from stadia.core.verdict import Verdict

    verdicts = audit.verdicts
    counts = {str(grade): sum(one.grade == grade for one in verdicts) for grade in Verdict}
    grades = ", ".join(f"{count} {grade}" for grade, count in counts.items() if count)
    seconds = sum(one.seconds for one in verdicts)
    yield f"{len(verdicts)} items: {grades} ({audit.before} by earlier calls, {seconds:.0f} s of processor in all)"
    for fault in audit.common[:MAX_LISTED]:
        yield f"  {fault.group}: {len(fault.items)} of {fault.of} items have {fault.what}"
    if len(audit.common) > MAX_LISTED:
        yield f"  ... and {len(audit.common) - MAX_LISTED} more common faults: {out / 'common.csv'}"
    faulty = [one for one in sort_worst_first(verdicts) if one.is_bad or one.causes or one.frames]
    for one in faulty[:MAX_LISTED]:
        text = next(iter([*(cause.what for cause in one.causes), *one.frames, one.reason]))
        yield f"  {one.item} is {one.grade}: {text}"
    if len(faulty) > MAX_LISTED:
        yield f"  ... and {len(faulty) - MAX_LISTED} more items with a fault"
    if audit.changes:
        name, before, now = audit.changes[0]
        yield f"{len(audit.changes)} grades changed, such as that of {name}: {before} before, {now} now"
    yield f"{out}: {', '.join(audit.files)}"


def describe_audit(audit: Audit) -> dict[str, Any]:
    """Return all fields of an audit for JSON."""
    from dataclasses import asdict

    return {
        "items": [verdict.model_dump() for verdict in audit.verdicts],
        "common": [
            {**asdict(fault), "size": None if fault.size is None else fault.size._asdict()} for fault in audit.common
        ],
        "changes": [list(change) for change in audit.changes],
        "bad_share": audit.bad_share,
        "open_share": audit.open_share,
        "before": audit.before,
        "files": list(audit.files),
    }
