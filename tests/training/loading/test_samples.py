"""Samples: geometry that warps onto itself however it was changed, randomness that depends on nothing else."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import LEFT, Camera, Recording
from stadia.data.config import AugmentationConfig, CacheConfig, ColorConfig, DataConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.recordings import crop_recording
from stadia.differentiable.batch import Batch
from stadia.differentiable.view_synthesis import synthesize_views
from stadia.geometry.cameras import backproject, intrinsics
from stadia.training.loading.samples import PackedSample, VideoSamples, stack_samples, unpack_batch

OneLine = Callable[..., None]
CACHE = CacheConfig()
NO_COLOR = ColorConfig(probability=0)
ALWAYS = ColorConfig(probability=1)


@pytest.fixture
def recording(tmp_path: Path, world: Any) -> Any:
    return open_recordings(world.recording(tmp_path / "a", 5))[0]


def samples(recording: Any, **changes: Any) -> VideoSamples:
    defaults: dict[str, Any] = {"height": 96, "width": 160, "cache": CACHE, "ground_truth_depth": True}
    return VideoSamples([recording], **(defaults | changes))


def batched(*samples: PackedSample) -> Batch:
    return unpack_batch(stack_samples(samples))


def residual(sample: PackedSample) -> list[float]:
    """Mean absolute difference of each warped source to the target, by true depth and motion, where it is seen."""
    batch = batched(sample)
    targets = batch.targets
    views = synthesize_views(
        targets.sources, targets.depth_m, targets.camera, targets.source_camera, targets.T_source_target_true
    )
    # leave out the pixels around the edge between road and wall, where depth is not smooth
    kept = views.valid & (torch.nn.functional.max_pool2d(targets.depth_m, 5, 1, 2) < 1.1 * targets.depth_m)[:, None]
    difference = (views.image - targets.image[:, None]).abs() * kept
    return [float(difference[0, n].sum() / (3 * kept[0, n].sum())) for n in range(kept.shape[1])]


@pytest.mark.slow
@pytest.mark.parametrize("stereo", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "augmentation",
    [
        AugmentationConfig(mirror=0, color=NO_COLOR),
        AugmentationConfig(mirror=1, color=NO_COLOR),
        AugmentationConfig(mirror=1, color=ALWAYS, zoom=1.3),
    ],
    ids=["plain", "mirrored", "mirrored and zoomed"],
)
@pytest.mark.parametrize("size", [(96, 160), (64, 96)])
def test_every_source_warps_onto_the_target(
    recording: Any, augmentation: AugmentationConfig, side: str, stereo: bool, size: tuple[int, int]
) -> None:
    """The law of samples: whatever was changed, image, camera, depth and motion changed together."""
    packed = samples(
        recording, height=size[0], width=size[1], augmentation=augmentation, target_sides=(side,), stereo=stereo
    ).packed(1)
    sample = unpack_batch(packed)
    assert sample.source_names == ("-1", "+1") + ("stereo",) * stereo
    unwarped = (sample.targets.sources - sample.targets.image).abs().mean(dim=(1, 2, 3))
    for name, warped, before in zip(sample.source_names, residual(packed), unwarped.tolist(), strict=True):
        assert warped < 0.02, f"{name}: {warped:.4f} warped, {before:.4f} before"
        assert warped < 0.25 * before


@pytest.mark.parametrize("mirror", [0.0, 1.0])
@pytest.mark.parametrize(("side", "sign"), [("left", -1), ("right", 1)])
def test_the_rig_keeps_its_sides_when_mirrored(recording: Any, world: Any, mirror: float, side: str, sign: int) -> None:
    """A mirrored right image plays left: its partner is to the right of it, as before."""
    sample = samples(recording, augmentation=AugmentationConfig(mirror=mirror, color=NO_COLOR), target_sides=(side,))[0]
    rig = sample.inputs.T_source_target_rig
    assert rig[:2].isnan().all()
    expected = torch.eye(4)
    expected[0, 3] = sign * world.baseline_m
    torch.testing.assert_close(rig[2], expected)
    (meta,) = sample.meta
    assert meta.mirrored == bool(mirror)
    assert meta.side == (side if not mirror else {"left": "right", "right": "left"}[side])
    assert meta.file == recording.file(1, meta.side)


def test_color_augmentation_changes_inputs_only_and_all_frames_alike(recording: Any) -> None:
    plain = samples(recording)[1]
    colored = samples(recording, augmentation=AugmentationConfig(mirror=0, color=ALWAYS))[1]
    assert torch.equal(colored.targets.image, plain.targets.image)
    assert torch.equal(colored.targets.sources, plain.targets.sources)
    before = torch.cat([plain.inputs.image[None], plain.inputs.sources]).permute(0, 2, 3, 1)
    after = torch.cat([colored.inputs.image[None], colored.inputs.sources]).permute(0, 2, 3, 1)
    assert (before - after).abs().mean() > 0.01
    seen = [((a > 0) & (a < 1)).all(-1) for a in after]  # not clamped
    maps = []
    for b, a, s in zip(before, after, seen, strict=True):
        colors = torch.cat([b[s], torch.ones(int(s.sum()), 1)], 1)
        maps.append(torch.linalg.lstsq(colors, a[s]).solution)
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], atol=1e-3, rtol=0)


def test_a_sample_is_a_function_of_seed_epoch_and_index(recording: Any) -> None:
    augmentation = AugmentationConfig(color=ALWAYS, zoom=1.2)
    one, two = (
        samples(recording, augmentation=augmentation, seed=3),
        samples(recording, augmentation=augmentation, seed=3),
    )
    reference = one[5, 2].inputs.image
    _ = [one[n % 3] for n in range(4)]
    for same in (one[5, 2], two[5, 2], pickle.loads(pickle.dumps(one))[5, 2]):
        assert torch.equal(same.inputs.image, reference)
    for other in (two[6, 2], two[5, 1], samples(recording, augmentation=augmentation, seed=4)[5, 2]):
        assert not torch.equal(other.inputs.image, reference)


def test_sparse_depth_keeps_single_returns(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recording.depth_m(0)
    single = np.where(np.random.default_rng(0).random(whole.shape) < 0.05, whole, 0).astype(np.float32)
    monkeypatch.setattr(type(recording), "depth_m", lambda *_: single)
    small: dict[str, Any] = {"height": 32, "width": 64, "offsets": ()}
    kept, dropped = (
        samples(recording, **small, sparse_depth=sparse)[0].targets.depth_m.count_nonzero() for sparse in (True, False)
    )
    assert kept > 3 * dropped > 0
    config = DataConfig(path="x", height=32, width=64, stereo=False, ground_truth_depth=True, sparse_depth=True)
    assert VideoSamples.from_config([recording], config, training=True)[0].targets.depth_m.count_nonzero() > 3 * dropped
    unsettled = config.model_copy(update={"sparse_depth": "auto"})
    with refuses(ConfigError, where="data.sparse_depth", found="auto"):
        VideoSamples.from_config([recording], unsettled, training=True)
    assert VideoSamples.from_config(
        [recording], unsettled.model_copy(update={"ground_truth_depth": False}), training=True
    )


def test_batches_of_packed_samples_are_the_samples(recording: Any) -> None:
    """Workers send bytes; what becomes of them is what one sample alone becomes, also where only some are colored or
    have depth.
    """
    some = samples(recording, augmentation=AugmentationConfig(color=ColorConfig(probability=0.5)), seed=1)
    packed = [some.packed(n) for n in range(3)]
    assert {p.color is None for p in packed} == {True, False}
    packed[1] = replace(packed[1], depth_m=None)
    batch = unpack_batch(stack_samples(packed))
    for n in range(3):
        alone = some[n]
        torch.testing.assert_close(batch.inputs.image[n], alone.inputs.image)
        torch.testing.assert_close(batch.inputs.sources[n], alone.inputs.sources)
        assert torch.equal(batch.targets.image[n], alone.targets.image)
        assert torch.equal(batch.targets.sources[n], alone.targets.sources)
        assert torch.equal(batch.targets.source_camera.K[n], alone.targets.source_camera.K)
        assert torch.equal(batch.targets.depth_m[n], alone.targets.depth_m * (n != 1))
        if packed[n].color is None:
            assert torch.equal(batch.inputs.image[n], batch.targets.image[n])
    assert batch.targets.image.is_contiguous()
    assert batch.inputs.sources.is_contiguous()
    plain = unpack_batch(stack_samples([replace(p, color=None) for p in packed]))
    assert plain.inputs.image.data_ptr() == plain.targets.image.data_ptr()


HEIGHT, WIDTH = 375, 1242
TOP, LEFT_EDGE = 23, 13  # of the KB crop, by hand


class Wide(Recording):
    """An image of KITTI's size whose colors encode each pixel's position; depth in one pixel, some more depth outside
    the crop.
    """

    name, sides = "wide", (LEFT,)

    def __len__(self) -> int:
        return 2

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        return np.stack([rows // 2, columns // 8, np.full_like(rows, index)], -1).astype(np.uint8)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return intrinsics(721.5, 721.5, 609.6, 172.9, height=HEIGHT, width=WIDTH)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32]:
        depth = np.zeros((HEIGHT, WIDTH), np.float32)
        depth[200, 700], depth[:TOP], depth[:, :LEFT_EDGE] = 8.0, 50.0, 50.0
        return depth


def test_image_camera_and_ground_truth_stay_together() -> None:
    whole, crop = Wide(), crop_recording(Wide(), "kb")
    image, camera, depth_m = crop.image(1), crop.camera(1), crop.depth_m(1)
    assert depth_m is not None
    assert image.shape[:2] == depth_m.shape == (camera.height, camera.width) == (352, 1216)
    np.testing.assert_array_equal(image, whole.image(1)[TOP:, LEFT_EDGE : LEFT_EDGE + 1216])
    rows, columns = np.nonzero(depth_m)
    assert (rows.tolist(), columns.tolist()) == ([200 - TOP], [700 - LEFT_EDGE]), "what lies outside is gone"
    before = backproject(whole.depth_m(1)[None], whole.camera(1))[:, 200, 700]
    after = backproject(depth_m[None], camera)[:, 200 - TOP, 700 - LEFT_EDGE]
    np.testing.assert_allclose(after, before, rtol=1e-6)
