"""`--backend` and `--precision`: another runtime predicts as the checkpoint, and int8 as nearly as it says."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.evaluation.backends import BACKENDS
from stadia.evaluation.backends.backend import BackendChoice, check_backend
from stadia.evaluation.backends.export_cache import open_cached_file
from stadia.evaluation.io.predictions_folder import Predictions
from stadia.recipes.prediction import backend_predictor

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
        *(pytest.param("int8", *one.values, 1e-4, 0.1, marks=one.marks) for one in OTHERS),
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
    assert (found.record.backend, found.record.precision, cost["frames"]) == (backend, precision, 3)
    difference = cost["median_relative_difference"]
    assert f"{precision} differs from float32 by {difference:.2%} (median over 3 frames of this input)" in err
    assert least <= difference < most
    assert np.median(differences(found, by_torch)) == pytest.approx(difference, rel=0.5, abs=1e-6)
    assert all(found.read(name).dtype == np.float32 for name in found.files)


class TestBf16Predictor:
    """Networks compute in bf16 and predict float32; a predictor in float32 beside it stays as it was."""

    def test_its_maps_and_motions(self, trained: Path) -> None:
        import torch

        from stadia.core.types import Camera
        from stadia.recipes.base.build_recipe import load_predictor
        from stadia.recipes.prediction.backend_predictor import BackendPredictor

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

    def test_another_focal_length_is_noted_once(self, trained: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Its difference from float32 is measured by both predictors."""
        import torch

        from stadia.core.types import Camera
        from stadia.recipes.base.build_recipe import load_predictor
        from stadia.recipes.prediction.backend_predictor import BackendPredictor

        exact: Any = load_predictor(trained)
        focal = 2 * float(exact.recipe.focal) * exact.width
        K = torch.tensor([[focal, 0, exact.width / 2], [0, focal, exact.height / 2], [0, 0, 1]])
        for predictor in (BackendPredictor(exact, "bf16"), exact):
            predictor.inverse_depth(torch.zeros(1, 3, exact.height, exact.width), Camera(K, exact.height, exact.width))
        assert sum("times the training camera's" in record.message for record in caplog.records) == 1


def test_an_export_is_announced_once_and_where_it_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes seconds to minutes."""

    def export(path: Path) -> None:
        path.write_bytes(b"network")

    path = open_cached_file(tmp_path, "depth", {}, export)
    assert capsys.readouterr().err == f"exporting {path}, once ...\n"
    assert open_cached_file(tmp_path, "depth", {}, export) == path
    assert capsys.readouterr().err == ""
    path.write_bytes(b"nothing")
    open_cached_file(tmp_path, "depth", {}, export)
    assert capsys.readouterr().err == f"{path} is damaged: exporting it again ...\n"


@pytest.mark.slow
class TestCache:
    """The export in a run's folder is used again, and never trusted."""

    @pytest.fixture
    def run(self, exported: Path, tmp_path: Path) -> Path:
        return shutil.copytree(exported, tmp_path / "run")

    @pytest.fixture
    def predict(self, images: Path, by_torch: Predictions, tmp_path: Path, stadia: Stadia) -> Callable[[Path], Path]:
        count = iter(range(9))

        def run(checkpoint: Path) -> Path:
            out = tmp_path / f"out-{next(count)}"
            options = (*CAMERA, "--no-video", "--no-cloud", "--backend", "onnxruntime")
            code, _, err = stadia("predict", checkpoint, images, "--out", out, *options)
            assert code == 0, err
            assert differences(Predictions.open(out), by_torch).max() < TOLERANCE
            (file,) = (checkpoint / "exports").glob("depth-*.onnx")
            return file

        return run

    def test_is_written_once(self, run: Path, predict: Callable[[Path], Path]) -> None:
        (first,) = (run / "exports").glob("depth-*.onnx")
        written = first.stat().st_mtime_ns
        assert predict(run).stat().st_mtime_ns == written
        assert sorted(path.suffix for path in first.parent.iterdir()) == [*[".json"] * 2, *[".onnx"] * 2]

    @pytest.fixture
    def written(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
        """The bytes of the export, which the exporter of this test writes again: the real one takes seconds."""
        (file,) = (run / "exports").glob("depth-*.onnx")
        data = file.read_bytes()
        monkeypatch.setattr(backend_predictor, "export_onnx", lambda _, path, **__: path.write_bytes(data))
        return data

    def test_changed_bytes_are_written_again(self, run: Path, predict: Callable[[Path], Path], written: bytes) -> None:
        (file,) = (run / "exports").glob("depth-*.onnx")
        data = bytearray(written)
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(data)
        assert predict(run).read_bytes() == written

    def test_a_file_of_another_network_is_written_again(
        self, run: Path, predict: Callable[[Path], Path], written: bytes
    ) -> None:
        """Also where its record fits: what it predicts is compared with the checkpoint."""
        import hashlib

        import onnx
        from onnx import numpy_helper

        (file,) = (run / "exports").glob("depth-*.onnx")
        model = onnx.load(file)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.ndim == 4:
                tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.1), tensor.name))
        onnx.save(model, file)
        record = json.loads(file.with_suffix(".json").read_text())
        record["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        file.with_suffix(".json").write_text(json.dumps(record))
        assert predict(run).read_bytes() == written

    def test_a_link_in_its_folder_is_refused(self, run: Path, images: Path, tmp_path: Path, stadia: Stadia) -> None:
        (file,) = (run / "exports").glob("depth-*.onnx")
        (tmp_path / "elsewhere").touch()
        file.unlink()
        file.symlink_to(tmp_path / "elsewhere")
        words = ("predict", run, images, *CAMERA, "--backend", "onnxruntime", "--out", tmp_path / "refused")
        code, _, err = stadia(*words)
        assert code == 2
        assert "found a symbolic link in a folder that is written into" in err
        assert (tmp_path / "elsewhere").read_bytes() == b""


@pytest.mark.slow
class TestMotion:
    """The pose network runs by the backend too, and its transform is computed in float32 by torch."""

    @pytest.fixture
    def exact(self, exported: Path) -> Any:
        from stadia.recipes.base.build_recipe import load_predictor

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

        from stadia.recipes.prediction.backend_predictor import open_backend

        now, following, camera = pairs
        opened = open_backend(exported, exact, BackendChoice(backend), list)
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

    def test_of_a_class_of_ones_own_is_its_own(self, exported: Path, exact: Any, pairs: tuple[Any, Any, Any]) -> None:
        import torch

        from stadia.recipes.prediction.backend_predictor import open_backend

        class Still(type(exact.recipe)):  # type: ignore[misc]
            def T_next_now(self, now: Any, following: Any) -> Any:
                return torch.eye(4).expand(len(now), 4, 4)

        exact.recipe.__class__ = Still
        opened, (now, following, camera) = open_backend(exported, exact, BackendChoice("onnxruntime"), list), pairs
        assert opened.motion_backend is None
        assert torch.equal(opened.T_next_now(now, camera, following, camera), torch.eye(4).expand(3, 4, 4))

    @pytest.mark.parametrize(("part", "method"), [("model", "motion"), ("model.pose", "forward")])
    def test_of_a_network_of_ones_own_is_its_own(
        self, part: str, method: str, exported: Path, exact: Any, pairs: tuple[Any, Any, Any]
    ) -> None:
        import torch

        from stadia.recipes.prediction.backend_predictor import open_backend

        network = exact.recipe.get_submodule(part)
        predict = getattr(type(network), method)

        def move_twice(*given: Any) -> Any:
            found = predict(*given)
            return found._replace(T_later_earlier=found.T_later_earlier @ found.T_later_earlier)

        network.__class__ = type("Own", (type(network),), {method: move_twice})
        opened, (now, following, camera) = open_backend(exported, exact, BackendChoice("onnxruntime"), list), pairs
        expected = exact.T_next_now(now, camera, following, camera)
        assert torch.equal(opened.T_next_now(now, camera, following, camera), expected)

    def test_a_network_that_cannot_be_exported_stays_in_torch(
        self,
        exported: Path,
        exact: Any,
        pairs: tuple[Any, Any, Any],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        import torch

        from stadia.core.errors import StadiaError

        def refuse(*_: Any, **__: Any) -> None:
            raise StadiaError("graph", found="a loop", expected="none", fix="none")

        monkeypatch.setattr(backend_predictor, "open_cached_file", refuse)
        exporter = backend_predictor._Exporter(exported, exact, exported / "exports")
        assert exporter.open_motion(BackendChoice("onnxruntime")) is None
        assert "the pose network stays in torch: graph: found a loop" in caplog.text
        now, following, camera = pairs
        found = backend_predictor.BackendPredictor(exact, "float32").T_next_now(now, camera, following, camera)
        assert torch.equal(found, exact.T_next_now(now, camera, following, camera))

    def test_a_file_of_another_network_is_written_again(
        self, exported: Path, exact: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import hashlib

        import onnx
        from onnx import numpy_helper

        folder = shutil.copytree(exported / "exports", tmp_path / "exports")
        (file,) = folder.glob("motion-*.onnx")
        written = file.read_bytes()
        monkeypatch.setattr(backend_predictor, "export_motion", lambda _, path, **__: path.write_bytes(written))
        model = onnx.load(file)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 4:
                changed = numpy_helper.to_array(tensor) * np.float32(1.1)
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        onnx.save(model, file)
        record = json.loads(file.with_suffix(".json").read_text())
        record["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        file.with_suffix(".json").write_text(json.dumps(record))
        exporter = backend_predictor._Exporter(exported, exact, folder)
        assert exporter.open_motion(BackendChoice("onnxruntime")) is not None
        assert file.read_bytes() == written

    def test_a_file_that_is_refused_is_written_again(
        self, exported: Path, exact: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        import hashlib

        from stadia.recipes.prediction.backend_predictor import _Exporter

        folder = shutil.copytree(exported / "exports", tmp_path / "exports")
        (file,) = folder.glob("motion-*.onnx")
        (depth,) = folder.glob("depth-*.onnx")
        shutil.copy(depth, file)  # a network of another interface, with a record that fits
        record = json.loads(file.with_suffix(".json").read_text())
        record["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        file.with_suffix(".json").write_text(json.dumps(record))
        assert _Exporter(exported, exact, folder).open_motion(BackendChoice("onnxruntime")) is not None
        assert file.read_bytes() != depth.read_bytes()
        assert f"note: {file} cannot be used, and is written again: " in caplog.text


@pytest.mark.slow
def test_odometry_by_a_backend(run_to_predict: Path, images: Path, tmp_path: Path, stadia: Stadia) -> None:
    camera = ("data.camera.focal_px=140", "data.stride=1")  # that of the training: the pose network needs it
    words = ("odometry", run_to_predict, images, *camera, "--method", "network", "--backend", "onnxruntime")
    code, _, err = stadia(*words, "--out", tmp_path / "path")
    assert code == 0, err
    record = json.loads((tmp_path / "path" / "odometry.json").read_text())
    assert (record["backend"], record["precision"], len(record["frames"])) == ("onnxruntime", "float32", 9)


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (("--backend", "openvin"), "backend: found 'openvin'; expected one of torch, .*did you mean 'openvino'"),
            (
                ("--precision", "int4"),
                "precision: found 'int4'; expected one of float32, bf16, int8. Fix: did you mean 'int8'",
            ),
            (
                ("--precision", "int8"),
                "--precision: found int8 with the backend 'torch'; expected float32 or bf16. Fix: add --b",
            ),
        ],
    )
    @pytest.mark.parametrize("command", ["predict", "odometry"])
    def test_one_line_before_anything_is_read(
        self, command: str, words: tuple[str, ...], line: str, tmp_path: Path, stadia: Stadia
    ) -> None:
        code, _, err = stadia(command, tmp_path / "none", tmp_path / "none", "--out", tmp_path / "out", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert __import__("re").match(f"stadia: {line}", err), err

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from stadia.core.errors import ConfigError

        monkeypatch.setattr("stadia.evaluation.onnx_graph.find_spec", lambda name: None if name == "openvino" else 1)
        with pytest.raises(
            ConfigError, match=r"openvino: found no such package; expected the extra 'openvino'. Fix: pip"
        ):
            check_backend(BackendChoice("openvino", "int8"))

    def test_another_recipe_has_no_backend(self, tmp_path: Path) -> None:
        from stadia.core.errors import ConfigError
        from stadia.recipes.prediction.requests import PredictRequest, refuse_unused

        request = PredictRequest(tmp_path, tmp_path, {}, tmp_path, backend="onnxruntime", precision="int8")
        with pytest.raises(
            ConfigError, match="--backend and --precision: found used together with recipe 'objectpose'"
        ):
            refuse_unused(request, ("options", "every"), "recipe 'objectpose'")
