"""`stadia diagnose RUN`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.io.run_facts import JudgedTraining
from stadia.judge.catalog import make_finding
from stadia.judge.depth import FrameMeasurements, TrainingRecord, judge_measurements
from stadia.judge.finding import Severity, write_findings
from stadia.predict.verdict import find_unusable_codes, record_worse_verdict
from stadia.training.loop.run_folder import Run
from stadia.training.prediction.validation import replace_verdict


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "small", {}, recipe="selfsup", seed=0)


def run_diagnose(run: Run, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["diagnose", str(run.folder), *words], env={"COLUMNS": "300"})
    return result.exit_code, result.stdout


@pytest.mark.slow
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
    assert len(run_diagnose(run)[1].splitlines()) <= 20
    code, text = run_diagnose(run, "--verbose")
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
    run.update_facts(lambda facts: replace(facts, predictions="unusable"))
    code, text = run_diagnose(run)
    assert (code, "predictions: unusable\n" in text) == (0, True)
    parts = json.loads(run_diagnose(run, "--json")[1])
    assert parts.pop("predictions") == "unusable"
    order = {name: [one["code"] for one in some] for name, some in parts.items()}
    assert order == {"first": ["S20"], "follows": ["T40", "M30"], "apart": [], "unchecked": []}


@pytest.mark.slow
def test_the_worst_verdict_on_record_is_that_of_the_run(run: Run) -> None:
    """Usable at the training's end, and unusable on a later input: only what is worse is recorded."""
    path = run.folder / "findings.jsonl"
    learned, unlearned = TrainingRecord(steps=3000), TrainingRecord(steps=3)
    good, flat = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.3, 12, 0.0, matches=6000, match_deviation=0.05), None
    replace_verdict(run, judge_measurements(flat, unlearned), unlearned)
    assert json.loads(run_diagnose(run, "--json")[1])["predictions"] == "doubtful"
    replace_verdict(run, judge_measurements(good, learned), learned)
    assert (path.read_text(), run.facts.judged) == ("", JudgedTraining(steps=3000))
    bad = judge_measurements(replace(good, spread=1.01, change=0.01, match_error=1.2), learned)
    assert record_worse_verdict(run.folder, bad, "drive") == ""
    before = path.read_text()
    for judged in (bad, judge_measurements(good, unlearned), judge_measurements(good, learned)):
        assert record_worse_verdict(run.folder, judged, "another") == ""
    assert path.read_text() == before
    code, text = run_diagnose(run)
    assert (code, "predictions: unusable\n" in text, "stop M30 Predicted depth is nearly constant (drive)" in text) == (
        1,
        True,
        True,
    )
    with run.held():
        note = record_worse_verdict(run.folder, replace(bad, verdict=bad.verdict), "drive")
    assert str(run.folder) in note
    replace_verdict(run, judge_measurements(good, learned), learned)
    assert json.loads(run_diagnose(run, "--json")[1])["predictions"] == "usable"


def test_the_verdict_at_the_end_of_a_training_counts_for_frames_that_trained(run: Run) -> None:
    """That on other inputs does not, and a training that hardly learned is named by T40 in any case."""
    learned, unlearned = TrainingRecord(steps=3000), TrainingRecord(steps=3)
    good = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 12, 0.0)
    constant = replace(good, spread=1.01, change=0.01)
    assert find_unusable_codes(run.folder) == ()
    replace_verdict(run, judge_measurements(good, unlearned), unlearned)
    assert find_unusable_codes(run.folder) == (), "doubtful"
    replace_verdict(run, judge_measurements(good, learned), learned)
    assert record_worse_verdict(run.folder, judge_measurements(constant, learned), "another") == ""
    assert find_unusable_codes(run.folder) == (), "another input"
    replace_verdict(run, judge_measurements(constant, unlearned), unlearned)
    assert find_unusable_codes(run.folder) == ("M30",)
    replace_verdict(run, judge_measurements(constant, unlearned), unlearned, has_trained_frames=True)
    assert (find_unusable_codes(run.folder), run.facts.judged.steps) == ((), 3), "few validate: no verdict on others"
    assert find_unusable_codes(run.folder / "none") == ()
    (run.folder / "run.json").write_text("[1]")
    assert find_unusable_codes(run.folder) == ()


def test_run_without_findings_is_reported_as_unchecked(run: Run) -> None:
    code, text = run_diagnose(run)
    assert (code, "not checked" in text) == (0, True)
    write_findings(run.folder / "findings.jsonl", [])
    code, text = run_diagnose(run)
    assert (code, "no problem found" in text) == (0, True)


def write_terms(run: Run, *terms: str) -> None:
    names = ",".join(f"train/term/{term}" for term in terms)
    run.metrics_csv.write_text(f"step,epoch,{names}\n100,0,{','.join(['0.5'] * len(terms))}\n")


@pytest.mark.slow
def test_a_term_of_the_user_is_named_beside_useless_predictions(run: Run) -> None:
    write_findings(run.folder / "findings.jsonl", [make_finding("T40", Severity.WARN, measured="-", expected="-")])
    run.update_facts(lambda facts: replace(facts, predictions="unusable"))
    assert "also possible" not in run_diagnose(run)[1]
    run.update_facts(lambda facts: replace(facts, recipe_class="Mine"))
    write_terms(run, "photometric", "smoothness")
    assert "also possible" not in run_diagnose(run)[1], "the class has the terms of the recipe"
    write_terms(run, "photometric", "slope")
    assert "also possible" in run_diagnose(run)[1]
    assert "Mine" in json.loads(run_diagnose(run, "--json")[1])["also_possible"]
    write_findings(run.folder / "findings.jsonl", [])
    run.update_facts(lambda facts: replace(facts, predictions="usable"))
    assert "also possible" not in run_diagnose(run)[1]
