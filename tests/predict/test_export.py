"""`stadia export`: a trained recipe as a file whose predictions are its own."""

import contextlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stadia.cli.main import run as run_command_line
from stadia.evaluation.predictions_folder import Predictions
from stadia.io.run_facts import read_run_facts, write_run_facts
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Severity, append_finding
from stadia.predict.exported_network import ExportedNetwork

pytestmark = pytest.mark.slow  # its fixtures train or compile

Stadia = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    """A run whose training ended with an unusable verdict."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    write_run_facts(folder, replace(read_run_facts(folder), predictions="unusable"))
    for code, severity in (
        ("M30", Severity.STOP),
        ("S30", Severity.STOP),
        ("M31", Severity.NOTE),
        ("D15", Severity.WARN),
    ):
        append_finding(folder / "findings.jsonl", make_finding(code, severity, "1", "2"))
    return folder


@pytest.fixture(scope="module")
def export_output(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The ONNX file, and stdout and stderr of the command. Written once: the exporter takes seconds."""
    path, said, steps = tmp_path_factory.mktemp("export") / "model.onnx", io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ending, contextlib.redirect_stdout(said), contextlib.redirect_stderr(steps):
        run_command_line(["export", str(trained), "--out", str(path)])
    assert not ending.value.code
    return path, said.getvalue(), steps.getvalue()


@pytest.fixture
def exported(export_output: tuple[Path, str, str]) -> Path:
    return export_output[0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three of noise, smoothed."""
    folder, random = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for name in "abc":
        cv2.imwrite(
            str(folder / f"{name}.png"), cv2.GaussianBlur(random.integers(0, 256, (130, 200, 3), np.uint8), (0, 0), 5)
        )
    return folder


def test_exported_predictions_equal_the_checkpoint(
    trained: Path, exported: Path, images: Path, tmp_path: Path, stadia: Stadia
) -> None:
    for model, out in ((trained, "torch"), (exported, "onnx")):
        code, said, err = stadia(
            "predict", model, images, "--out", tmp_path / out, "data.camera.horizontal_fov_deg=50", "--no-cloud"
        )
        assert code == 0, err
    assert "note: verdict of its run at the export: unusable (M30, S30)\n" in said + err
    by_torch, by_onnx = Predictions.open(tmp_path / "torch"), Predictions.open(tmp_path / "onnx")
    for name in by_torch.files:
        np.testing.assert_allclose(by_onnx.read(name), by_torch.read(name), rtol=1e-3)
        assert np.ptp(by_torch.read(name)) > 0.05
    assert by_torch.record is not None
    assert by_onnx.record is not None
    same = type(by_torch.record).model_fields.keys()
    same -= {"backend", "checkpoint", "checks", "trust", "motion", "path", "path_ends"}
    assert by_torch.record.checks is not None
    assert by_onnx.record.checks is not None
    assert by_torch.record.checks["verdict"] == by_onnx.record.checks["verdict"]
    assert by_torch.record.model_dump(include=same) == by_onnx.record.model_dump(include=same)


def test_an_onnx_file_stands_alone(trained: Path, exported: Path) -> None:
    """One file, by the rules of ONNX, with the depth network and its description; nothing of the machine that
    wrote it.
    """
    assert list(exported.parent.iterdir()) == [exported]
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    assert {opset.domain: opset.version for opset in onnx.load(exported).opset_import} == {"": 18}
    weights = {tensor.name for tensor in onnx.load(exported).graph.initializer}
    assert not [name for name in weights if "pose" in name]
    data = exported.read_bytes()
    assert b".py" not in data
    assert str(Path.home()).encode() not in data
    session = onnxruntime.InferenceSession(exported)
    (image,) = session.get_inputs()
    assert image.shape == ["images", 3, "32*rows_of_strides", "32*columns_of_strides"]
    said = session.get_modelmeta().custom_metadata_map
    wanted = {
        "depth_scale": "metres",
        "unit": "1/m",
        "recipe": "selfsup",
        "height": "64",
        "width": "96",
        "stride": "32",
        "crop": "none",
    }
    assert wanted.items() <= said.items()
    assert float(said["focal"]) == pytest.approx(0.7)
    assert json.loads(said["camera"]) == json.loads((trained / "run.json").read_text())["recipe_facts"]["camera"]
    assert said["checkpoint"] == "best.safetensors, step 7"
    assert (said["verdict"], said["verdict_codes"]) == ("unusable", "M30, S30")
    (answer,) = session.run(None, {"image": np.zeros((3, 3, 96, 64), np.float32)})
    assert answer.shape == (3, 1, 96, 64)


def test_documented_commands_run(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/how-to/export.md, with onnxruntime alone."""
    document = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", document, re.M | re.S)
    monkeypatch.chdir(exported.parent)
    exec(program, names := {})
    assert names["inverse_depth"].shape == (64, 96)
    np.testing.assert_allclose(
        names["inverse_depth"], ExportedNetwork(exported).inverse_depth(np.zeros((1, 3, 64, 96), np.float32))[0, 0]
    )


def test_command_output(export_output: tuple[Path, str, str], trained: Path) -> None:
    path, text, steps = export_output
    reading = f"reading {trained}/checkpoints/best.safetensors"
    tracing = r"exporting [\d.]+ M parameters and comparing .*"
    assert re.fullmatch(rf"{reading}\n{tracing}\n", steps), "nothing is silent for minutes"
    lines = text.splitlines()
    assert lines[0].startswith(f"{path}: ")
    assert "multiples of 32, trained at 96x64" in lines[1]
    assert lines[2].startswith("  1 image of 96x64: largest difference ")
    assert lines[3].startswith("  2 images of 160x96: largest difference ")
    assert lines[4] == f"run it: stadia predict {path} INPUT --out DIR"
    assert lines[5].startswith("depth scale: metres")
    assert lines[6] == "verdict of its run: unusable (M30, S30)"


def test_mistakes(
    trained: Path, tmp_path: Path, stadia: Stadia, monkeypatch: pytest.MonkeyPatch, write_run: Callable[..., Path]
) -> None:
    """One line each, before anything is loaded where that can be; and nothing is left."""
    (tmp_path / "there.onnx").write_bytes(b"mine")
    (tmp_path / "file").touch()
    untrained, out = write_run(tmp_path / "untrained", focal=0.0), tmp_path / "model.pt2"
    for words, said in (
        ((trained, "--out", tmp_path / "model.engine"), "found the suffix '.engine'; expected .onnx or .pt2"),
        ((trained, "--out", tmp_path / "model"), "a name without a suffix"),
        ((trained, "--out", tmp_path / "there.onnx"), "there.onnx: found a file that is not stadia's exported network"),
        ((trained, "--out", tmp_path / "file" / "model.onnx"), "Not a directory"),
        ((tmp_path / "none.safetensors", "--out", out), "none.safetensors: found no such file"),
        ((untrained, "--out", out), "never trained"),
    ):
        code, text, err = stadia("export", *words)
        errors = [line for line in err.splitlines() if line.startswith("stadia: ")]  # beside what it was at
        assert (code, text, len(errors)) == (2, "", 1)
        assert said in errors[0]
    monkeypatch.setattr("stadia.training.prediction.export.load_recipe", lambda checkpoint: torch.nn.Identity())
    code, _, err = stadia("export", trained, "--out", out)
    assert (code, "a checkpoint of 'selfsup', which predicts no depth" in err) == (2, True)
    assert not out.exists()
    assert (tmp_path / "there.onnx").read_bytes() == b"mine"
