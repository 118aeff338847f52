"""`stadia diagnose RUN`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Severity, write_findings
from stadia.training.run_folder import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "small", {}, recipe="selfsup", seed=0)


def run_diagnose(run: Run, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["diagnose", str(run.folder), *words], env={"COLUMNS": "300"})
    return result.exit_code, result.stdout


def test_cause_is_listed_before_its_effects(run: Run) -> None:
    alarm = make_finding(
        "T07", Severity.WARN, measured="90% of the pixels", expected="at most 75%", evidence={"step": 120}
    )
    cause = make_finding(
        "E01", Severity.STOP, measured="to the left", expected="to the right", where=["06"], evidence={"residual": 0.31}
    )
    of_its_own = make_finding("C06", Severity.WARN, measured="7 backgrounds", expected="10")
    unchecked = make_finding("N01", Severity.NOTE, measured="poses: none", expected="some")
    write_findings(run.folder / "findings.jsonl", [alarm, unchecked, of_its_own, cause])
    run.failed(ValueError("a loss of nan"))
    code, text = run_diagnose(run)
    assert code == 1
    places = [
        text.index(word)
        for word in ("failed: ValueError: a loss of nan", "fix first", "stop E01", "to the left", "may follow")
    ]
    places += [text.index(word) for word in ("warn T07", "other causes", "warn C06", "not checked", "poses: none")]
    assert places == sorted(places)
    assert "residual" in text, "the evidence"
    code, text = run_diagnose(run, "--json")
    order = {name: [one["code"] for one in some] for name, some in json.loads(text).items()}
    assert (code, order) == (1, {"first": ["E01"], "follows": ["T07"], "apart": ["C06"], "unchecked": ["N01"]})


def test_verdict_on_predictions_is_a_symptom(run: Run) -> None:
    """The finding of the training comes first; the verdict's own findings may follow from it."""
    found = [make_finding(code, Severity.WARN, measured=code, expected="-") for code in ("T40", "M30", "S20")]
    write_findings(run.folder / "findings.jsonl", found)
    run.note(predictions="unusable")
    code, text = run_diagnose(run)
    assert (code, "predictions: unusable\n" in text) == (0, True)
    parts = json.loads(run_diagnose(run, "--json")[1])
    assert parts.pop("predictions") == "unusable"
    order = {name: [one["code"] for one in some] for name, some in parts.items()}
    assert order == {"first": ["S20"], "follows": ["M30", "T40"], "apart": [], "unchecked": []}


def test_run_without_findings_is_reported_as_unchecked(run: Run) -> None:
    code, text = run_diagnose(run)
    assert (code, "no findings.jsonl: the run ended before its data were checked" in text) == (0, True)
    assert "is running, or was killed" in text
    write_findings(run.folder / "findings.jsonl", [])
    code, text = run_diagnose(run)
    assert (code, "nothing was found" in text) == (0, True)


def test_a_file_that_is_damaged_is_named(run: Run) -> None:
    (run.folder / "findings.jsonl").write_text('{"code": "E01"}\n')
    result = CliRunner().invoke(app, ["diagnose", str(run.folder)])
    assert result.exit_code != 0
    assert "findings.jsonl:1" in str(result.exception)


@pytest.mark.parametrize("torn", [b'{"code": "T07", "sever', b'{"code": "\xff\xfe"}', b"[]"])
def test_a_torn_line_costs_itself_alone(run: Run, torn: bytes) -> None:
    path = run.folder / "findings.jsonl"
    write_findings(path, [make_finding("E01", Severity.STOP, measured="to the left", expected="to the right")])
    path.write_bytes(path.read_bytes() + torn + b"\n")
    result = CliRunner().invoke(app, ["diagnose", str(run.folder)], env={"COLUMNS": "300"})
    assert (result.exit_code, "stop E01" in result.stdout) == (1, True)
    assert "findings.jsonl:2: found" in result.stderr
