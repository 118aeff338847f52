"""The record of a run is strict: a field of another type or name is refused by the file and its name."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.refusals import refuses

from stadia.core.config import ValueChange
from stadia.core.errors import DataError
from stadia.io.run_facts import (
    UNKNOWN_FACTS,
    CodeVersion,
    Environment,
    JudgedTraining,
    RecipeFacts,
    RunFacts,
    StageFacts,
    TimeLimitEnd,
    TrainedCamera,
    TrainingTimes,
    describe_change,
    describe_runs,
    find_run_facts,
    match_facts,
    read_run_facts,
    write_run_facts,
)

TIMES = TrainingTimes(
    device="cpu", threads=2, steps=9, wall_s=2.5, phases_s={"forward": 2.0, "other": 0.5}, step_s={"forward": 0.2}
)
WHOLE = RunFacts(
    name="demo",
    recipe="selfsup",
    recipe_class="Mine",
    command="stadia train selfsup",
    version="0.1.0",
    code=CodeVersion(commit="0123abc", dirty=True),
    environment=Environment(python="3.11", platform="Linux", cores=2, packages={"torch": "2.13.0"}),
    seed=7,
    data={"path": "/data", "train_frames": {"drive": [[0, 3]]}},
    started="2026-03-02T10:15:00+00:00",
    finished="2026-03-02T10:20:00+00:00",
    resumed=("2026-03-02T10:17:00+00:00",),
    status="failed",
    error="RunError: loss",
    weights={"encoder": "random"},
    start_steps=5000,
    worse_than_start=False,
    depth_gain=0.12,
    stages=(StageFacts(height=32, width=96, share=1.0, batch_size=8, first_step=1, steps=9, lr_factor=1.0),),
    time=TIMES,
    ended_by_time=TimeLimitEnd(step=9, seconds=18.0),
    best_checkpoint={"name": "val/error", "step": 5},
    predictions="usable",
    judged=JudgedTraining(steps=9, has_trained_frames=True),
    recipe_facts=RecipeFacts(
        depth_scale="metres",
        camera=TrainedCamera(K=((50, 0, 31.5), (0, 50, 15.5), (0, 0, 1)), size=(32, 64)),
        own={"init_depth_m": 12.0},
    ),
    own_values={"weight": 0.5, "is_on": True, "name": "l1", "power": 2},
)


def test_every_field_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run_facts(tmp_path, WHOLE)
    assert read_run_facts(tmp_path) == WHOLE
    assert {field.name for field in fields(RunFacts)} == WHOLE.to_json().keys(), (
        "each has another value than its default"
    )


def test_a_run_without_further_facts_has_a_short_record(tmp_path: Path) -> None:
    write_run_facts(tmp_path, UNKNOWN_FACTS)
    assert read_run_facts(tmp_path) == UNKNOWN_FACTS
    assert "time" not in json.loads((tmp_path / "run.json").read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": 3}, "found recipe: 3; expected a valid string"),
        ({"seed": -1}, "found seed: -1; expected greater than or equal to 0"),
        ({"seed": True}, "found seed: True; expected a valid integer"),
        ({"data": []}, r"found data: \[\]; expected an object"),
        ({"status": "done"}, "found status: 'done'; expected 'running', 'finished', 'interrupted' or 'failed'"),
        ({"time": {**WHOLE.to_json()["time"], "steps": "9"}}, "found time.steps: '9'; expected a valid integer"),
        ({"recipe_facts": {"fitted": {}}}, "found unknown field 'recipe_facts.fitted'; expected a field of the record"),
        ({"depth_scale": "metres"}, "found unknown field 'depth_scale'; expected one of name, recipe, "),
        ({"started": None}, "found started: None; expected a valid string"),
    ],
)
def test_other_fields_are_refused_by_name(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(WHOLE.to_json() | changes))
    with refuses(DataError, where="run.json") as refused:
        read_run_facts(tmp_path)
    assert "\n" not in str(refused.value)
    assert find_run_facts(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "{}", '{"name": "a"}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with refuses(DataError, where="run.json"):
        read_run_facts(tmp_path)
    assert find_run_facts(tmp_path) is None
    assert find_run_facts(tmp_path / ("x" * 5000)) is None, "a name that is too long for a file"


def test_the_documentation_lists_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")
    section = page.split("## Fields of run.json")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", section, re.MULTILINE)
    assert [name for names in listed for name in names if name] == [field.name for field in fields(RunFacts)]


def test_data_are_compared_up_to_rounding() -> None:
    before = {"poses": {"a": [2.0, 0.3]}, "extra": {"b": "1"}}
    assert match_facts({"poses": {"a": [2.0, 0.1 + 0.2]}, "extra": {"b": "1"}}, before) == before
    other = {"poses": {"a": [2.0, 0.31]}, "extra": {"b": "1"}}
    assert match_facts(other, before) == other
    assert describe_change(ValueChange("poses.a", "[2.0, 0.3]", "[2.0, 0.31]")) == "poses.a: others"


# -- runs that a wrong path may mean


def test_the_newest_runs_of_the_first_folder_that_has_some_are_named(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "runs" / f"2026-01-0{number}-000000-dpt").mkdir(parents=True)
        (tmp_path / "runs" / f"2026-01-0{number}-000000-dpt" / "run.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    names = [str(tmp_path / "runs" / f"2026-01-0{number}-000000-dpt") for number in (4, 3, 2)]
    folders = [tmp_path / "nothing", tmp_path, tmp_path / "runs"]
    assert describe_runs(folders) == f"pass a run: {', '.join(names)} (2 more)"
    assert describe_runs(folders, need_checkpoint=True) == ""
