"""The configuration is settled, and every mistake in it told, before torch is imported."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stadia.cli.train import _print_keys, resolve_recipe
from stadia.core.config import list_keys
from stadia.core.config_help import describe_keys
from stadia.judge.finding import OnStop
from stadia.training.loop.checkpoint import CheckpointHeader, write_checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import CONFIGS
from stadia.training.step_measurement import DryRunResult

THREE_STEPS = DryRunResult("cpu", (1 << 20,) * 3, (0.5,) * 3)
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from stadia.cli.main import run; run({words!r})"


@pytest.mark.slow
def test_misspelt_keys_stop_before_torch_all_at_once(python):
    words = ["train", "selfsup", "optimser.lr=2e-4", "training.batchsize=4", "data.hieght=96"]
    done = python(WITHOUT_TORCH.format(words=words))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 5  # a line each, after their number
    for mistake, fix in (
        ("optimser", "optimizer"),
        ("training.batchsize", "training.batch_size"),
        ("data.hieght", "data.height"),
    ):
        assert f"{mistake}: found an unknown key; expected a key that exists. Fix: did you mean '{fix}'?" in done.stderr


@pytest.mark.slow
def test_dry_run_prints_what_can_be_read_back_without_torch(python, stadia, tmp_path):
    done = python(WITHOUT_TORCH.format(words=["train", "selfsup", "optimizer.lr=2e-4", "--dry-run"]))
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    assert config["optimizer"]["lr"] == 2e-4
    file = tmp_path / "config.json"
    file.write_text(done.stdout, encoding="utf-8")
    code, out, _ = stadia("train", "selfsup", "--config", str(file), "--dry-run")
    assert code == 0
    assert json.loads(out) == config


def test_a_recipe_that_has_data_of_its_own_is_tried_on_them(stadia, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "stadia.training.dry_run", lambda config, **_: tried.append(config.data.path) or THREE_STEPS, raising=False
    )
    code, out, err = stadia("train", "objectpose", "--dry-run")
    assert (code, tried) == (0, [None])
    assert json.loads(out)["data"]["path"] is None
    assert "dry run: 3 full steps: peak memory of all its processes 1, 1, 1 MB, 0.50, 0.50, 0.50 s; 'objectpose'" in err


def test_a_dry_run_whose_loss_checks_had_no_time_exits_with_1(stadia, monkeypatch):
    unchecked = replace(THREE_STEPS, not_checked=("properties of the loss", "one batch"))
    monkeypatch.setattr("stadia.training.dry_run", lambda config, **_: unchecked, raising=False)
    code, out, err = stadia("train", "objectpose", "--dry-run")
    assert (code, json.loads(out)["recipe"]) == (1, "objectpose")
    last = err.strip().splitlines()[-1]
    assert all(words in last for words in ("20 s", "properties of the loss, one batch", "training.check_seconds=60"))
    err = stadia("train", "objectpose", "--dry-run", "training.check_seconds=2000")[2]
    assert "training.check_seconds=3600" in err.strip().splitlines()[-1], "the largest one"


def test_dry_run_reports_errors_of_the_training(stadia, tmp_path):
    for given in (["--data", str(tmp_path / "nix.mp4")], [f"data.path={tmp_path}/nix.mp4"]):
        code, out, err = stadia("train", "selfsup", *given, "--dry-run")
        assert (code, out) == (2, "")
        assert "nix.mp4: found no such file or folder" in err
        assert err.count("\n") == 1
    code, out, err = stadia("train", "selfsup", "--data", str(tmp_path), "--dry-run")
    assert code == 2
    assert json.loads(out), "the configuration can be read all the same"
    assert "would train" not in err
    code, out, err = stadia("train", "selfsup", "--data", str(tmp_path), "--dry-run", "model.network.encoder=resnet19")
    assert (code, out) == (2, "")
    assert "did you mean 'resnet" in err


def test_dry_run_shows_every_key(stadia):
    _, out, _ = stadia("train", "selfsup", "--dry-run")
    config = json.loads(out)
    for key in list_keys(CONFIGS.load("selfsup")):
        node = config
        for part in key.split("."):
            if node is None or part == "NAME":  # an optional group that is off; names that nobody chose
                break
            assert part in node, key
            node = node[part]


@pytest.mark.slow
def test_help_of_a_recipe_lists_every_key_without_torch_and_numpy(python):
    without = WITHOUT_TORCH.replace("sys.modules['torch']", "sys.modules['torch'] = sys.modules['numpy']")
    done = python(without.format(words=["train", "selfsup", "--help"]))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    at = lines.index("  training.precision=auto  ('auto', '32', 'bf16' or 'fp16')")
    assert '"bf16" runs the networks in bfloat16' in lines[at + 1]
    assert "  data.path  (required)  (text)" in lines
    assert "  optimizer.lr=0.0001  (a number, above 0 and at most 10000)" in lines


@pytest.mark.parametrize("recipe", CONFIGS)
def test_every_key_has_a_default_a_range_and_a_sentence(recipe):
    described = list(describe_keys(CONFIGS.load(recipe)))
    keys = list_keys(CONFIGS.load(recipe))
    assert [one.key for one in described] == [
        key for key in keys if not any(other.startswith((f"{key}.", f"{key}.NAME")) for other in keys)
    ]
    assert [one for one in described if not (one.allowed and one.sentence)] == []
    assert {"recipe", "seed"} <= {one.key for one in described if one.default is not None}


def test_experimental_keys_are_the_last_of_the_help(capsys):
    _print_keys(["metric"])
    text = capsys.readouterr().out
    usual, last = text.split("experimental: ")
    for key in ("scale.balance=", "heights.momentum=", "model.pose_bias="):
        assert key in last
        assert key not in usual
    assert "optimizer.lr=" not in last


@pytest.mark.slow
def test_data_that_do_not_exist_stop_before_torch(python):
    done = python(WITHOUT_TORCH.format(words=["train", "selfsup", "nowhere.mp4"]))
    assert done.returncode == 2
    assert "nowhere.mp4: found no such file or folder" in done.stderr


@pytest.mark.slow
def test_a_line_comes_before_anything_slow_is_imported(python, tmp_path):
    done = python(f"""
import sys
from stadia.cli.main import run
from stadia.core import terminal

def announce(console, text):
    sys.exit(f"{{text}}, torch: {{'torch' in sys.modules}}")

terminal.announce_step = announce
run(["train", "selfsup", {str(tmp_path)!r}])
""")
    assert done.stderr == "loading the libraries, torch: False\n"


def test_training_is_handed_the_resolved_config(stadia, monkeypatch, tmp_path):
    handed = {}

    def train(config, **options):
        handed.update(options, config=config)

    monkeypatch.setattr("stadia.training.train", train)
    code, out, err = stadia(
        "train", "selfsup", "--data", str(tmp_path), "--out", "x", "--on-stop", "warn", "training.batch_size=3"
    )
    assert (code, err.splitlines()[0]) == (0, "loading the libraries ...")
    assert (out, handed["is_command"]) == ("", True)
    assert handed["config"].training.batch_size == 3
    assert Path(handed["config"].data.path) == tmp_path
    assert (handed["out"], handed["resume"], handed["on_stop"]) == (Path("x"), None, OnStop.WARN)


def test_paths_are_kept_from_the_root_on_and_a_resumed_run_knows_its_recipe(stadia, monkeypatch, tmp_path):
    handed = []
    monkeypatch.setattr("stadia.training.train", lambda config, **options: handed.append((config, options["resume"])))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive.mp4").touch()
    assert (
        stadia(
            "train", "selfsup", "--data", "drive.mp4", "data.camera.K_file=K.txt", "data.split_by.train_file=~/a.txt"
        )[0]
        == 0
    )
    (config, _) = handed.pop()
    assert (config.data.path, config.data.camera.K_file) == (str(tmp_path / "drive.mp4"), str(tmp_path / "K.txt"))
    assert config.data.split_by.train_file == str(Path.home() / "a.txt")
    assert config.data.poses is None
    run = Run.create(tmp_path, "a", config, recipe="selfsup", seed=0)
    monkeypatch.chdir("/")
    code, _, err = stadia("train", "training.workers=0", "--resume", str(run.folder))
    assert code == 0, err
    (resumed, resume) = handed.pop()
    assert (resumed.data, resumed.training.workers, resume) == (config.data, 0, run.folder)
    assert stadia("train", "--resume", str(run.folder))[0] == 0


@pytest.mark.parametrize("command", ["predict", "resume", "start_from"])
@pytest.mark.parametrize(
    ("recipe", "key", "found"),
    [
        ("dpt", "", "found recipe 'dpt'; expected one of selfsup, metric, supervised, objectpose, overlay"),
        ("selfsup", "optimiser", "found a configuration with a wrong 'optimiser'; expected keys and values of recipe"),
    ],
)
def test_a_run_of_an_earlier_version_is_refused_in_one_line(stadia, tmp_path, command, recipe, key, found):
    data = tmp_path / "drive.mp4"
    data.touch()
    values = resolve_recipe("selfsup", None, [f"data.path={data}"], example={}).model_dump(mode="json")
    values |= {"recipe": recipe} | ({key: {"lr": 1e-4}} if key else {})
    run = Run.create(tmp_path, "a", values, recipe=recipe, seed=0)
    header = CheckpointHeader(recipe=recipe, config=values, kind="training", step=1, epoch=0, metrics={})
    for name in ("last", "best"):
        write_checkpoint(run.checkpoints / f"{name}.safetensors", header, {"state_dict": {}})
    lines = {
        "predict": ("predict", run.folder, data, "--out", tmp_path / "out"),
        "resume": ("train", "--resume", run.folder),
        "start_from": ("train", "selfsup", data, f"start_from={run.folder}", "--out", tmp_path / "new"),
    }
    code, _, err = stadia(*lines[command])
    refusal = err.splitlines()[-1]
    assert code == 2
    assert refusal.startswith(f"stadia: {run.folder}")
    assert found in refusal
    assert refusal.endswith("Fix: train again, or use the version of stadia that wrote it (run.json names its commit).")
    assert not (tmp_path / "new").exists()
