"""The dense prediction transformer: its size, any image size, attention as a part, and a start that learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from dpt_files import build, choose_class, stride_of
from torch import Tensor, nn

from stadia.core.config import resolve_config
from stadia.core.errors import ConfigError
from stadia.models import ATTENTIONS
from stadia.models.depth import depth_anything as depth_anything_file
from stadia.models.depth import dpt as dpt_file
from stadia.models.depth import transformer_network
from stadia.models.depth.config import DepthAnythingConfig, DepthModelConfig, DptConfig
from stadia.models.depth.depth_anything import DepthAnything, make_architecture
from stadia.models.depth.depth_network import AffineDepthNetwork
from stadia.models.depth.dpt import Dpt, make_hybrid, make_plain
from stadia.models.depth.transformer_network import (
    Architecture,
    SelfAttention,
    TransformerDepthNetwork,
    embed_image,
    make_sincos_positions,
    resize_position_embeddings,
)
from stadia.models.pretrained_weights import rename_to_transformers

MIN_INVERSE_DEPTH = AffineDepthNetwork.MIN_INVERSE_DEPTH
DPT_SCALE_SHIFT_KITTI, DPT_SCALE_SHIFT_NYU = (0.00006016, 0.00579), (0.000305, 0.1378)
"""Scale and shift of DPT-Hybrid's output in 1/m (isl-org/DPT); depth is at most 172.7 m and 7.257 m."""


@pytest.fixture(scope="module")
def tiny() -> TransformerDepthNetwork:
    torch.manual_seed(0)
    return Dpt(DptConfig(size="tiny")).eval()


ALL = [*(f"dpt {size}" for size in dpt_file.SIZES), *(f"depth_anything {size}" for size in depth_anything_file.SIZES)]


def on_meta(name: str) -> TransformerDepthNetwork:
    network, size = name.split()
    with torch.device("meta"):
        if network == "dpt":
            return Dpt(DptConfig(size=size), pretrained=False)
        return DepthAnything(DepthAnythingConfig(size=size), pretrained=False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), [("dpt hybrid", 122_377_985), ("dpt tiny", 1_824_065)])
def test_the_number_of_parameters(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == parameters


@pytest.mark.slow
def test_parts_of_hybrid_have_the_published_sizes() -> None:
    network = on_meta("dpt hybrid").network
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sizes == {"dpt": 98_181_952, "neck": 23_864_064, "head": 331_969}
    assert sum(p.numel() for p in network.dpt.encoder.layer[0].attention.parameters()) == 2_362_368
    assert sum(p.numel() for p in network.neck.fusion_stage.layers[0].residual_layer1.parameters()) == 1_180_160


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "blocks", "heads", "hooks", "fusion"),
    [
        ("dpt hybrid", 768, 12, 12, (8, 11), 256),
        ("dpt large", 1024, 24, 16, (5, 11, 17, 23), 256),
        ("depth_anything small", 384, 12, 6, (2, 5, 8, 11), 64),
        ("depth_anything base", 768, 12, 12, (2, 5, 8, 11), 128),
        ("depth_anything large", 1024, 24, 16, (4, 11, 17, 23), 256),
    ],
)
def test_settings_that_weights_do_not_contain_are_as_published(
    name: str, width: int, blocks: int, heads: int, hooks: tuple[int, ...], fusion: int
) -> None:
    """Weights of a file fit whatever the number of heads and the hooks are (DPT, section 3; Depth Anything V2, table of
    its models).
    """
    network = on_meta(name)
    assert (network.arch.blocks, network.arch.heads, network.arch.hooks) == (blocks, heads, hooks)
    assert network.body.embeddings.cls_token.shape[-1] == width
    assert network.network.neck.convs[0].out_channels == fusion
    assert {m.heads for m in network.modules() if isinstance(m, SelfAttention)} == {heads}
    assert {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)} == (
        {32} if name == "dpt hybrid" else set()
    )
    assert {m.eps for m in network.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


@pytest.mark.slow
def test_no_padding_is_computed_from_the_size() -> None:
    """An export would carry conditions on the size along; that it pads as transformers does is compared below."""
    assert [type(m).__name__ for m in on_meta("dpt hybrid").modules() if "Pad" in type(m).__name__] == [
        "ConstantPad2d"
    ] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_no_network_has_batch_norm_and_no_decoder_has_any(name: str) -> None:
    network = on_meta(name)
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    decoder = [*network.network.neck.modules(), *network.network.head.modules()]
    assert not [m for m in decoder if "Norm" in type(m).__name__]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 160)])
def test_a_image_of_any_multiple_of_stride_comes_back_in_its_size(
    tiny: TransformerDepthNetwork, size: tuple[int, int]
) -> None:
    with torch.no_grad():
        output = tiny(torch.rand(2, 3, *size)).inverse_depth[0]
    assert output.shape == (2, 1, *size)
    assert output.dtype == torch.float32
    assert output.min() >= MIN_INVERSE_DEPTH


def test_a_size_that_does_not_divide_names_the_nearest_that_does(tiny: TransformerDepthNetwork) -> None:
    with pytest.raises(
        ConfigError, match=r"image size for 'dpt': found 100x60; expected multiples of 32. Fix: take 96x64"
    ):
        tiny(torch.rand(1, 3, 60, 100))


def test_a_image_is_normalized_inside(tiny: TransformerDepthNetwork) -> None:
    seen: list[Tensor] = []
    hook = tiny.network.dpt.embeddings.backbone.bit.embedder.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    with torch.no_grad():
        tiny(torch.full((1, 3, 32, 32), 0.75))
    hook.remove()
    assert (seen[0] == 0.5).all()


# -- places
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_places_stay_as_they_are_on_the_grid_that_they_were_trained_on(mode: str) -> None:
    positions = torch.randn(1, 1 + 36, 8)
    assert torch.equal(resize_position_embeddings(positions, (6, 6), mode), positions)


def test_places_of_another_grid_are_interpolated_with_align_corners_false_and_the_class_tokens_is_kept() -> None:
    positions = torch.cat(
        (torch.full((1, 1, 1), 7.0), torch.tensor([0.0, 1, 0, 1]).view(1, 4, 1)), dim=1
    )  # a 2x2 grid, rising with x
    resized = resize_position_embeddings(positions, (1, 4), "bilinear")
    assert resized.flatten().tolist() == [7.0, 0.0, 0.25, 0.75, 1.0]  # with align_corners=True: 0, 1/3, 2/3, 1


def test_places_are_row_after_row_like_the_tokens() -> None:
    rows = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)
    resized = resize_position_embeddings(torch.cat((torch.zeros(1, 1, 1), rows), dim=1), (2, 3), "bilinear")
    assert resized[0, 1:, 0].view(2, 3).tolist() == [[0.5] * 3, [2.5] * 3]


def test_random_position_embeddings_are_distinct(tiny: TransformerDepthNetwork) -> None:
    drawn = tiny.network.dpt.embeddings.position_embeddings[0, 1:]
    torch.testing.assert_close(drawn.detach(), make_sincos_positions(24, 128))
    assert torch.cdist(drawn, drawn).fill_diagonal_(1).min() > 0.1


# -- the same network as transformers runs it
# ------------------------------------------------------------------------------------


def hybrid() -> Architecture:
    """A shrunken DPT-Hybrid, built as the published one is, ReLU and all."""
    sizes = {
        "stem": 8,
        "stages": (16, 32, 64),
        "depths": (1, 2, 1),
        "groups": 4,
        "width": 32,
        "blocks": 4,
        "heads": 4,
        "hooks": (1, 3),
    }
    return make_hybrid(**sizes, fusion=16, hub="nobody/nothing")


def plain() -> Architecture:
    return make_plain(
        width=32, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(8, 16, 24, 32), fusion=16, hub="nobody/nothing"
    )


def depth_anything() -> Architecture:
    shrunken = make_architecture(
        width=32, blocks=4, heads=4, hooks=(0, 1, 2, 3), neck=(8, 16, 24, 32), fusion=16, published="Tiny"
    )
    shrunken.settings["backbone_config"]["image_size"] = 56
    return shrunken


def tiny_architecture() -> Architecture:
    return dpt_file.SIZES["tiny"]


SHRUNKEN = [hybrid, plain, depth_anything]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy in order: transformers before 5 has other names for DINOv2's projections."""
    with torch.no_grad():
        for ours, theirs in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
            theirs.copy_(ours)


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHRUNKEN)
def test_output_equals_that_of_transformers_own_network(arch: Callable[[], Architecture]) -> None:
    """Of the only size that transformers' hybrid takes; its attention, padding, places, hooks and head are replaced or
    run by us.
    """
    ours, theirs = build(arch), choose_class(arch()).build(arch()).eval()
    copy_weights(ours.network, theirs)
    side = 56 if stride_of(ours) == 14 else 384
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        expected = theirs(ours.normalize(image)).predicted_depth[:, None]
        assert expected.std() > 1e-4
        torch.testing.assert_close(ours.raw(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arch", SHRUNKEN)
def test_tokens_of_another_size_are_those_of_transformers(arch: Callable[[], Architecture]) -> None:
    ours, theirs = build(arch), choose_class(arch()).build(arch()).eval()
    copy_weights(ours.network, theirs)
    image = torch.rand(2, 3, 70, 98) if stride_of(ours) == 14 else torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        tokens, grid, _ = embed_image(ours.body.embeddings, image, ours.positions)
        if arch is depth_anything:
            expected = theirs.backbone.embeddings(image)
        else:
            expected = theirs.dpt.embeddings(
                image, **({"interpolate_pos_encoding": True} if arch is hybrid else {})
            ).last_hidden_states
    assert grid == ((5, 7) if stride_of(ours) == 14 else (4, 6))
    torch.testing.assert_close(tokens, expected)


def test_blocks_behind_the_last_that_the_decoder_sees_are_not_run() -> None:
    network = build(lambda: replace(plain(), settings={**plain().settings, "num_hidden_layers": 5}))
    seen = []
    for index, block in enumerate(network.network.dpt.encoder.layer):
        block.register_forward_pre_hook(lambda *_, index=index: seen.append(index))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
    assert seen == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHRUNKEN)
def test_trainable_parameters_are_those_with_effect_on_the_output(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    image = torch.rand(2, 3, 2 * stride_of(network), 2 * stride_of(network))
    network(image).inverse_depth[0].log().mean().backward()
    unused = {name for name, p in network.named_parameters() if p.grad is None}
    assert unused == {name for name, p in network.named_parameters() if not p.requires_grad}
    assert 4 <= len(unused) <= 6
    backbone, head = network.backbone_parameters(), network.decoder_parameters()
    assert {id(p) for p in backbone + head} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(backbone) + len(head) == len({id(p) for p in backbone + head})
    assert any(p is network.body.embeddings.position_embeddings for p in backbone)


# -- attention as a part
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", SHRUNKEN)
def test_every_block_has_an_attention_of_its_own(arch: Callable[[], Architecture]) -> None:
    """One instance that all blocks shared is how others' comparison of attentions came about."""
    network = build(arch, attention={"name": "memory_compressed"})
    cores = [m.core for m in network.modules() if isinstance(m, SelfAttention)]
    assert len({id(core) for core in cores}) == len(cores) == network.arch.blocks
    memory = [p.data_ptr() for core in cores for p in core.parameters()]
    assert len(set(memory)) == len(memory) >= network.arch.blocks


@pytest.mark.parametrize("arch", SHRUNKEN)
def test_the_grid_reaches_the_attention_and_projections_stay(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    before = network.network.state_dict().keys()
    seen = []
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.core.register_forward_pre_hook(lambda _, args: seen.append((tuple(args[0].shape), args[3])))
    with torch.no_grad():
        network(torch.rand(2, 3, 2 * stride_of(network), 4 * stride_of(network)))
    height, width = (2, 4) if stride_of(network) == 14 else (4, 8)
    assert seen == [((2, 4, 1 + height * width, 8), (height, width))] * 4
    assert before == rename_to_transformers(choose_class(network.arch).build(network.arch).state_dict(), before).keys()


class Nothing(nn.Module):
    """Takes the place of an attention's core where a test shows that it would see one that is broken."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return torch.zeros_like(v)


def attentive(network: TransformerDepthNetwork) -> TransformerDepthNetwork:
    """The same network with larger projections: as drawn, so little comes of attention that no output would show its
    absence.
    """
    for module in network.modules():
        if isinstance(module, SelfAttention):
            for name, parameter in module.named_parameters():
                if name.endswith("weight") and not name.startswith("core."):
                    parameter.data *= 10
    return network


def without_attention(network: TransformerDepthNetwork) -> TransformerDepthNetwork:
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.core = Nothing()
    return network


def visible_in(network: TransformerDepthNetwork) -> Tensor:
    """Return the output for an image minus its mean, which does not depend on the image."""
    image = torch.rand(1, 3, 2 * stride_of(network), 4 * stride_of(network), generator=torch.Generator().manual_seed(0))
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


@pytest.mark.parametrize("arch", [tiny_architecture, depth_anything])
def test_bfloat16_output_matches_float32(arch: Callable[[], Architecture]) -> None:
    network = attentive(build(arch))
    exact = visible_in(network)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = visible_in(network)
        image = torch.rand(1, 3, stride_of(network), stride_of(network))
        assert network(image).inverse_depth[0].dtype == torch.float32
        assert off(visible_in(without_attention(network)), exact) > 0.3
    assert 0 < off(rounded, exact) < 0.2


# -- inverse depth
# -------------------------------------------------------------------------------------------------------------


def test_inverse_depth_is_scale_times_output_plus_shift(tiny: TransformerDepthNetwork) -> None:
    image = torch.rand(1, 3, 32, 64)
    network = build(plain, scale=0.5, shift=0.25)
    with torch.no_grad():
        torch.testing.assert_close(network(image).inverse_depth[0], 0.5 * network.raw(image) + 0.25)
        network.calibrate(2.0, -100.0)
        assert (network(image).inverse_depth[0] == MIN_INVERSE_DEPTH).all()
    assert network.state_dict()["scale"] == 2
    assert network.state_dict()["shift"] == -100


def test_the_published_constants_give_the_published_depths() -> None:
    def metres(output: float, constants: tuple[float, float]) -> float:
        return 1 / (constants[0] * output + constants[1])

    assert metres(111.5, DPT_SCALE_SHIFT_KITTI) == pytest.approx(80, rel=1e-3)
    assert metres(3228, DPT_SCALE_SHIFT_KITTI) == pytest.approx(5, rel=1e-3)
    assert metres(0, DPT_SCALE_SHIFT_KITTI) == pytest.approx(172.7, rel=1e-3)
    assert metres(0, DPT_SCALE_SHIFT_NYU) == pytest.approx(7.257, rel=1e-3)
    for number in (*DPT_SCALE_SHIFT_KITTI, *DPT_SCALE_SHIFT_NYU):
        assert format(number, "f").rstrip("0") in (DptConfig.__doc__ or "")


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 1.0), (-1.0, 1.0), (math.nan, 0.0), (1.0, math.inf)])
def test_a_calibration_that_turns_depth_around_is_refused(scale: float, shift: float) -> None:
    with pytest.raises(ConfigError, match="expected a positive scale"):
        build(plain).calibrate(scale, shift)


@pytest.mark.parametrize("arch", [*SHRUNKEN, tiny_architecture])
def test_a_random_network_starts_at_street_depth_with_gradients_everywhere(arch: Callable[[], Architecture]) -> None:
    network = build(arch)
    image = torch.rand(2, 3, 4 * stride_of(network), 4 * stride_of(network))
    raw = network.raw(image)
    raw.retain_grad()
    depth_m = 1 / (network.scale * raw + network.shift)
    assert 6 < depth_m.min() <= depth_m.max() < 15
    depth_m.log().mean().backward()
    assert network.last_layer.bias.grad.abs() > 0.1
    assert (raw > 0).all()


def test_the_small_ones_never_lose_their_slope(tiny: TransformerDepthNetwork) -> None:
    """Far below the range of a ReLU there is still a slope; published networks keep the ReLU that they were trained
    with.
    """
    last = tiny.network.head.head[-1]
    far = torch.tensor([-8.0], requires_grad=True)
    (tiny.scale * last(far)).log().backward()
    assert far.grad is not None
    assert far.grad > 0.9
    assert isinstance(build(hybrid).network.head.head[-1], nn.ReLU)


@pytest.mark.slow
def test_a_small_one_learns(tiny: TransformerDepthNetwork) -> None:
    """A slanted street, from 4 m to 60 m: the log error falls to a quarter in 25 steps, with any draw of weights."""
    network = copy.deepcopy(tiny).train()
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    true = torch.linspace(1 / 60, 1 / 4, 64).view(1, 1, 64, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    errors = []
    for _ in range(25):
        error = (network(image).inverse_depth[0].log() - true.log()).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < errors[0] / 4


# -- what is refused
# -----------------------------------------------------------------------------------------------------------


def test_a_size_is_checked_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dpt, "build", None)
    Dpt.check_config(DptConfig(), height=352, width=1216)
    with pytest.raises(ConfigError, match=r"found 1242x375; expected multiples of 32. Fix: take 1248x384"):
        Dpt.check_config(DptConfig(), height=375, width=1242)


def test_depth_anything_takes_any_size() -> None:
    """Sides become multiples of 14 inside, and the depth has the size of the image."""
    network = build(depth_anything)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 96)).inverse_depth[0].shape == (1, 1, 64, 96)
        sizes: list[tuple[int, ...]] = []
        network.body.embeddings.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape)))
        network.body.embeddings.patch_embeddings.projection.register_forward_pre_hook(
            lambda _, args: sizes.append(tuple(args[0].shape))
        )
        network(torch.rand(1, 3, 64, 96))
    assert sizes == [(1, 3, 70, 98)]


def test_a_missing_extra_is_reported_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_network, "find_spec", lambda name: None)
    for use in (
        lambda: Dpt.check_config(DptConfig(size="tiny"), height=64, width=64),
        lambda: Dpt(DptConfig(size="tiny")),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'stadia\[transformers\]'"):
            use()


def test_a_misspelt_network_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"network: .*did you mean 'depth_anything'"):
        resolve_config(DepthModelConfig, {}, ["network=depth_anythin"])
