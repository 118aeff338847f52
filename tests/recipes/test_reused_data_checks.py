"""Trainings use findings of earlier data checks where nothing changed, and check the data where anything did."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stadia import launch
from stadia.core.config import resolve_config
from stadia.core.errors import RunError
from stadia.diagnostics import findings_cache
from stadia.diagnostics.finding import Finding, Severity, Stage
from stadia.launch import workflow
from stadia.launch.start_checks import find_data_findings
from stadia.recipes.base import video_data
from stadia.recipes.selfsup.config import SelfsupConfig
from stadia.recipes.selfsup.recipe import SelfsupRecipe

STOP = Finding("X01", Severity.STOP, Stage.DATA, "left is right", "left", "c", "swap them", image=b"PNG")
WARN = replace(STOP, code="X02", severity=Severity.WARN)


class Stopped(Exception):
    """Raised where the networks would be built: a test of the data checks needs no training."""


@dataclass
class DataChecks:
    """The data checks of trainings, counted; `found` replaces what they find."""

    count: int = 0
    found: list[Finding] | None = None


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataChecks:
    """Counts checks, with a cache of findings and one small file as the program."""
    (tmp_path / "findings").mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "check.py").write_text("LIMIT = 1\n")
    monkeypatch.setattr(findings_cache, "find_private_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(findings_cache, "MIN_AGE_S", -3600.0)
    monkeypatch.setattr(findings_cache, "PACKAGE", tmp_path / "source")
    monkeypatch.setattr(findings_cache, "find_start_s", lambda: float("inf"))
    checks, check = DataChecks(), video_data.run_preflight

    def run(*given: Any, **options: Any) -> list[Finding]:
        checks.count += 1
        return check(*given, **options) if checks.found is None else checks.found

    monkeypatch.setattr(video_data, "run_preflight", run)
    return checks


@pytest.fixture
def start(small: SelfsupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Starts a training with changed keys up to its networks; returns the folder of its run."""

    def stop(*given: object, **options: object) -> None:
        raise Stopped

    def begin(*words: str, check_again: bool = False) -> Path:
        config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), list(words))
        runs = tmp_path / "runs"
        before = set(runs.glob("*"))
        with monkeypatch.context() as patch:
            patch.setattr("stadia.launch.workflow.create_recipe", stop)
            with pytest.raises(Stopped):
                launch.train(config, out=runs, check_again=check_again)
        return next(iter(set(runs.glob("*")) - before), runs)

    return begin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "checked"),
    [
        ("optimizer.lr=1e-4", 1),
        ("training.batch_size=1", 1),
        ('data.recordings=["train-000"]', 2),
        ("data.stereo=false", 2),
        ('data.split_by.val_recordings=["train-000"]', 2),
    ],
)
def test_keys_of_the_data_alone_check_the_data(
    checks: DataChecks, start: Callable[..., Path], capsys: pytest.CaptureFixture[str], word: str, checked: int
) -> None:
    start()
    assert "nothing changed since" not in capsys.readouterr().err
    start(word)
    assert checks.count == checked
    line = r"note: the data were checked \d+ seconds? ago, and nothing changed since: no findings; --check-again"
    assert len(re.findall(line, capsys.readouterr().err)) == 2 - checked


@pytest.mark.slow
def test_another_image_another_program_and_check_again_check_the_data(
    checks: DataChecks, start: Callable[..., Path], worlds: Path, tmp_path: Path
) -> None:
    start()
    next(worlds.glob("train-000/left/*.png")).touch()
    start()
    assert checks.count == 2
    (tmp_path / "source" / "check.py").write_text("LIMIT = 2\n")
    start()
    start()
    assert checks.count == 3
    start(check_again=True)
    assert checks.count == 4


def test_offsets_judge_kept_findings_anew(checks: DataChecks, small: SelfsupConfig) -> None:
    """A static camera stops where depth is learned from motion, and is a note where it is not."""
    checks.found = [replace(STOP, code="D03"), replace(WARN, code="D18")]
    severities = []
    for word in ("data.offsets=[-1,1]", "data.offsets=[]"):
        config = resolve_config(SelfsupConfig, small.model_dump(mode="json"), [word, "data.stereo=true"])
        _, data = SelfsupRecipe.prepare(config, video_data.Console(quiet=True))
        for _ in range(2):
            findings = find_data_findings(data, video_data.Console(quiet=True), check_again=False)
            severities.append([(finding.code, finding.severity.value) for finding in findings])
    moved, static = [("D03", "stop"), ("D18", "warn")], [("D03", "note")]
    assert severities == [moved, moved, static, static]


def test_a_kept_stop_refuses_training(checks: DataChecks, small: SelfsupConfig, tmp_path: Path) -> None:
    checks.found = [STOP, WARN]
    messages = []
    for start in (launch.train, launch.train, launch.dry_run):
        with pytest.raises(RunError, match=r"X01 \(left is right\)") as error:
            start(small)
        messages.append(str(error.value))
    assert checks.count == 1
    assert messages == messages[:1] * 3


@pytest.mark.slow
def test_a_run_gets_the_same_findings_and_images(checks: DataChecks, start: Callable[..., Path]) -> None:
    checks.found = [WARN, replace(WARN, measured="another", image=b"other")]
    first, second = start(), start()
    assert checks.count == 1
    for name in ("findings.jsonl", "findings/X02-1.png", "findings/X02-2.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.slow
def test_a_dry_run_a_training_and_its_resume_check_once(
    checks: DataChecks, small: SelfsupConfig, tmp_path: Path, worlds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the dry run gets a relative path, which a training makes absolute."""
    monkeypatch.chdir(worlds.parent)
    monkeypatch.setattr(workflow, "run_loss_checks", lambda *given: [])
    parts = ["data.split_by.val_share=0.4", "data.split_by.gap=0", "data.offsets=[1]"]
    words = [f"data.path={worlds.name}/train-000", *parts]
    relative = resolve_config(SelfsupConfig, small.model_dump(mode="json"), words)
    launch.dry_run(relative)
    run = launch.train(relative, out=tmp_path / "runs")
    fresh = (run.folder / "findings.jsonl").read_text()
    launch.train(resolve_config(SelfsupConfig, run.config, []), resume=run.folder)
    assert checks.count == 1
    assert (run.folder / "findings.jsonl").read_text() == fresh


@pytest.mark.slow
def test_several_data_sets_are_checked_once(checks: DataChecks, start: Callable[..., Path], worlds: Path) -> None:
    two = (f"data.extra_datasets.other.path={worlds}", "data.name=first", 'data.recordings=["train-000"]')
    start(*two)
    start(*two)
    assert checks.count == 1
    start(*two[:2])
    assert checks.count == 2


@pytest.mark.slow
def test_stages_are_checked_once(checks: DataChecks, start: Callable[..., Path]) -> None:
    half = {"height": 32, "share": 0.5}
    stages = json.dumps([half | {"width": 64}, half | {"width": 96}])
    for seed in (0, 1):
        start(f"training.stages={stages}", f"seed={seed}")
    assert checks.count == 1
