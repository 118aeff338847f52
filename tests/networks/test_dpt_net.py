"""The dense prediction transformer: its size, any image size, attention as a part, and a start that learns."""

import math
from collections.abc import Callable

import pytest
import torch
from tests.networks.dpt_files import build, plain
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.networks import ATTENTIONS
from stadia.networks.config import DptConfig
from stadia.networks.depth import dpt as dpt_file
from stadia.networks.depth.depth_network import AffineDepthNetwork
from stadia.networks.depth.dpt import (
    Architecture,
    Dpt,
    SelfAttention,
    build_transformer,
    embed_image,
    make_hybrid,
    resize_position_embeddings,
)
from stadia.networks.depth.dpt_weights import rename_to_transformers

MIN_INVERSE_DEPTH = AffineDepthNetwork.MIN_INVERSE_DEPTH
DPT_SCALE_SHIFT_KITTI, DPT_SCALE_SHIFT_NYU = (0.00006016, 0.00579), (0.000305, 0.1378)
"""Scale and shift of DPT-Hybrid's output in 1/m (isl-org/DPT); depth is at most 172.7 m and 7.257 m."""


@pytest.fixture(scope="module")
def tiny() -> Dpt:
    torch.manual_seed(0)
    return Dpt(DptConfig(size="tiny")).eval()


def on_meta(size: str) -> Dpt:
    with torch.device("meta"):
        return Dpt(DptConfig(size=size), pretrained=False)


@pytest.mark.slow
def test_hybrid_and_tiny_have_the_published_sizes() -> None:
    assert sum(p.numel() for p in on_meta("tiny").parameters()) == 1_824_065
    network = on_meta("hybrid").network
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sizes == {"dpt": 98_181_952, "neck": 23_864_064, "head": 331_969}
    assert sum(p.numel() for p in network.dpt.encoder.layer[0].attention.parameters()) == 2_362_368
    assert sum(p.numel() for p in network.neck.fusion_stage.layers[0].residual_layer1.parameters()) == 1_180_160


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 160)])
def test_a_image_of_any_multiple_of_stride_comes_back_in_its_size(tiny: Dpt, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = tiny(torch.rand(2, 3, *size)).inverse_depth[0]
    assert output.shape == (2, 1, *size)
    assert output.dtype == torch.float32
    assert output.min() >= MIN_INVERSE_DEPTH


def test_another_size_is_refused_before_anything_is_built(tiny: Dpt, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as refused:
        tiny(torch.rand(1, 3, 60, 100))
    assert (refused.value.found, refused.value.expected) == ("100x60", "multiples of 32")
    assert "96x64" in refused.value.fix
    monkeypatch.setattr(dpt_file, "build_transformer", None)
    Dpt.check_config(DptConfig(), height=352, width=1216)
    with pytest.raises(ConfigError) as refused:
        Dpt.check_config(DptConfig(), height=375, width=1242)
    assert "1248x384" in refused.value.fix


# -- places


def test_places_stay_as_they_are_on_the_grid_that_they_were_trained_on() -> None:
    positions = torch.randn(1, 1 + 36, 8)
    assert torch.equal(resize_position_embeddings(positions, (6, 6)), positions)


def test_places_of_another_grid_are_interpolated_with_align_corners_false_and_the_class_tokens_is_kept() -> None:
    rising = torch.tensor([0.0, 1, 0, 1]).view(1, 4, 1)  # a 2x2 grid, rising with x
    resized = resize_position_embeddings(torch.cat((torch.full((1, 1, 1), 7.0), rising), dim=1), (1, 4))
    assert resized.flatten().tolist() == [7.0, 0.0, 0.25, 0.75, 1.0]  # with align_corners=True: 0, 1/3, 2/3, 1
    rows = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)  # row after row, like the tokens
    resized = resize_position_embeddings(torch.cat((torch.zeros(1, 1, 1), rows), dim=1), (2, 3))
    assert resized[0, 1:, 0].view(2, 3).tolist() == [[0.5] * 3, [2.5] * 3]


# -- the same network as transformers runs it


def hybrid() -> Architecture:
    """A shrunken DPT-Hybrid, built as the published one is, ReLU and all."""
    sizes = {"stem": 8, "stages": (16, 32, 64), "depths": (1, 2, 1), "groups": 4, "width": 32, "blocks": 4, "heads": 4}
    return make_hybrid(**sizes, hooks=(1, 3), fusion=16, hub="nobody/nothing")


def tiny_architecture() -> Architecture:
    return dpt_file.SIZES["tiny"]


SHRUNKEN = [hybrid, plain]


def build_both(arch: Callable[[], Architecture]) -> tuple[Dpt, nn.Module]:
    """Return ours and that of transformers alone, with the same weights."""
    ours, theirs = build(arch), build_transformer(arch()).eval()
    theirs.load_state_dict(ours.network.state_dict())
    return ours, theirs


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHRUNKEN)
def test_output_equals_that_of_transformers_own_network(arch: Callable[[], Architecture]) -> None:
    ours, theirs = build_both(arch)
    image = torch.rand(1, 3, 384, 384)
    with torch.no_grad():
        expected = theirs(ours.normalize(image)).predicted_depth[:, None]
        assert expected.std() > 1e-4
        torch.testing.assert_close(ours.raw(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", SHRUNKEN)
def test_tokens_of_another_size_are_those_of_transformers(arch: Callable[[], Architecture]) -> None:
    ours, theirs = build_both(arch)
    image = torch.rand(2, 3, 64, 96)
    options = {"interpolate_pos_encoding": True} if arch is hybrid else {}
    with torch.no_grad():
        tokens, grid, _ = embed_image(ours.network.dpt.embeddings, image)
        expected = theirs.dpt.embeddings(image, **options).last_hidden_states
    assert grid == (4, 6)
    torch.testing.assert_close(tokens, expected)


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHRUNKEN)
def test_trainable_parameters_are_those_with_effect_on_the_output(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    network(torch.rand(2, 3, 64, 64)).inverse_depth[0].log().mean().backward()
    unused = {name for name, p in network.named_parameters() if p.grad is None}
    assert unused == {name for name, p in network.named_parameters() if not p.requires_grad}
    assert 4 <= len(unused) <= 6
    backbone, head = network.backbone_parameters(), network.decoder_parameters()
    assert {id(p) for p in backbone + head} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(backbone) + len(head) == len({id(p) for p in backbone + head})
    assert any(p is network.network.dpt.embeddings.position_embeddings for p in backbone)


# -- attention as a part


@pytest.mark.parametrize("arch", SHRUNKEN)
def test_the_grid_reaches_the_attention_and_projections_stay(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    seen = []
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.core.register_forward_pre_hook(lambda _, args: seen.append((tuple(args[0].shape), args[3])))
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 128))
    assert seen == [((2, 4, 33, 8), (4, 8))] * 4
    before = network.network.state_dict().keys()
    assert before == rename_to_transformers(build_transformer(network.arch).state_dict(), before).keys()


class Nothing(nn.Module):
    """Takes the place of an attention's core where a test shows that it would see one that is broken."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return torch.zeros_like(v)


def attentive(network: Dpt) -> Dpt:
    """The same network with larger projections: as drawn, so little comes of attention that no output would show its
    absence.
    """
    for module in network.modules():
        if isinstance(module, SelfAttention):
            for name, parameter in module.named_parameters():
                if name.endswith("weight") and not name.startswith("core."):
                    parameter.data *= 10
    return network


def without_attention(network: Dpt) -> Dpt:
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.core = Nothing()
    return network


def visible_in(network: Dpt) -> Tensor:
    """Return the output for an image minus its mean, which does not depend on the image."""
    image = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = network.raw(image).float()
    return raw - raw.mean()


def off(output: Tensor, exact: Tensor) -> float:
    return float((output - exact).norm() / exact.norm())


MOST_OFF = {"sdpa": 1e-4, "explicit": 1e-4, "memory_compressed": 0.1, "token_merging": 0.1, "performer": 0.2}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_fits(name: str) -> None:
    exact, network = build(plain), build(plain, attention={"name": name})
    network.network.load_state_dict(exact.network.state_dict(), strict=False)
    expected = visible_in(attentive(exact))
    assert off(visible_in(attentive(network)), expected) < MOST_OFF[name]
    assert off(visible_in(without_attention(network)), expected) > 0.3


# -- inverse depth


def test_inverse_depth_is_scale_times_output_plus_shift() -> None:
    image = torch.rand(1, 3, 32, 64)
    network = build(plain, scale=0.5, shift=0.25)
    with torch.no_grad():
        torch.testing.assert_close(network(image).inverse_depth[0], 0.5 * network.raw(image) + 0.25)
        network.calibrate(2.0, -100.0)
        assert (network(image).inverse_depth[0] == MIN_INVERSE_DEPTH).all()
    assert network.state_dict()["scale"] == 2
    assert network.state_dict()["shift"] == -100


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 0.0), (1.0, math.inf)])
def test_a_calibration_that_turns_depth_around_is_refused(scale: float, shift: float) -> None:
    with pytest.raises(ConfigError) as refused:
        build(plain).calibrate(scale, shift)
    assert refused.value.expected == "a positive scale"


@pytest.mark.parametrize("arch", [*SHRUNKEN, tiny_architecture])
def test_a_random_network_starts_at_street_depth_with_gradients_everywhere(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    raw = network.raw(torch.rand(2, 3, 128, 128))
    depth_m = 1 / (network.scale * raw + network.shift)
    assert 6 < depth_m.min() <= depth_m.max() < 15
    depth_m.log().mean().backward()
    assert network.network.head.head[-2].bias.grad.abs() > 0.1
    assert (raw > 0).all()


# -- what is refused
