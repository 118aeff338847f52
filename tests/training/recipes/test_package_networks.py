"""MoGe and Depth Anything 3 through stand-ins with the documented interface of their packages."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from torch import Tensor, nn

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import Camera, DepthScale
from stadia.predict.networks.published_networks import PACKAGES, PUBLISHED_NETWORKS
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import NetworkCheckpoint, open_network_checkpoint

Stadia = Callable[..., tuple[int, str, str]]
DEPTH, FOCAL = 5.0, 0.8
"""Of the stand-ins: depth everywhere but in the sky, and fx / width."""


class MoGeModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    @classmethod
    def from_pretrained(cls, path: str) -> "MoGeModel":
        if Path(path).read_bytes() != b"weights":
            raise ValueError("damaged")
        return cls()

    @torch.inference_mode()
    def infer(self, image: Tensor, *, apply_mask: bool, use_fp16: bool) -> dict[str, Tensor]:
        depth = torch.full_like(image[:, 0], DEPTH)
        depth[:, :4] = torch.inf if apply_mask else DEPTH
        return {
            "depth": depth,
            "intrinsics": torch.diag(torch.tensor([FOCAL, 2 * FOCAL, 1.0])).expand(len(image), 3, 3),
        }


class DepthAnything3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    @classmethod
    def from_pretrained(cls, folder: str) -> "DepthAnything3":
        assert (Path(folder) / "config.json").exists()
        return cls()

    def inference(self, image: list[np.ndarray], *, process_res: int) -> Any:
        (pixels,) = image
        assert (pixels.dtype, pixels.shape[2], max(pixels.shape[:2])) == (np.uint8, 3, process_res)
        depth = np.linspace(1, DEPTH, pixels.shape[0], dtype=np.float32)[None, :, None].repeat(pixels.shape[1], 2)
        return SimpleNamespace(depth=depth, intrinsics=None)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    def download(repository: str, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        folder = tmp_path / "hub" / repository.replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            (folder / name).write_bytes(b"other" if repository.endswith("moge-2-vitl") else b"weights")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    modules: dict[str, dict[str, Any]] = {
        "moge": {},
        "moge.model": {},
        "moge.model.v2": {"MoGeModel": MoGeModel},
        "depth_anything_3": {},
        "depth_anything_3.api": {"DepthAnything3": DepthAnything3},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)


def open_named(name: str) -> NetworkCheckpoint:
    opened = open_network_checkpoint(name, lambda: (60, 84))
    assert isinstance(opened, NetworkCheckpoint)
    return opened


def predict(opened: NetworkCheckpoint, focal: float) -> np.ndarray:
    predictor = load_predictor(opened)
    height, width = predictor.height, predictor.width
    K = torch.tensor([[[focal * width, 0, width / 2], [0, focal * width, height / 2], [0, 0, 1]]])
    inverse_depth = predictor.inverse_depth(torch.rand(1, 3, height, width), Camera(K, height, width))
    return 1 / inverse_depth[0, 0].numpy()


def test_moge_predicts_metres_an_empty_sky_and_its_own_focal_length(packages: None) -> None:
    opened = open_named("moge-2-vits-normal")
    assert (opened.recipe.height, opened.recipe.width, opened.recipe.depth_scale) == (60, 84, DepthScale.METRES)
    depth = predict(opened, 0.6)
    assert np.allclose(depth[4:], DEPTH)
    assert (depth[:4] >= 1e4 * 0.999).all()
    focal = opened.recipe.model.predict_focal(torch.rand(2, 3, 60, 84))
    assert focal is not None
    assert focal.tolist() == pytest.approx([FOCAL, FOCAL])
    assert opened.licence == "MIT"


@pytest.mark.parametrize("focal", [0.58, 1.16])
def test_metres_of_depth_anything_3_are_its_output_times_the_focal_length_over_300(
    focal: float, packages: None
) -> None:
    opened = open_named("da3metric-large")
    assert (opened.recipe.height, opened.recipe.width) == (364, 504)  # the longer side is 504
    depth = predict(opened, focal)
    assert depth[0, 0] == pytest.approx(1.0 * focal * 504 / 300)
    assert depth[-1, 0] == pytest.approx(DEPTH * focal * 504 / 300)


@pytest.mark.parametrize("name", ["moge-2-vitl", "da3-small"])
def test_without_its_package_one_line_has_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = PUBLISHED_NETWORKS[name].package
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        open_named(name)
    assert f"Fix: {PACKAGES[package]}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_claims_to_be_of_a_package_loads_nothing(packages: None) -> None:
    from stadia.networks.config import DepthModelConfig
    from stadia.networks.depth.depth_network import build_depth_network

    settings = {"architecture": {"model_type": "moge"}, "preprocessing": {}}
    network = {"name": "published", "source": "hf:evil/network", "settings": settings}
    with refuses(CheckpointError, where="hf:evil/network"):
        build_depth_network(DepthModelConfig.model_validate({"network": network}))
