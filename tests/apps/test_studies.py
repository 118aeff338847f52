"""`stadia ablate` from the study to its sentence, with trainings that only write what a training would leave."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.processes import leave_stale_file

from stadia import recipes
from stadia.apps.studies.config import check_metric
from stadia.core.errors import ConfigError
from stadia.report import study_report
from stadia.training.run_folder import Run

pytestmark = pytest.mark.slow  # its fixtures train or compile

DRAW = study_report.draw_ablation_plot


class ValBest:
    """Of a recipe, without the torch that comes with one."""

    best_metrics = ("val/abs_rel", "val/residual")


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
    steps: object = staticmethod(lambda change: 100)
    column: str = "val/abs_rel"

    def run(self, jobs, ended):
        for job in jobs:
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
                steps = self.steps(change)
                rows = [
                    ["step", self.column, "train/lr"],
                    *([step, value + 0.001 * (step == 90), 1e-4] for step in range(10, steps + 1, 10)),
                ]
                with run.metrics_csv.open("w", newline="") as stream:
                    csv.writer(stream).writerows(rows)
                run.end("finished")
                (run.folder / "report.html").touch()
            ended(job, 0)


def noise(change: str, seed: int) -> float:
    return 0.2 + 0.02 * seed + 0.001 * ((seed + sum(map(ord, change))) % 3)


@pytest.fixture
def ablate(stadia, tmp_path, monkeypatch):
    """Runs `stadia ablate` on the study with the given trainings -> exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stadia.training.run_folder._code_version", lambda: ({"commit": "c", "dirty": False}, ""))
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("stadia.report.study_report.draw_ablation_plot", lambda study, rows, path: path.touch())
    (tmp_path / "study.yaml").write_text(STUDY.replace("DATA", str(tmp_path)))

    def call(trainings, *words, file="study.yaml"):
        monkeypatch.setattr("stadia.cli.studies._launcher", lambda *_: trainings)
        return stadia("ablate", *([file] if file else []), *words)

    return call


def verdicts(tmp_path, name="study"):
    return json.loads((tmp_path / "studies" / name / "verdicts.json").read_text())


def test_an_effect_is_confirmed_and_nothing_is_not(ablate, tmp_path):
    code, out, err = ablate(Trainings(lambda change, seed: noise(change, seed) - 0.05 * (change == "fast")))
    assert code == 0, err
    folder = tmp_path / "studies" / "study"
    assert len((folder / "results.jsonl").read_text().splitlines()) == 12
    fast, decayed = verdicts(tmp_path)["verdicts"]
    assert (fast["decision"], fast["shown"], decayed["decision"]) == ("confirmed", "better", "undecided")
    assert fast["keys"] == ["optimizer.lr: 0.0001 -> 0.001"]
    assert "Confirmed: 'fast' makes val/abs_rel better (−0.04" in out
    assert "seeds, p < 0.001)" in out
    assert "Undecided: 'decayed' may leave val/abs_rel as it is or change it" in out
    table = (folder / "table.md").read_text()
    assert "*It learns more in as many steps.* Confirmed" in table
    assert {"plot.svg", "plot.png", "study.yaml"} <= {path.name for path in folder.iterdir()}


def test_what_has_finished_is_not_run_again_and_what_was_stopped_goes_on(ablate, tmp_path):
    def stopped(change, seed):
        if (change, seed) == ("fast", 1):
            raise KeyboardInterrupt
        return noise(change, seed)

    first = Trainings(stopped)
    code, _, err = ablate(first)
    assert (code, len(first.seen)) == (130, 5)
    assert "the same command resumes" in err
    second = Trainings(noise)
    assert ablate(second)[0] == 0
    assert second.seen[0] == "--resume fast-seed1"
    assert len(second.seen) == 12 - 4
    third = Trainings(noise)
    assert ablate(third, "--margin", "0.5")[0] == 0  # judged anew, nothing is trained
    assert third.seen == []
    assert verdicts(tmp_path)["verdicts"][1]["within_margin"]


def test_runs_of_a_failed_change_decide_nothing(ablate, tmp_path):
    def failing(change, seed):
        if (change, seed) == ("fast", 2):
            raise ArithmeticError("the loss is not finite")
        return noise(change, seed) - 0.05 * (change == "fast")

    code, out, err = ablate(Trainings(failing))
    fast = verdicts(tmp_path)["verdicts"][0]
    assert (code, fast["decision"], fast["without"]) == (1, "undecided", [2])
    assert "1 of 12 runs did not finish. Fix: " in err
    assert "fast seed 2 has no value (failed: ArithmeticError: the loss is not finite)" in out
    again = Trainings(noise)
    ablate(again)
    assert again.seen == []
    assert ablate(again, "--retry-failed")[0] == 0
    assert again.seen == ["new fast-seed2"]


def test_a_report_that_a_finished_run_lacks_is_written(ablate, tmp_path, monkeypatch):
    """Its process was killed or failed while it wrote it. The run is finished, and is not trained again."""
    ablate(Trainings(noise))
    (run,) = (tmp_path / "studies" / "study" / "runs").glob("*-fast-seed1")
    (run / "report.html").unlink()
    leftover = leave_stale_file(run / "report.html")
    monkeypatch.setattr("stadia.files.atomic_files._CLEANED", set())  # as in a process of its own
    again = Trainings(noise)
    code, _, err = ablate(again)
    assert (code, again.seen) == (0, [])
    assert [line for line in err.splitlines() if "report" in line] == [
        f"fast-seed1: its report was missing: {(run / 'report.html').relative_to(tmp_path)}"
    ]
    assert "fast-seed1" in (run / "report.html").read_text()
    assert not leftover.exists()


def test_a_run_that_is_killed_does_not_end_the_study(ablate, tmp_path):
    def killed(change, seed):
        if (change, seed) == ("fast", 1):
            raise MemoryError
        return noise(change, seed) - 0.05 * (change == "fast")

    first = Trainings(killed)
    code, out, err = ablate(first)
    fast = verdicts(tmp_path)["verdicts"][0]
    assert (code, len(first.seen), fast["decision"], fast["without"]) == (1, 12, "undecided", [1])
    assert "fast-seed1: killed (exit code -9" in err
    assert "fast seed 1 has no value (killed" in out
    again = Trainings(noise)
    ablate(again)
    assert again.seen == ["--resume fast-seed1"]


def test_equal_values_in_all_seeds_are_noted(ablate):
    _, out, _ = ablate(Trainings(lambda change, seed: 0.25 + 0.125 * (change == "fast")))
    assert "One number in all seeds leaves no spread" in out
    assert "take 7 seeds" in out  # two changes at 5 %: 2 / 2^7 is the first below 2.5 %


def test_epochs_are_budgets_where_nothing_makes_them_longer(ablate):
    words = ["training.max_steps=null", "training.max_epochs=2", "--dry-run"]
    assert ablate(Trainings(noise), *words)[0] == 0
    code, _, err = ablate(Trainings(noise), *words, "--change", "near: data.offsets=[-2,2]")
    assert (code, "another budget than the base (data.offsets" in err) == (2, True)


def test_changed_evaluation_keys_are_noted(ablate, tmp_path):
    """Before training and with the verdict: other images, another size, and a loss that is its own metric."""
    words = ["--change", "small: data.height=96 data.width=320", "--change", "plain: loss.ssim_weight=0.5"]
    code, out, err = ablate(Trainings(noise), *words, "--dry-run")
    assert code == 0, err
    assert out.count("Measured otherwise") == 1
    assert (
        "Measured otherwise than the base (data.height: 192 -> 96; data.width: 640 -> 320): val/abs_rel of the same"
        " network" in out
    )
    ablate(Trainings(noise), *words)
    told = {
        one["change"]: [note for note in one["notes"] if "Measured otherwise" in note]
        for one in verdicts(tmp_path)["verdicts"]
    }
    assert {name: len(notes) for name, notes in told.items()} == {"fast": 0, "decayed": 0, "small": 1, "plain": 0}
    residual = ablate(Trainings(noise, column="val/residual"), *words, "--metric", "val/residual", "--dry-run")[1]
    assert "Measured otherwise than the base (loss.ssim_weight" in residual
    assert "Ground-truth depth, if the data have it, decides: --metric val/abs_rel." in residual


def test_a_preset_lies_under_the_settings(ablate, stadia, tmp_path):
    """Those of the study and of the line win; the study keeps all of them."""
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "recipe: selfsup\ntraining: {batch_size: 3}\noptimizer: {lr: 0.007}\nmodel: {network: {encoder: resnet34}}\n"
    )
    ablate(Trainings(noise), "--preset", preset, "model.network.encoder=resnet50")
    config = json.loads((tmp_path / "studies" / "study" / "configs" / "base-seed0.json").read_text())
    found = config["training"]["batch_size"], config["optimizer"]["lr"], config["model"]["network"]["encoder"]
    assert found == (4, 0.007, "resnet50"), "of the study, the preset and the line"
    preset.write_text("recipe: supervised\n")
    code, _, err = ablate(Trainings(noise), "--preset", preset)
    assert (code, "a preset of recipe 'supervised'; expected one of recipe 'selfsup'" in err) == (2, True)


@pytest.mark.parametrize("has_truth", [True, False])
def test_a_change_of_the_measurement_is_not_comparable(ablate, tmp_path, monkeypatch, has_truth):
    """However large its effect; a term that does not enter the residual is judged. The plan reports it, too."""
    monkeypatch.setattr("stadia.apps.studies.config.has_depth", lambda _: has_truth)
    monkeypatch.setattr("stadia.apps.studies.study_verdicts.has_depth", lambda _: has_truth)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("DATA", str(tmp_path)).replace("abs_rel", "residual").partition("changes:")[0]
        + "changes: {l1: loss.ssim_weight=0, smoother: loss.smoothness=0.1}"
    )
    trainings = Trainings(lambda change, seed: noise(change, seed) - 0.05 * (change != "base"), column="val/residual")
    plan = ablate(trainings, "--dry-run")[1]
    decides = (
        "Ground-truth depth of these data decides: --metric val/abs_rel." if has_truth else "no ground-truth depth"
    )
    assert plan.count("Not comparable in val/residual. Measured otherwise than the base (loss.ssim_weight") == 1
    assert decides in plan
    code, out, err = ablate(trainings)
    assert code == 0, err
    l1, smoother = verdicts(tmp_path)["verdicts"]
    assert (l1["decision"], l1["shown"], l1["difference"]) == ("not comparable", "", None)
    assert (smoother["decision"], smoother["notes"]) == ("confirmed", [])
    assert "Not comparable: 'l1' changes how val/residual is measured" in out
    assert "'l1' makes" not in out
    assert "| not comparable |" in (tmp_path / "studies" / "study" / "table.md").read_text()
    DRAW(verdicts(tmp_path), [], tmp_path / "plot.svg")


def test_the_plan_names_the_metric_of_data_without_depth(ablate, tmp_path, monkeypatch):
    """By default a study compares depth errors; without ground truth residuals, which depend on the loss."""
    text = STUDY.replace("DATA", str(tmp_path)).replace("metric: val/abs_rel\n", "")
    (tmp_path / "study.yaml").write_text(text)
    monkeypatch.setattr("stadia.apps.studies.config.has_depth", lambda _: False)
    out = ablate(Trainings(noise), "--dry-run", "--change", "l1: loss.ssim_weight=0")[1]
    assert "compared in val/residual" in out
    assert out.count("Not comparable in val/residual") == 1


@pytest.mark.parametrize("recipe", recipes.CONFIGS)
def test_what_chooses_the_best_of_every_recipe_is_validated(recipe):
    assert recipes.CONFIGS.load(recipe).validation
    for metric in (*recipes.RECIPES.load(recipe).best_metrics, "train/loss", "val.rmse"):
        check_metric(recipe, metric)


def test_scores_of_one_of_several_data_sets_are_known():
    check_metric("selfsup", "val/euroc/abs_rel")
    with pytest.raises(ConfigError, match="no run of 'selfsup' has"):
        check_metric("selfsup", "val/euroc/mask_iou")


@pytest.mark.parametrize("recipe", recipes.CONFIGS)
def test_the_yardstick_of_every_recipe_is_of_its_keys(recipe):
    for key in recipes.CONFIGS.load(recipe).evaluation_keys:
        model = recipes.CONFIGS.load(recipe)
        for name in key.split("."):
            assert name in model.model_fields, key
            model = model.model_fields[name].annotation


def test_a_metric_that_is_nan_decides_nothing(ablate, tmp_path):
    code, out, _ = ablate(Trainings(lambda change, seed: math.nan if change == "decayed" else noise(change, seed)))
    assert code == 0
    decayed = verdicts(tmp_path)["verdicts"][1]
    assert (decayed["decision"], decayed["without"], decayed["difference"]) == ("undecided", [0, 1, 2, 3], None)
    assert "decayed seed 0 has no value (finished: its value is not finite)" in out


def test_a_metric_that_no_run_has_stops_after_the_first(ablate):
    trainings = Trainings(noise)
    code, _, err = ablate(trainings, "--metric", "val/residual")
    assert (code, len(trainings.seen)) == (2, 1)
    assert "metric 'val/residual': found no such metric in" in err
    assert "expected one of val/abs_rel. Fix: " in err


def test_runs_that_were_trained_on_other_budgets_are_not_judged(ablate, tmp_path):
    """Also if unplanned, such as a data set that ends earlier."""
    trainings = Trainings(noise, steps=lambda change: 50 if change == "fast" else 100)
    code, _, err = ablate(trainings)
    assert code == 2
    assert "found runs of different budgets (samples: fast seed 0: 200" in err
    assert not (tmp_path / "studies/study/verdicts.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--change", "long: training.max_steps=200"], "training.max_steps: 100 -> 200, 800 samples against 400"),
        (["--change", "wide: training.batch_size=8"], "training.batch_size: 4 -> 8, 800 samples against 400"),
        (["--change", "epochs: training.max_steps=null training.max_epochs=2"], "training.max_epochs"),
        (["training.max_minutes=5"], "training.max_minutes=5.0, and 5.0 of the base, with `budget: samples`"),
        (["--change", "longer: training.max_minutes=5"], "training.max_minutes=5.0, and None of the base"),
        (["--change", "none: optimizer.lr=1e-4"], "which is what the base has"),
        (["--change", "fast: optimizer.lr=1"], "'fast' again"),
        (["--change", "seeded: seed=3"], "the study sets it"),
        (
            ["--change", "wrong: optimizer.rl=1e-3"],
            "wrong: optimizer.rl: found an unknown key; expected a key that exists. Fix: did you",
        ),
        (["--change", "no colon"], "found 'no colon'"),
        (["--seeds", "0"], "1 seed cannot separate a change from chance: at least 3"),
        (["--seeds", "0,1,1"], "seeds must be different"),
        (["--margin", "-1"], "greater than 0"),
        (["--metric", "train/own"], "set --better"),
        (["--metric", "val/abs_rl", "--better", "lower"], "did you mean 'val/abs_rel'?"),
        (["--metric", "val/abs_rl", "--better", "lower", "--dry-run"], "'val/abs_rl', which no run of 'selfsup' has"),
        (["--metric", "d1"], "did you mean 'val/d1'?"),
    ],
)
def test_what_is_refused_before_anything_is_trained(ablate, words, told):
    trainings = Trainings(noise)
    code, _, err = ablate(trainings, *words)
    assert (code, trainings.seen) == (2, [])
    assert told in err


def test_all_mistakes_of_a_study_are_listed_at_once(ablate, tmp_path):
    study = (tmp_path / "study.yaml").read_text().replace("training.batch_size=4", "training.batchsize=4")
    (tmp_path / "wrong.yaml").write_text(study + "  large: optimizer.rl=1\n  empty: optimizer.lr=-1\n")
    code, _, err = ablate(Trainings(noise), "--dry-run", file="wrong.yaml")
    title, *lines = err.splitlines()
    assert (code, title) == (2, "stadia: configuration: found 3 mistakes; expected none. Fix: correct the study.")
    assert [line.split(":")[0].strip() for line in lines] == ["base", "large", "empty"]
    assert "batch_size" in lines[0]


def test_a_metric_of_depth_needs_data_with_depth(ablate, tmp_path):
    (tmp_path / "drive.mp4").touch()
    trainings = Trainings(noise)
    data = f"data.path={tmp_path}/drive.mp4"
    for more in (["--dry-run"], []):
        code, _, err = ablate(trainings, data, "--metric", "val/abs_rel", *more)
        assert (code, trainings.seen) == (2, [])
        assert f"metric: found 'val/abs_rel', and no ground-truth depth in {tmp_path}/drive.mp4" in err
    assert ablate(trainings, data, "--metric", "val/residual", "--better", "lower", "--dry-run")[0] == 0


def test_equal_minutes_are_a_budget_of_seconds(ablate, tmp_path):
    study = (tmp_path / "study.yaml").read_text() + "  large: training.batch_size=8\nbudget: seconds\n"
    (tmp_path / "timed.yaml").write_text(study)
    assert ablate(Trainings(noise), "training.max_minutes=5", "--dry-run", file="timed.yaml")[0] == 0
    code, _, err = ablate(Trainings(noise), "--change", "long: training.max_minutes=9", "--dry-run", file="timed.yaml")
    assert (code, "the same of all runs with `budget: seconds`" in err) == (2, True)


def test_an_equal_budget_by_other_keys_is_one(ablate):
    assert (
        ablate(Trainings(noise), "--change", "wide: training.batch_size=8 training.max_steps=50", "--dry-run")[0] == 0
    )


def test_stages_share_out_the_samples_of_one_size(ablate, tmp_path):
    """Progressive resizing against one size: as many samples, whatever their size; other lengths are refused."""
    stages = [{"height": 32, "width": 64, "share": 0.5}, {"height": 64, "width": 128, "share": 0.5}]
    written = (tmp_path / "study.yaml").read_text()
    for more, expected in ([], 0), (["training.max_steps=200"], 2):
        words = json.dumps([f"training.stages={json.dumps(stages)}", *more])
        (tmp_path / "stages.yaml").write_text(written + f"  grown: {{set: {words}}}\n")
        assert ablate(Trainings(noise), "--dry-run", file="stages.yaml")[0] == expected


def test_equal_runs_of_another_study_are_reused(ablate, tmp_path):
    """Studies on one base train it once: what has the same name and configuration, and has finished, is linked."""
    ablate(Trainings(noise))
    shutil.copy(tmp_path / "study.yaml", tmp_path / "more.yaml")
    again = Trainings(noise)
    code, _, err = ablate(
        again, "--change", "warm: schedule.warmup_steps=5", "--reuse", "studies/study", file="more.yaml"
    )
    assert (code, again.seen) == (0, [f"new warm-seed{seed}" for seed in range(4)])
    assert "base-seed0: taken from studies/study, not trained again" in err
    assert verdicts(tmp_path, "more")["verdicts"][0] == verdicts(tmp_path)["verdicts"][0] | {
        name: verdicts(tmp_path, "more")["verdicts"][0][name]
        for name in ("p_holm", "detectable")  # three changes instead of two
    }
    other = Trainings(noise)
    ablate(other, "training.max_steps=200", "--reuse", "studies/study", "--reuse", "studies/more", "--name", "longer")
    assert len(other.seen) == 12  # another configuration is another run
    code, _, err = ablate(Trainings(noise), "--reuse", "nowhere", "--name", "third")
    assert (code, "found no study.yaml" in err) == (2, True)


def test_a_study_on_the_command_line_alone(ablate, tmp_path, monkeypatch):
    registry = type(recipes.RECIPES)
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda *part: ValBest if part[0] is recipes.RECIPES else load(*part))
    words = [
        "--recipe",
        "selfsup",
        "--data",
        tmp_path,
        "training.max_steps=100",
        "--change",
        "fast: optimizer.lr=1e-3",
        "--seeds",
        "0,1,2",
    ]
    code, _, err = ablate(Trainings(noise), *words, file=None)  # the recipe's best metric
    assert code == 0, err
    assert verdicts(tmp_path)["metric"] == "val/abs_rel"


def test_a_study_that_was_trained_otherwise_is_another_study(ablate, tmp_path):
    ablate(Trainings(noise))
    code, _, err = ablate(Trainings(noise), "training.max_steps=200")
    assert code == 2
    assert re.search(r"found another study \(base\.training\.max_steps: \S+ -> 200\); expected", err), err
    code, _, err = ablate(Trainings(noise), "--seeds", "0,1,2")
    assert (code, "a study that has seed 3 too" in err) == (2, True)


def test_choices_after_results_are_noted(ablate):
    told = "Chosen when results were there"
    assert told not in ablate(Trainings(noise))[1]
    assert told not in ablate(Trainings(noise))[1]  # the same question again
    code, out, err = ablate(Trainings(noise), "--seeds", "0,1,2,3,4", "--change", "warm: schedule.warmup_steps=9")
    assert (code, f"{told} (seed 4 added; change 'warm' added)" in out) == (0, True), err
    more = ("--seeds", "0,1,2,3,4", "--change", "warm: schedule.warmup_steps=9")
    for _ in range(2):  # noted once, permanently
        _, out, _ = ablate(Trainings(noise), *more, "--margin", "0.5")
        assert f"{told} (seed 4 added; change 'warm' added; margin: None -> 0.5)" in out
    Path("study.yaml").write_text(Path("study.yaml").read_text().replace("expect: better", "expect: worse"))
    assert (
        "margin: None -> 0.5; margin: 0.5 -> None; expect of 'fast': better -> worse)"
        in ablate(Trainings(noise), *more)[1]
    )


def test_files_that_are_no_study_are_kept(ablate, tmp_path):
    """They were replaced: table.md, plot.svg, plot.png, verdicts.json, results.jsonl."""
    folder = tmp_path / "studies" / "study"
    folder.mkdir(parents=True)
    (folder / "table.md").write_text("mine")
    code, _, err = ablate(Trainings(noise))
    assert (code, "study: found table.md in it, and no study.yaml" in err) == (2, True), err
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("table.md", "mine")]


def test_a_file_whose_name_can_name_no_folder_is_refused(ablate, tmp_path):
    (tmp_path / "two [1].yaml").write_text((tmp_path / "study.yaml").read_text().replace("name: study\n", ""))
    code, _, err = ablate(Trainings(noise), file="two [1].yaml")
    assert (code, "two [1].yaml: found a name that names no folder" in err) == (2, True), err
    assert ablate(Trainings(noise), "--name", "two", "--dry-run", file="two [1].yaml")[0] == 0


def test_a_study_that_was_killed_before_its_configurations_goes_on(ablate, tmp_path, monkeypatch):
    ablate(Trainings(noise))
    monkeypatch.setattr("stadia.files.atomic_files._CLEANED", set())  # as in a process of its own
    shutil.rmtree(tmp_path / "studies" / "study" / "configs")
    code, _, err = ablate(Trainings(noise))
    assert code == 0, err
    assert len(list((tmp_path / "studies" / "study" / "configs").iterdir())) == 12


def test_unsaturated_training_is_noted(ablate):
    class Falling(Trainings):
        def run(self, jobs, ended):
            def lower(job, code):
                path = next(Path(job.words[5]).glob(f"*{job.name}/metrics.csv"))
                seed = int(job.name[-1])
                path.write_text(
                    "step,val/abs_rel\n" + "".join(f"{s},{1 - (0.005 + 0.0001 * seed) * s}\n" for s in range(5, 101, 5))
                )
                ended(job, code)

            super().run(jobs, lower)

    _, out, _ = ablate(Falling(noise))
    assert "Not saturated: over its last fifth val/abs_rel of 'base' still improved" in out
    assert "Not saturated" not in ablate(Trainings(noise), "--name", "flat")[1]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_plot(ablate, tmp_path, suffix):
    ablate(Trainings(noise), "--margin", "0.01")
    DRAW(verdicts(tmp_path), study_report.read_results(tmp_path / "studies/study"), tmp_path / f"plot{suffix}")
    assert (tmp_path / f"plot{suffix}").read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")
