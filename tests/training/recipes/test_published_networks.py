"""Published networks of transformers: loaded whole, trained, predicted, exported, and refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.training.recipes.published_folders import ARCHITECTURES, write_network
from tests.training.recipes.test_depth_networks import configure, interrupt

from stadia import training
from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import DepthScale
from stadia.geometry.align import ScaleShift, ScaleShiftEstimator
from stadia.networks.depth.published_config import find_output
from stadia.networks.published_files import find_published_files, read_settings
from stadia.predict.exported_network import ExportedNetwork
from stadia.training import recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import export_checkpoint
from stadia.training.recipes.base.build_recipe import NetworkCheckpoint, open_network_checkpoint
from stadia.training.recipes.selfsup.config import SelfsupConfig

Stadia = Callable[..., tuple[int, str, str]]

SIZES = {"depth_pro": (96, 96), "depth_anything": (70, 112), "prompt_depth_anything": (70, 112), "tipsv2_dpt": (56, 56)}
"""(height, width) of the networks' images for images of 96x64, as their processors resize them; others keep 64x96."""


COMBINATIONS = [(name, recipe) for name in ARCHITECTURES for recipe in ("selfsup", "metric", "supervised")]
TRAINED = (("depth_anything", "selfsup"),)
"""Combination that the suite trains; test_depth_networks.py trains a network of transformers in `supervised`."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    return {name: write_network(root / name, name) for name in ARCHITECTURES}


def open_small(folder: Path) -> NetworkCheckpoint:
    opened = open_network_checkpoint(folder, lambda: (64, 96))
    assert isinstance(opened, NetworkCheckpoint)
    return opened


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_predictions_are_those_of_its_own_processor_and_of_its_export(
    architecture: str, folders: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import transformers

    opened = open_small(folders[architecture])
    recipe, size = opened.recipe, SIZES.get(architecture, (64, 96))
    assert (recipe.height, recipe.width) == size
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    planar = torch.from_numpy(image / 255).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        found = recipe.inverse_depth(planar)
    processor = transformers.AutoImageProcessor.from_pretrained(folders[architecture])
    network = transformers.AutoModelForDepthEstimation.from_pretrained(folders[architecture]).eval()
    pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    if architecture not in ("dpt", "zoedepth"):  # DPT of transformers takes square images alone; ZoeDepth has margins
        with torch.no_grad():
            output = network(pixel_values=pixels).predicted_depth
        assert torch.allclose(recipe.model._run(recipe.model.normalize(planar)), output, rtol=1e-5, atol=1e-6)
    if recipe.depth_scale is DepthScale.METRES:
        assert (found > 0).all()

    if request.config.getoption("exhaustive"):  # takes seconds; tests/networks/test_dpt_export.py has transformers
        about, compared = export_checkpoint(opened, tmp_path / "model.onnx")
        assert all(comparison.is_close for comparison in compared)
        exported = ExportedNetwork(tmp_path / "model.onnx", threads=1).inverse_depth(planar.numpy())
        assert np.abs(exported - found.numpy()).max() <= 1e-3 * found.abs().max().item()
        assert about.depth_scale is recipe.depth_scale


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "recipe"), mark_others(COMBINATIONS, TRAINED))
def test_it_trains_and_resumes_without_its_folder(
    architecture: str,
    recipe: str,
    folders: dict[str, Path],
    small: SelfsupConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Path(shutil.copytree(folders[architecture], tmp_path / "source"))
    config = configure(recipe, small, {"name": "published", "source": str(source)})
    config = config.model_copy(update={"model": config.model.model_copy(update={"pretrained": True})})
    # Random weights fall where the truth grows, or not.
    fitted = ScaleShift(0.05, 0.01, scale_spread=0.0, shift_spread=0.0, images=1, unlabeled=0, falling=0)
    monkeypatch.setattr(ScaleShiftEstimator, "result", lambda estimator: fitted)
    whole = training.train(config, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(recipe, 3, patch)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out=tmp_path / "stopped")
    (stopped,) = (tmp_path / "stopped").iterdir()
    shutil.rmtree(source)  # a checkpoint holds the architecture
    resumed = training.train(config, resume=stopped)
    for name in ("last",):
        first = Checkpoint.open(whole.folder / "checkpoints" / f"{name}.safetensors")
        second = Checkpoint.open(resumed.folder / "checkpoints" / f"{name}.safetensors")
        assert first.header.step == second.header.step == 3
        assert first.checksum == second.checksum
    predictor = recipes.load_predictor(whole.folder)
    assert predictor.depth_scale in (DepthScale.METRES, DepthScale.UP_TO_SCALE)


class TestRefusals:
    @pytest.fixture
    def folder(self, folders: dict[str, Path], tmp_path: Path) -> Path:
        return Path(shutil.copytree(folders["glpn"], tmp_path / "glpn"))

    @pytest.mark.slow
    def test_tensors_that_are_renamed_missing_or_of_another_shape(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        name = "head.head.0.bias" if "head.head.0.bias" in tensors else sorted(tensors)[0]
        tensors["renamed"] = tensors.pop(name)
        save_file(tensors, path, {"format": "pt"})
        with pytest.raises(CheckpointError) as error:
            open_small(folder)
        assert name in str(error.value)
        assert "left over: 1 (renamed)" in str(error.value)

    def test_a_pickle_is_not_opened(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
        with refuses(CheckpointError, where="glpn", found="pytorch_model.bin"):
            open_small(folder)

    @pytest.mark.parametrize("damage", [b"", b"\xff" * 64])
    def test_damaged_weights(self, folder: Path, damage: bytes) -> None:
        (folder / "model.safetensors").write_bytes(damage)
        with refuses(CheckpointError, where="model.safetensors"):
            open_small(folder)

    @pytest.mark.parametrize(
        ("file", "changes", "message"),
        [
            ("config.json", {"model_type": "bert"}, "model_type 'bert'"),
            ("config.json", {"backbone": "facebook/dinov2-base"}, "which would be downloaded"),
            ("config.json", {"hidden_sizes": "many"}, "refuses"),
            ("config.json", {"hidden_sizes": [1 << 14] * 4}, "million weights"),
            ("config.json", {"hidden_sizes": [1 << 20] * 4}, "hidden_sizes=1048576"),
            ("config.json", {"patch_sizes": [-14, 3, 3, 3]}, "patch_sizes=-14"),
            pytest.param("config.json", {"depths": [4096, 1, 1, 1]}, "too many layers", marks=pytest.mark.exhaustive),
            ("config.json", {"_attn_implementation": "evil/kernel"}, "'_attn_implementation'"),
            ("config.json", {"a": {"model_type": "timm_backbone", "backbone": "hf-hub:a/b"}}, "'backbone'"),
            ("preprocessor_config.json", {"size_divisor": 1 << 30}, "image processor has the size"),
            ("preprocessor_config.json", {"do_normalize": True, "image_std": [0, 1, 1]}, "standard deviation"),
            ("preprocessor_config.json", {"offset": True}, "offset=True"),
        ],
    )
    def test_settings_that_fit_no_network(self, folder: Path, file: str, changes: dict[str, Any], message: str) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        with pytest.raises((ConfigError, CheckpointError)) as error:
            open_small(folder)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_code_of_a_repository_is_never_run(self, folder: Path) -> None:
        path = folder / "config.json"
        code = {"auto_map": {"AutoModelForDepthEstimation": "evil.Network"}}
        path.write_text(json.dumps({**json.loads(path.read_text()), **code}))
        (folder / "evil.py").write_text("raise SystemExit('run')")
        assert "auto_map" not in read_settings(find_published_files(str(folder)))["architecture"]
        open_small(folder)

    def test_shards_lie_in_the_folder(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        index = {"weight_map": {"a": "../outside.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with refuses(CheckpointError, where="model.safetensors.index.json", found="../outside.safetensors"):
            open_small(folder)

    @pytest.mark.parametrize(("name", "fix"), [("hf:one", ""), ("depth-anything-v2-smal", "depth-anything-v2-small")])
    def test_a_name_that_is_none(self, name: str, fix: str) -> None:
        with refuses((ConfigError, CheckpointError), names=(name,), fix=fix):
            open_network_checkpoint(name)


def test_metric_depth_without_its_largest_depth_is_refused() -> None:
    """Without it the network would predict up to 1 m."""
    with refuses(ConfigError, where="max_depth", fix="80"):
        find_output({"model_type": "depth_anything", "depth_estimation_type": "metric", "max_depth": 1})


@pytest.mark.slow
def test_depth_pro_predicts_its_field_of_view(folders: dict[str, Path]) -> None:
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        focal = open_small(folders["depth_pro"]).recipe.model.predict_focal(image)
    assert focal is not None
    assert focal.shape == (2,)
    assert (focal > 0).all()
    assert open_small(folders["glpn"]).recipe.model.predict_focal(image) is None
