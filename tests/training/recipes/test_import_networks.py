"""Imports of published files: the outputs of an independent implementation, and names where a file does not fit."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from tests.tensor_cameras import intrinsics
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.core.types import DepthScale
from stadia.networks.depth.dpt_weights import rename_to_transformers
from stadia.training import recipes
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.recipes.base.build_recipe import import_network, load_recipe

Stadia = Callable[..., tuple[int, str, str]]
Weights = dict[str, Tensor]
CHANNELS, DECODER = (64, 64, 128, 256, 512), (16, 32, 64, 128, 256)


def draw_encoder(images: int) -> Weights:
    weights: Weights = {}

    def add(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels) * 0.1
        weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = (
            torch.randn(channels) * 0.1,
            torch.ones(channels),
        )
        weights[f"{name}.num_batches_tracked"] = torch.tensor(1)

    add("encoder.conv1", 64, 3 * images, 7, 7)
    norm("encoder.bn1", 64)
    for layer, (before, after) in enumerate(zip((64, *CHANNELS[1:4]), CHANNELS[1:], strict=True), 1):
        for block in range(2):
            start = f"encoder.layer{layer}.{block}"
            add(f"{start}.conv1", after, before if block == 0 else after, 3, 3)
            add(f"{start}.conv2", after, after, 3, 3)
            norm(f"{start}.bn1", after)
            norm(f"{start}.bn2", after)
            if block == 0 and layer > 1:
                add(f"{start}.downsample.0", after, before, 1, 1)
                norm(f"{start}.downsample.1", after)
    weights["encoder.fc.weight"], weights["encoder.fc.bias"] = torch.randn(10, 512), torch.zeros(10)
    return weights


def encode(weights: Weights, image: Tensor) -> list[Tensor]:
    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = F.conv2d((image - 0.45) / 0.225, weights["encoder.conv1.weight"], stride=2, padding=3)
    features = [norm(x, "encoder.bn1").relu()]
    x = F.max_pool2d(features[0], 3, 2, 1)
    for layer in range(1, 5):
        for block in range(2):
            start, stride = f"encoder.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = norm(F.conv2d(x, weights[f"{start}.conv1.weight"], stride=stride, padding=1), f"{start}.bn1").relu()
            y = norm(F.conv2d(y, weights[f"{start}.conv2.weight"], padding=1), f"{start}.bn2")
            if f"{start}.downsample.0.weight" in weights:
                x = norm(F.conv2d(x, weights[f"{start}.downsample.0.weight"], stride=stride), f"{start}.downsample.1")
            x = (x + y).relu()
        features.append(x)
    return features


def draw_decoder() -> Weights:
    weights: Weights = {}
    number = 0
    for step in range(4, -1, -1):
        for inputs in (
            CHANNELS[-1] if step == 4 else DECODER[step + 1],
            DECODER[step] + (CHANNELS[step - 1] if step else 0),
        ):
            weights[f"decoder.{number}.conv.conv.weight"] = (
                torch.randn(DECODER[step], inputs, 3, 3) * (1 / (9 * inputs)) ** 0.5
            )
            weights[f"decoder.{number}.conv.conv.bias"] = torch.randn(DECODER[step]) * 0.1
            number += 1
    for scale in range(4):
        weights[f"decoder.{10 + scale}.conv.weight"] = torch.randn(1, DECODER[scale], 3, 3) * 0.1
        weights[f"decoder.{10 + scale}.conv.bias"] = torch.randn(1) - 2
    return weights


def decode(weights: Weights, features: list[Tensor]) -> Tensor:
    def convolve(x: Tensor, name: str) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = features[-1]
    for number, step in enumerate(range(4, -1, -1)):
        x = F.interpolate(F.elu(convolve(x, f"decoder.{2 * number}.conv.conv")), scale_factor=2, mode="nearest")
        x = torch.cat([x, features[step - 1]], 1) if step else x
        x = F.elu(convolve(x, f"decoder.{2 * number + 1}.conv.conv"))
    disparity = torch.sigmoid(convolve(x, "decoder.10.conv"))
    return 1 / 100 + (1 / 0.1 - 1 / 100) * disparity


def draw_pose() -> Weights:
    shapes = [(256, 512, 1, 1), (256, 256, 3, 3), (256, 256, 3, 3), (12, 256, 1, 1)]
    weights = {
        f"net.{n}.weight": torch.randn(shape) * (1 / np.prod(shape[1:])) ** 0.5 for n, shape in enumerate(shapes)
    }
    return weights | {f"net.{n}.bias": torch.randn(shape[0]) * 0.1 for n, shape in enumerate(shapes)}


@pytest.fixture(scope="module")
def parts() -> dict[str, Weights]:
    torch.manual_seed(0)
    return {"encoder": draw_encoder(1), "depth": draw_decoder(), "pose_encoder": draw_encoder(2), "pose": draw_pose()}


@pytest.fixture
def folder(parts: dict[str, Weights], tmp_path: Path) -> Path:
    path = tmp_path / "mono+stereo"
    path.mkdir()
    for name, weights in parts.items():
        extra: dict[str, Any] = {"height": 64, "width": 96, "use_stereo": True} if name == "encoder" else {}
        torch.save({**weights, **extra}, path / f"{name}.pth")
    return path


@pytest.mark.slow
def test_monodepth2_predicts_as_an_independent_implementation(
    folder: Path, parts: dict[str, Weights], tmp_path: Path
) -> None:
    import_network(folder, "monodepth2", tmp_path / "m2.safetensors")
    recipe: Any = load_recipe(tmp_path / "m2.safetensors")
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = decode(parts["depth"], encode(parts["encoder"], image)) / 5.4
    with torch.no_grad():
        found = recipe.inverse_depth(image)
    assert (recipe.height, recipe.width) == (64, 96)
    assert recipe.depth_scale is DepthScale.METRES
    assert ((found - expected).abs() / expected).max() < 1e-5

    pair = torch.rand(1, 6, 64, 96, generator=torch.Generator().manual_seed(1))
    x = encode(parts["pose_encoder"], pair)[-1]
    for number, padding in enumerate((0, 1, 1, 0)):
        x = F.conv2d(x, parts["pose"][f"net.{number}.weight"], parts["pose"][f"net.{number}.bias"], padding=padding)
        x = x.relu() if number < 3 else x
    values = 0.01 * x.mean((2, 3))[0]
    with torch.no_grad():
        T = recipe.T_next_now(pair[:, :3], pair[:, 3:])[0]
    a, b, c = values[:3].tolist()
    rotation = torch.linalg.matrix_exp(torch.tensor([[0, -c, b], [c, 0, -a], [-b, a, 0]]))
    assert torch.allclose(T[:3, :3], rotation, atol=1e-6)
    assert torch.allclose(T[:3, 3], 5.4 * values[3:6], rtol=1e-5)

    camera = intrinsics(57.6, 57.6, 47.5, 15.5, height=64, width=96)
    predictor = recipes.load_predictor(tmp_path / "m2.safetensors")
    ratio = 57.6 / 96 / 0.58  # of the focal lengths: it was trained with .58
    assert torch.allclose(predictor.inverse_depth(image, camera), found / ratio, rtol=1e-5)


@pytest.mark.slow
def test_an_imported_network_goes_through_the_commands(
    folder: Path, worlds: Path, tmp_path: Path, stadia: Stadia
) -> None:
    out = tmp_path / "m2.safetensors"
    code, text, err = stadia("import", folder, "--as", "monodepth2", "--out", out)
    assert code == 0, err
    assert "forbids commercial use" in text
    assert Checkpoint.open(out).header.recipe == "network"
    code, text, err = stadia("predict", out, worlds, "--out", tmp_path / "depth", "--no-video", "data.split=val")
    assert code == 0, err
    assert "trust: Depths and lengths in metres" in text
    code, _, err = stadia("evaluate", out, worlds, "--out", tmp_path / "scores", "data.split=val")
    assert code == 0, err
    code, _, err = stadia("import", folder, "--as", "monodepth2", "--out", out)
    assert code != 0
    assert "which exists" in err


def draw_midas(channels: int = 8) -> Weights:
    weights: Weights = {}
    for name, tensor in draw_encoder(1).items():
        stem = name.removeprefix("encoder.")
        if stem.startswith("fc."):
            continue
        for old, new in (("conv1.", "layer1.0."), ("bn1.", "layer1.1."), ("layer1.", "layer1.4.")):
            if stem.startswith(old):
                stem = new + stem.removeprefix(old)
                break
        weights[f"pretrained.{stem}"] = tensor
    for number, size in enumerate(CHANNELS[1:], 1):
        weights[f"scratch.layer{number}_rn.weight"] = torch.randn(channels, size, 3, 3) * (1 / (9 * size)) ** 0.5
        for unit in (1, 2):
            for conv in (1, 2):
                start = f"scratch.refinenet{number}.resConfUnit{unit}.conv{conv}"
                weights[f"{start}.weight"] = torch.randn(channels, channels, 3, 3) * (1 / (9 * channels)) ** 0.5
                weights[f"{start}.bias"] = torch.randn(channels) * 0.1
    for layer, shape in ((0, (128, channels, 3, 3)), (2, (32, 128, 3, 3)), (4, (1, 32, 1, 1))):
        weights[f"scratch.output_conv.{layer}.weight"] = torch.randn(shape) * (1 / np.prod(shape[1:])) ** 0.5
        weights[f"scratch.output_conv.{layer}.bias"] = torch.full((shape[0],), 0.5)
    return weights


def run_midas(weights: Weights, image: Tensor) -> Tensor:
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("pretrained."):
            stem = name.removeprefix("pretrained.")
            for new, old in (("layer1.0.", "conv1."), ("layer1.1.", "bn1."), ("layer1.4.", "layer1.")):
                stem = stem.replace(new, old, 1) if stem.startswith(new) else stem
            renamed[f"encoder.{stem}"] = tensor
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = encode(renamed, (image - mean) / std * 0.225 + 0.45)[1:]

    def unit(x: Tensor, start: str) -> Tensor:
        out = x.relu_()
        for conv in (1, 2):
            out = F.conv2d(out, weights[f"{start}.conv{conv}.weight"], weights[f"{start}.conv{conv}.bias"], padding=1)
            out = out.relu_() if conv == 1 else out
        return out + x

    path: Tensor | None = None
    for number in (4, 3, 2, 1):
        start = f"scratch.refinenet{number}"
        x = F.conv2d(features[number - 1], weights[f"scratch.layer{number}_rn.weight"], padding=1)
        path = x if path is None else path + unit(x, f"{start}.resConfUnit1")
        path = unit(path, f"{start}.resConfUnit2")
        path = F.interpolate(path, scale_factor=2, mode="bilinear", align_corners=True)
    assert path is not None
    x = F.conv2d(path, weights["scratch.output_conv.0.weight"], weights["scratch.output_conv.0.bias"], padding=1)
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    x = F.conv2d(x, weights["scratch.output_conv.2.weight"], weights["scratch.output_conv.2.bias"], padding=1).relu()
    return F.conv2d(x, weights["scratch.output_conv.4.weight"], weights["scratch.output_conv.4.bias"]).relu()


@pytest.mark.slow
def test_midas_predicts_as_an_independent_implementation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = draw_midas()
    torch.save(weights, tmp_path / "midas.pt")
    settings = ("network.encoder=resnet18", "network.channels=8")
    import_network(tmp_path / "midas.pt", "midas", tmp_path / "midas.safetensors", settings)
    recipe: Any = load_recipe(tmp_path / "midas.safetensors")
    assert recipe.depth_scale is DepthScale.AFFINE_INVERSE
    assert (recipe.height, recipe.width) == (288, 384)
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = run_midas(weights, image), recipe.inverse_depth(image)
    assert (expected > 0).float().mean() > 0.5
    assert (found - expected).abs().max() < 1e-5 * expected.max()
    weights["scratch.renamed"] = weights.pop("scratch.layer3_rn.weight")
    torch.save(weights, tmp_path / "renamed.pt")
    with refuses(CheckpointError, where="renamed.pt", found="scratch.layer3_rn.weight"):
        import_network(tmp_path / "renamed.pt", "midas", tmp_path / "renamed.safetensors", settings)
    assert not (tmp_path / "renamed.safetensors").exists()


class TestRefusals:
    @pytest.mark.slow
    def test_a_renamed_tensor(self, folder: Path, parts: dict[str, Weights], tmp_path: Path) -> None:
        weights = dict(parts["depth"])
        weights["decoder.0.renamed"] = weights.pop("decoder.0.conv.conv.weight")
        torch.save(weights, folder / "depth.pth")
        with pytest.raises(CheckpointError) as error:
            import_network(folder, "monodepth2", tmp_path / "out.safetensors")
        assert "missing: 1 (depth.decoder.0.conv.conv.weight)" in str(error.value)
        assert "left over: 1 (depth.decoder.0.renamed)" in str(error.value)
        assert not (tmp_path / "out.safetensors").exists()

    @pytest.mark.slow
    def test_a_pickle_with_code_is_not_run(self, folder: Path, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "run",)

        (folder / "depth.pth").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(StadiaError):
            import_network(folder, "monodepth2", tmp_path / "out.safetensors")
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("height", [float("inf"), -64, 33])
    def test_impossible_sizes(self, height: float, folder: Path, parts: dict[str, Weights], tmp_path: Path) -> None:
        torch.save({**parts["encoder"], "height": height, "width": 640}, folder / "encoder.pth")
        with refuses(ConfigError, where="network.size"):
            import_network(folder, "monodepth2", tmp_path / "out.safetensors")

    @pytest.mark.slow
    def test_without_a_pose_network(self, folder: Path, tmp_path: Path) -> None:
        (folder / "pose.pth").unlink()
        recipe = import_network(folder, "monodepth2", tmp_path / "out.safetensors", ["network.metres_per_unit=null"])
        assert recipe.depth_scale is DepthScale.UP_TO_SCALE
        assert recipe.T_next_now(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96)) is None

    @pytest.mark.slow
    def test_with_half_a_pose_network(self, folder: Path, tmp_path: Path) -> None:
        (folder / "pose_encoder.pth").unlink()
        with refuses(CheckpointError, where="pose_encoder.pth", fix="network.motion=false"):
            import_network(folder, "monodepth2", tmp_path / "out.safetensors", ["network.motion=true"])
        without = ["network.motion=false", "network.metres_per_unit=null"]
        assert import_network(folder, "monodepth2", tmp_path / "out.safetensors", without).depth_pose_net is None


def test_both_names_of_dpt_are_those_of_transformers() -> None:
    own: set[str] = set()
    for stem, scripted, name in (
        ("act_postprocess3.0.project.0", "readout_oper3.0.project.0", "readout_projects.2.0"),
        ("act_postprocess3.3", "act_postprocess3.0", "layers.2.projection"),
        ("act_postprocess4.3", "act_postprocess4.0", "layers.3.projection"),
        ("act_postprocess4.4", "act_postprocess4.1", "layers.3.resize"),
    ):
        for kind in ("weight", "bias"):
            tensors = {f"pretrained.{stem}.{kind}": torch.zeros(1)}
            others = {f"pretrained.{scripted}.{kind}": torch.zeros(1)}
            expected = [f"neck.reassemble_stage.{name}.{kind}"]
            assert list(rename_to_transformers(tensors, own)) == expected
            assert list(rename_to_transformers(others, own)) == expected
