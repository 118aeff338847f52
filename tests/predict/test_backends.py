"""`--backend` and `--precision`: another runtime predicts as the checkpoint."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.evaluation.predictions_folder import Predictions
from stadia.predict.backends import BACKENDS, BackendChoice
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction import export

Stadia = Callable[..., tuple[int, str, str]]
CAMERA = ("data.camera.horizontal_fov_deg=50", "data.stride=1")
TOLERANCE = 1e-3  # as of docs/export.md, relative
OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}"))
    for name in BACKENDS
    if name != "torch"
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine views along a texture."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.integers(0, 256, (130, 260, 3), np.uint8), (0, 0), 4)
    for number in range(9):
        view = texture[:, 4 * number : 4 * number + 200]
        cv2.imwrite(str(folder / f"{number}.png"), cv2.normalize(view, None, 0, 255, cv2.NORM_MINMAX))  # type: ignore
    return folder


@pytest.fixture(scope="module")
def by_torch(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    from stadia.cli.main import run as run_command_line

    out = tmp_path_factory.mktemp("torch")
    with pytest.raises(SystemExit) as ending:
        run_command_line(["predict", str(trained), str(images), "--out", str(out), *CAMERA, "--no-video", "--no-cloud"])
    assert not ending.value.code
    return Predictions.open(out)


@pytest.fixture(scope="module")
def exported(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network was exported by a prediction: the exporter takes seconds."""
    from stadia.cli.main import run as run_command_line

    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(trained, folder / "run", ignore=shutil.ignore_patterns("exports"))
    words = ["predict", str(folder / "run"), str(images), "--out", str(folder / "out"), *CAMERA]
    with pytest.raises(SystemExit) as ending:
        run_command_line([*words, "--no-video", "--no-cloud", "--backend", "onnxruntime"])
    assert not ending.value.code
    return folder / "run"


@pytest.fixture(scope="module")
def run_to_predict(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, to which other precisions add files."""
    return shutil.copytree(exported, tmp_path_factory.mktemp("predicted") / "run")


def differences(found: Predictions, expected: Predictions) -> np.ndarray:
    assert list(found.files) == list(expected.files)
    return np.stack([np.abs(found.read(name) / expected.read(name) - 1) for name in found.files])


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_a_backend_predicts_as_torch(
    backend: str, run_to_predict: Path, images: Path, by_torch: Predictions, tmp_path: Path, stadia: Stadia
) -> None:
    words = ("predict", run_to_predict, images, *CAMERA, "--no-video", "--no-cloud", "--backend", backend)
    code, _, err = stadia(*words, "--out", tmp_path / "out")
    assert code == 0, err
    found = Predictions.open(tmp_path / "out")
    assert differences(found, by_torch).max() < TOLERANCE
    record, expected = found.record, by_torch.record
    assert record is not None
    assert expected is not None
    assert (record.backend, record.precision, record.precision_cost) == (backend, "float32", None)
    assert (record.path, record.motion) == (expected.path, expected.motion)
    assert f"{backend} runs the networks in float32" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "backend", "least", "most"),
    [
        ("bf16", "torch", 0, 0.02),
        *(pytest.param("bf16", *one.values, 0, 0.02, marks=one.marks) for one in OTHERS if one.values == ("openvino",)),
    ],
)
def test_a_precision_differs_by_what_it_prints(
    precision: str,
    backend: str,
    least: float,
    most: float,
    run_to_predict: Path,
    images: Path,
    by_torch: Predictions,
    tmp_path: Path,
    stadia: Stadia,
) -> None:
    words = ("predict", run_to_predict, images, *CAMERA, "--no-video", "--no-cloud", "--backend", backend)
    code, _, err = stadia(*words, "--precision", precision, "--out", tmp_path / "out")
    assert code == 0, err
    found = Predictions.open(tmp_path / "out")
    assert found.record is not None
    cost = found.record.precision_cost
    assert cost is not None
    assert (found.record.backend, found.record.precision, cost["frames"]) == (backend, precision, 9)
    difference = cost["median_relative_difference"]
    assert f"{precision} differs from float32 by {difference:.2%} (median over 9 frames of this input)" in err
    assert least <= difference < most
    assert np.median(differences(found, by_torch)) == pytest.approx(difference, rel=0.5, abs=1e-6)
    assert all(found.read(name).dtype == np.float32 for name in found.files)


class TestBf16Predictor:
    """Networks compute in bf16 and predict float32; a predictor in float32 beside it stays as it was."""

    @pytest.mark.slow
    def test_its_maps_and_motions(self, trained: Path) -> None:
        import torch

        from stadia.core.types import Camera
        from stadia.training.prediction.backend_predictor import BackendPredictor
        from stadia.training.recipes.base.build_recipe import load_predictor

        exact: Any = load_predictor(trained)
        lower, precisions = BackendPredictor(exact, "bf16"), set[torch.dtype]()
        layer = next(module for module in exact.recipe.modules() if isinstance(module, torch.nn.Conv2d))
        layer.register_forward_hook(lambda module, inputs, output: precisions.add(output.dtype))
        focal = float(exact.recipe.focal) * exact.width
        K = torch.tensor([[focal, 0, exact.width / 2], [0, focal, exact.height / 2], [0, 0, 1]])
        camera = Camera(K, exact.height, exact.width)
        image = torch.rand(2, 3, exact.height, exact.width, generator=torch.Generator().manual_seed(0))
        before = exact.inverse_depth(image, camera)
        assert precisions == {torch.float32}
        found = lower.inverse_depth(image, camera)
        assert precisions == {torch.float32, torch.bfloat16}
        assert found.dtype == torch.float32
        assert 0 < float((found / before - 1).abs().median()) < 0.02
        T, T_exact = (one.T_next_now(image[:1], camera, image[1:], camera) for one in (lower, exact))
        assert (T.dtype, T_exact.dtype) == (torch.float32, torch.float32)
        torch.testing.assert_close(T, T_exact, atol=0.01, rtol=0)
        assert torch.equal(exact.inverse_depth(image, camera), before)


def change_weights(file: Path) -> None:
    """Make it a file of another network."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            changed = numpy_helper.to_array(tensor) * np.float32(1.1)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, file)


@pytest.mark.slow
class TestExportsOfARun:
    """An export in a run's folder is used again, and never trusted."""

    @pytest.fixture
    def exports(self, exported: Path, tmp_path: Path) -> export.NetworkExports:
        """Return the exports of a run, in a copy of their folder."""
        from stadia.training.recipes.base.build_recipe import load_predictor

        checkpoint = Checkpoint.open(exported)
        predictor: Any = load_predictor(checkpoint)
        folder = shutil.copytree(exported / "exports", tmp_path / "exports")
        return export.NetworkExports(checkpoint, predictor, folder)

    @pytest.mark.parametrize("network", ["depth", "motion"])
    @pytest.mark.parametrize("damage", ["none", "bytes", "weights", "another network"])
    def test_is_written_again_where_it_does_not_predict_as_the_checkpoint(
        self,
        network: str,
        damage: str,
        exports: export.NetworkExports,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (file,) = exports.folder.glob(f"{network}-*.onnx")
        (other,) = (path for path in exports.folder.glob("*.onnx") if path != file)
        whole = file.read_bytes()
        for name in ("export_onnx", "export_motion"):  # the real ones take seconds
            monkeypatch.setattr(export, name, lambda _, path, *__, **___: path.write_bytes(whole))
        if damage == "bytes":
            file.write_bytes(whole[: len(whole) // 2])
        elif damage == "weights":
            change_weights(file)
        elif damage == "another network":
            shutil.copy(other, file)
        choice = BackendChoice("onnxruntime")
        opened = exports.open_float32("onnxruntime") if network == "depth" else exports.open_motion(choice)
        assert opened is not None
        assert file.read_bytes() == whole
        is_written = damage != "none"
        assert (f"note: writing {file} again: " in caplog.text) == is_written
        assert (f"exporting {file}, once ..." in capsys.readouterr().err) == is_written


@pytest.mark.slow
class TestMotion:
    """The pose network runs by the backend too, and its transform is computed in float32 by torch."""

    @pytest.fixture
    def exact(self, exported: Path) -> Any:
        from stadia.training.recipes.base.build_recipe import load_predictor

        return load_predictor(exported)

    @pytest.fixture
    def pairs(self, exact: Any) -> tuple[Any, Any, Any]:
        """Three images, the three that follow, and the camera of the training."""
        import torch

        from stadia.core.types import Camera

        focal = float(exact.recipe.focal) * exact.width
        K = torch.tensor([[focal, 0, exact.width / 2], [0, focal, exact.height / 2], [0, 0, 1]])
        random = torch.Generator().manual_seed(0)
        now, following = torch.rand(2, 3, 3, exact.height, exact.width, generator=random)
        now = now * torch.tensor([0.1, 0.5, 1]).reshape(3, 1, 1, 1)  # three motions that differ
        return now, following, Camera(K, exact.height, exact.width)

    @pytest.mark.parametrize("backend", OTHERS)
    def test_equals_torch(self, backend: str, exported: Path, exact: Any, pairs: tuple[Any, Any, Any]) -> None:
        import torch

        from stadia.training.prediction.backend_predictor import open_backend

        now, following, camera = pairs
        opened = open_backend(Checkpoint.open(exported), exact, BackendChoice(backend), list)
        expected = exact.T_next_now(now, camera, following, camera)
        net = opened.recipe.depth_pose_net
        assert net is not None
        assert net.pose is not None
        hook = net.pose.encoder.register_forward_hook(lambda *_: pytest.fail("torch ran the pose network"))
        found = opened.T_next_now(now, camera, following, camera)
        hook.remove()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        assert (expected[0] - expected[1]).abs().max() > 1e-4
        wide = type(camera)(camera.K * torch.tensor([[0.5], [0.5], [1]]), camera.height, camera.width)
        assert opened.T_next_now(now, wide, following, wide) is None, "another lens, as in torch"


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (("--backend", "openvin"), "backend: found 'openvin'; expected one of torch, .*did you mean 'openvino'"),
            (("--precision", "int8"), "--precision: found 'int8'; expected one of float32, bf16"),
            (
                ("--precision", "bf16", "--backend", "onnxruntime"),
                "--precision: found bf16 with the backend 'onnxruntime'; expected float32. Fix: add --b",
            ),
        ],
    )
    @pytest.mark.parametrize("command", ["predict", "odometry"])
    def test_one_line_before_anything_is_read(
        self, command: str, words: tuple[str, ...], line: str, tmp_path: Path, stadia: Stadia
    ) -> None:
        (tmp_path / "photo.png").write_bytes(b"")
        code, _, err = stadia(command, "base", tmp_path / "photo.png", "--out", tmp_path / "out", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert __import__("re").match(f"stadia: {line}", err), err
