"""`stadia ablate` from the study to its sentence, with trainings that only write what a training would leave."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigMistakes, DataError
from stadia.report import study_report
from stadia.training import recipes
from stadia.training.loop.run_folder import Run
from stadia.training.studies.config import read_study
from stadia.training.studies.study_folder import StudyFolder
from stadia.training.studies.study_metric import check_metric

pytestmark = pytest.mark.slow  # its fixtures train or compile

DRAW = study_report.draw_ablation_plot
STUDY = """
recipe: selfsup
base: [data.path=DATA, training.max_steps=100, training.batch_size=4]
seeds: [0, 1, 2, 3]
metric: val/abs_rel
changes:
  fast: {set: optimizer.lr=1e-3, expect: better, claim: It learns more in as many steps.}
  decayed: optimizer.weight_decay=0.1
"""


@dataclass
class Trainings:
    """A launcher whose runs end at once. value: of the metric, by change and seed; an ArithmeticError fails the run."""

    value: object
    seen: list[str] = field(default_factory=list)
    scored: list[bool] = field(default_factory=list)
    steps: object = staticmethod(lambda change: 100)
    column: str = "val/abs_rel"

    def run(self, jobs, ended):
        for job in jobs:
            self.scored.append("--no-scores" not in job.words)
            self.seen.append(f"{job.words[1] if job.words[1] == '--resume' else 'new'} {job.name}")
            change, _, seed = job.name.rpartition("-seed")
            if job.words[1] == "--resume":
                run = Run.open(Path(job.words[2]))
                run.resume()
            else:
                config = json.loads(Path(job.words[3]).read_text())
                run = Run.create(
                    Path(job.words[5]), config["name"], config, recipe=job.words[1], seed=config["seed"], command="x"
                )
            try:
                value = self.value(change, int(seed))
            except KeyboardInterrupt:
                run.end("interrupted")
                raise
            except MemoryError:  # its process is killed without a message
                ended(job, -9)
                continue
            except ArithmeticError as error:
                run.failed(error)
            else:
                self.write_rows(run, change, int(seed), value)
                run.end("finished")
                (run.folder / "report.html").touch()
            ended(job, 0)

    def write_rows(self, run, change, seed, value):
        steps = range(10, self.steps(change) + 1, 10)
        rows = [["step", self.column, "train/lr"], *([step, value + 0.001 * (step == 90), 1e-4] for step in steps)]
        with run.metrics_csv.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)


def noise(change: str, seed: int) -> float:
    return 0.2 + 0.02 * seed + 0.001 * ((seed + sum(map(ord, change))) % 3)


def help_fast(change: str, seed: int) -> float:
    return noise(change, seed) - 0.05 * (change == "fast")


def raise_once(error, change_and_seed, otherwise=noise):
    """Return values of which one is an error."""

    def value(change, seed):
        if (change, seed) == change_and_seed:
            raise error
        return otherwise(change, seed)

    return value


@pytest.fixture
def ablate(stadia, tmp_path, monkeypatch):
    """Runs `stadia ablate` on the study with the given trainings -> exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    answers = {"ls-files": "a", "rev-parse": "c", "status": "", "diff": ""}
    monkeypatch.setattr("stadia.training.loop.run_folder.run_git", lambda *words: answers[words[0]])
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("stadia.report.study_report.draw_ablation_plot", lambda study, rows, path: path.touch())
    (tmp_path / "study.yaml").write_text(STUDY.replace("DATA", str(tmp_path)))

    def call(trainings, *words, file="study.yaml"):
        monkeypatch.setattr("stadia.cli.studies._choose_launch", lambda *_: trainings.run)
        return stadia("ablate", *([file] if file else []), *words)

    return call


def read_verdicts(tmp_path, name="study"):
    return json.loads((tmp_path / "studies" / name / "verdicts.json").read_text())


def test_an_effect_is_confirmed_and_nothing_is_not(ablate, tmp_path):
    code, out, err = ablate(Trainings(help_fast))
    assert code == 0, err
    folder = tmp_path / "studies" / "study"
    assert len((folder / "results.jsonl").read_text().splitlines()) == 12
    fast, decayed = read_verdicts(tmp_path)["verdicts"]
    assert (fast["decision"], fast["shown"], decayed["decision"]) == ("confirmed", "better", "undecided")
    assert fast["keys"] == ["optimizer.lr: 0.0001 -> 0.001"]
    assert "'fast'" in out
    assert "−0.04" in out
    assert "p < 0.001" in out
    assert "*It learns more in as many steps.* Confirmed" in (folder / "table.md").read_text()
    assert {"plot.svg", "plot.png", "study.yaml"} <= {path.name for path in folder.iterdir()}


def test_what_has_finished_is_not_run_again_and_what_was_stopped_goes_on(ablate, tmp_path):
    first, second, third = Trainings(raise_once(KeyboardInterrupt, ("fast", 1))), Trainings(noise), Trainings(noise)
    assert (ablate(first)[0], len(first.seen)) == (130, 5)
    assert ablate(second)[0] == 0
    assert second.seen[0] == "--resume fast-seed1"
    assert len(second.seen) == 12 - 4
    assert ablate(third, "--margin", "0.5")[0] == 0  # judged anew, nothing is trained
    assert third.seen == []
    assert read_verdicts(tmp_path)["verdicts"][1]["within_margin"]


def test_runs_of_a_failed_change_decide_nothing(ablate, tmp_path):
    code, out, err = ablate(Trainings(raise_once(ArithmeticError("the loss is not finite"), ("fast", 2), help_fast)))
    fast = read_verdicts(tmp_path)["verdicts"][0]
    assert (code, fast["decision"], fast["without"]) == (1, "undecided", [2])
    assert "1 of 12" in err
    assert "fast seed 2" in out
    assert "ArithmeticError: the loss is not finite" in out
    again = Trainings(noise)
    ablate(again)
    assert again.seen == []
    assert ablate(again, "--retry-failed")[0] == 0
    assert again.seen == ["new fast-seed2"]


def test_a_preset_lies_under_the_settings(ablate, tmp_path):
    """Those of the study and of the line win; the study keeps all of them."""
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "recipe: selfsup\ntraining: {batch_size: 3}\noptimizer: {lr: 0.007}\nmodel: {network: {encoder: resnet34}}\n"
    )
    ablate(Trainings(noise), "--preset", preset, "model.network.encoder=resnet50")
    config = json.loads((tmp_path / "studies" / "study" / "configs" / "base-seed0.json").read_text())
    values = config["training"]["batch_size"], config["optimizer"]["lr"], config["model"]["network"]["encoder"]
    assert values == (4, 0.007, "resnet50"), "of the study, the preset and the line"
    preset.write_text("recipe: supervised\n")
    code, _, err = ablate(Trainings(noise), "--preset", preset)
    assert (code, "supervised" in err) == (2, True)


@pytest.mark.parametrize(
    ("has_truth", "decides"),
    [(True, "--metric val/abs_rel"), (False, "stadia evaluate"), (None, "--metric val/abs_rel")],
)
def test_a_change_of_the_measurement_is_not_comparable(ablate, tmp_path, monkeypatch, has_truth, decides):
    """However large its effect; a term that does not enter the residual is judged. The plan reports it, too."""
    monkeypatch.setattr("stadia.training.studies.study_metric.has_depth", lambda _: has_truth)
    monkeypatch.setattr("stadia.training.studies.ablation.has_depth", lambda _: has_truth)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("DATA", str(tmp_path)).replace("abs_rel", "residual").partition("changes:")[0]
        + "changes: {l1: loss.ssim_weight=0, small: data.height=96, smoother: loss.smoothness=0.1}"
    )
    trainings = Trainings(lambda change, seed: noise(change, seed) - 0.05 * (change != "base"), column="val/residual")
    plan = ablate(trainings, "--dry-run")[1]
    assert plan.count("Not comparable") == 2
    assert decides in plan
    assert "data.height: 192 -> 96" in plan
    code, out, err = ablate(trainings)
    assert code == 0, err
    l1, small, smoother = read_verdicts(tmp_path)["verdicts"]
    for verdict in (l1, small):
        assert (verdict["decision"], verdict["shown"], verdict["difference"]) == ("not comparable", "", None)
    assert (smoother["decision"], smoother["notes"]) == ("confirmed", [])
    assert "'l1' makes" not in out
    assert "| not comparable |" in (tmp_path / "studies" / "study" / "table.md").read_text()
    DRAW(read_verdicts(tmp_path), [], tmp_path / "plot.svg")


@pytest.mark.parametrize("recipe", recipes.CONFIGS)
def test_metrics_and_evaluation_keys_of_every_recipe_exist(recipe):
    assert recipes.CONFIGS.load(recipe).validation
    for metric in (*recipes.RECIPES.load(recipe).best_metrics, "train/loss", "val.rmse"):
        check_metric(recipe, metric)
    for key in recipes.CONFIGS.load(recipe).evaluation_keys:
        model = recipes.CONFIGS.load(recipe)
        for name in key.split("."):
            assert name in model.model_fields, key
            model = model.model_fields[name].annotation


def test_a_metric_that_no_run_has_stops_after_the_first(ablate):
    trainings = Trainings(noise)
    code, _, err = ablate(trainings, "--metric", "val/residual")
    assert (code, len(trainings.seen)) == (2, 1)
    assert "val/residual" in err
    assert "one of val/abs_rel" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--change", "long: training.max_steps=200"], "training.max_steps: 100 -> 200, 800 samples against 400"),
        (["--change", "wide: training.batch_size=8"], "training.batch_size: 4 -> 8, 800 samples against 400"),
        (["--change", "epochs: training.max_steps=null training.max_epochs=2"], "training.max_epochs"),
        (
            ["training.max_steps=null", "training.max_epochs=2", "--change", "near: data.offsets=[-2,2]"],
            "another budget than the base (data.offsets",
        ),
        (["training.max_minutes=5"], "training.max_minutes=5.0, 5.0 in the base"),
        (["--change", "longer: training.max_minutes=5"], "training.max_minutes=5.0, None in the base"),
        (["--change", "none: optimizer.lr=1e-4"], "as in the base"),
        (["--change", "fast: optimizer.lr=1"], "'fast' twice"),
        (["--change", "seeded: seed=3"], "the study sets it"),
        (
            ["--change", "wrong: optimizer.rl=1e-3"],
            "wrong: optimizer.rl: found an unknown key; expected a key that exists. Fix: did you",
        ),
        (["--change", "no colon"], "found 'no colon'"),
        (["--seeds", "0"], "at least 3"),
        (["--until", "0.01"], "4 seeds are too few"),
        (["--seeds", "0,1,1"], "seeds must be different"),
        (["--margin", "-1"], "greater than 0"),
        (["--metric", "train/own"], "set --better"),
        (["--metric", "val/abs_rl", "--better", "lower"], "did you mean 'val/abs_rel'?"),
        (["--metric", "val/abs_rl", "--better", "lower", "--dry-run"], "'val/abs_rl'"),
        (["--metric", "d1"], "did you mean 'val/d1'?"),
        (["--reuse", "nowhere"], "found no study.yaml"),
    ],
)
def test_what_is_refused_before_anything_is_trained(ablate, words, message):
    trainings = Trainings(noise)
    code, _, err = ablate(trainings, *words)
    assert (code, trainings.seen) == (2, [])
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- list", "expected a mapping of keys"),
        ("recipe: selfsup\nchanges: 3", "changes: found 3"),
        ("recipe: selfsup\nchanges: {a: b=1}\nbase: 3", "base: found 3"),
        ("recipe: selfsup\nchanges: {a: [[]]}", "changes.a.set.0: found"),
        ("recipe: selfsup\nchanges: {a: b=1}\nseeds: [.inf, 1, 99999999999]", "seeds.0: found"),
        ("recipe: selfsup\nchanges: {a: b=1}\nmargin: .nan", "margin: found"),
        ("recipe: selfsup\nchanges: {a: {set: b=1, expect: same}}", "'margin'"),
    ],
)
def test_a_study_of_other_values_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises((ConfigMistakes, DataError)) as raised:
        read_study(tmp_path / "study.yaml", {}, [])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    if text.startswith("- a"):
        return
    with refuses(DataError, where="study.yaml"):
        _ = StudyFolder(tmp_path).study


STAGES = [{"height": 32, "width": 64, "share": 0.5}, {"height": 64, "width": 128, "share": 0.5}]


def wavering(change: str, seed: int) -> float:
    """Runs of `fast` are better at once, those of `decayed` need more seeds: the 95 % interval of five is too wide."""
    noise = np.random.default_rng([seed, sum(map(ord, change))]).normal(0, 0.002)
    return 0.2 + 0.02 * seed + noise - 0.05 * (change == "fast")


def test_seeds_are_added_until_each_change_is_decided(ablate, tmp_path):
    words = ("--seeds", "0,1,2,3,4", "--until", "0.004")
    plan = ablate(Trainings(wavering), *words, "--dry-run")[1]
    assert "30 at most" in plan
    first = Trainings(wavering)
    code, out, err = ablate(first, *words)
    fast, decayed = read_verdicts(tmp_path)["verdicts"]
    assert (code, fast["seeds"], fast["shown"]) == (0, [0, 1, 2, 3, 4], "better"), err
    assert 5 < len(decayed["seeds"]) < 30
    assert decayed["shown"] or decayed["is_narrow"]
    assert len(first.seen) == 5 + 2 * len(decayed["seeds"]), "a decided change is trained no more"
    assert "Chosen after" not in out
    again = Trainings(wavering)
    assert (ablate(again, *words)[1], again.seen) == (out, [])
