"""Keep the verdict on predictions in the run that made them, for `stadia diagnose` and the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stadia.core.errors import StadiaError
from stadia.diagnostics.catalog import VERDICT_CODES
from stadia.diagnostics.finding import Finding, Severity, append_finding, read_valid_findings, write_findings
from stadia.diagnostics.prediction_checks import PredictionVerdict, TrainingRecord, Verdict, find_verdict
from stadia.files.json_files import read_json
from stadia.training.run_folder import Run

OF_TRAINING = "T40"
"""Finding of the verdict that is about the training, whatever the input. A run has it once."""

HAS_TRAINED_FRAMES = "has_trained_frames"
"""Key of `judged` in run.json: frames that trained were judged too, because few validate."""

WORST_FIRST = Verdict.UNUSABLE, Verdict.DOUBTFUL, Verdict.NOT_JUDGED, Verdict.USABLE


def replace_verdict(
    run: Run, judged: PredictionVerdict, training: TrainingRecord, *, has_trained_frames: bool = False
) -> None:
    """Write the verdict at a training's end over that of an earlier end of the same run.

    run.json has it as `predictions`, and as `judged` the checkpoint and residual that it is about.

    has_trained_frames: whether frames that trained were judged too.
    """
    if not run.writes:
        return
    path = run.folder / "findings.jsonl"
    known = read_valid_findings(path)[0] if path.exists() else []
    if any(finding.code in VERDICT_CODES for finding in known):
        write_findings(path, [finding for finding in known if finding.code not in VERDICT_CODES])
    for finding in judged.findings:
        if finding.code in VERDICT_CODES:  # another camera (K30) is about an input alone
            append_finding(path, finding)
    about = training.to_json() | ({HAS_TRAINED_FRAMES: True} if has_trained_frames else {})
    run.note(predictions=str(judged.verdict), judged=about)


def find_unusable_codes(folder: Path) -> tuple[str, ...]:
    """Return the codes of the verdict at a training's end where it is unusable; none for another verdict, or no run.

    None either where frames that trained were judged too: that verdict is not one on others.
    """
    try:
        facts, path = read_json(folder / "run.json"), folder / "findings.jsonl"
        if not isinstance(facts, dict) or facts.get("predictions") != Verdict.UNUSABLE:
            return ()
        judged = facts.get("judged")
        if isinstance(judged, dict) and judged.get(HAS_TRAINED_FRAMES):
            return ()
        known = read_valid_findings(path)[0] if path.exists() else []
    except (StadiaError, OSError):
        return ()
    codes = (one.code for one in known if one.code in VERDICT_CODES and one.code != OF_TRAINING and not one.where)
    return tuple(dict.fromkeys(codes))


def find_recorded_verdict(folder: Path) -> tuple[Verdict, tuple[str, ...]] | None:
    """Return the worst verdict on record of a run and the codes of findings that make it so; None without a record."""
    try:
        facts, path = read_json(folder / "run.json"), folder / "findings.jsonl"
        known = read_valid_findings(path)[0] if path.exists() else []
    except (StadiaError, OSError):
        return None
    verdict = read_verdict(facts, known) if isinstance(facts, dict) else None
    if verdict is None:
        return None
    severe = (one.code for one in known if one.code in VERDICT_CODES and one.severity is not Severity.NOTE)
    return verdict, tuple(dict.fromkeys(severe))


def record_worse_verdict(folder: Path, judged: PredictionVerdict, name: str) -> Iterator[str]:
    """Add the verdict on an input to the findings of the checkpoint's run where it is worse than that on record.

    folder: of the run; nothing is written where it is none.  name: of the input.

    Yields a note where the run cannot be written. Another camera (K30) is about the input alone, and is not recorded.
    """
    recorded = [one for one in judged.findings if one.code in VERDICT_CODES]
    found = [one if one.code == OF_TRAINING else replace(one, where=(name,)) for one in recorded]
    if not found or not (folder / "run.json").is_file():
        return
    try:
        run, path = Run.open(folder), folder / "findings.jsonl"
        with run.held():
            known = read_valid_findings(path)[0] if path.exists() else []
            on_record = read_verdict(run.facts, known)
            if on_record is None or WORST_FIRST.index(find_verdict(found)) < WORST_FIRST.index(on_record):
                is_known = any(one.code == OF_TRAINING for one in known)
                for finding in found:
                    if not (is_known and finding.code == OF_TRAINING):
                        append_finding(path, finding)
    except (StadiaError, OSError) as error:
        yield f"note: the verdict was not added to the findings of {folder}: {error}"


def read_verdict(facts: dict[str, Any], findings: Sequence[Finding]) -> Verdict | None:
    """Return the worst verdict on record, of a training's end or of a later prediction; None without any.

    facts, findings: of run.json and of findings.jsonl.
    """
    recorded = [finding for finding in findings if finding.code in VERDICT_CODES]
    verdicts = [find_verdict(recorded)] if recorded else []
    verdicts += [one for one in Verdict if one == facts.get("predictions")]
    return min(verdicts, key=WORST_FIRST.index, default=None)
