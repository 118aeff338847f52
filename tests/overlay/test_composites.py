"""Composed images on demand and on disk: the same for the same seed, in any process; splits that share nothing; labels
and their source.
"""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.differentiable.batch import Batch
from stadia.geometry.cameras import mirror_camera
from stadia.overlay.composites import CompositeSplits, make_composers, open_composites
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.world.composite_files import write_composites
from stadia.training.loading.loader import Loader

SIZE = {"height": 32, "width": 40}


def cut(path: Path, seed: int = 0, size: tuple[int, int] = (30, 20)) -> None:
    """An ellipse of a color of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgba = np.zeros((*size, 4), np.uint8)
    rgba[..., :3] = np.random.default_rng(seed).integers(0, 255, 3)
    cv2.ellipse(
        alpha := np.zeros(size, np.uint8),
        (size[1] // 2, size[0] // 2),
        (size[1] // 3, size[0] // 3),
        0,
        0,
        360,
        255,
        -1,
    )
    rgba[..., 3] = alpha
    assert cv2.imwrite(str(path), rgba)


@pytest.fixture
def given(world, tmp_path: Path) -> OverlayDataConfig:
    """Backgrounds of three recordings, and five objects."""
    world.dataset(tmp_path / "roads", {"train": ["a", "b"], "val": ["c"]}, frames=4, stereo=False)
    for number in range(5):
        cut(tmp_path / "cut" / f"thing-{number}.png", number)
    paths = {"backgrounds": {"path": str(tmp_path / "roads")}, "foregrounds": {"path": str(tmp_path / "cut")}}
    return OverlayDataConfig(samples=20, val_samples=6, **SIZE, **paths)


def same(a, b) -> bool:
    names = ("image", "background", "depth", "mask", "K")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names) and a.pair == b.pair


def test_a_sample_is_a_function_of_seed_and_number(given) -> None:
    first, again = (open_composites(given, seed=3).images["train"] for _ in range(2))
    forward = [first.composed(number) for number in range(12)]
    backward = [again.composed(number) for number in reversed(range(12))][::-1]
    assert all(map(same, forward, backward))
    assert same(pickle.loads(pickle.dumps(first)).composed(5), forward[5])  # as a worker gets it
    other = open_composites(given, seed=4).images["train"]
    assert not all(same(other.composed(number), forward[number]) for number in range(12))
    assert {first.pair(number) == forward[number].pair for number in range(12)} == {True}


def test_a_batch_has_both_images_depth_and_mask(given) -> None:
    batch = next(iter(Loader(open_composites(given, seed=0).samples("val"), batch_size=3, shuffle=False)))
    assert batch.inputs.image.shape == batch.inputs.background.shape == (3, 3, 32, 40)
    assert batch.inputs.sources.shape == (3, 0, 3, 32, 40)
    assert batch.targets.mask.shape == batch.targets.depth_m.shape == (3, 1, 32, 40)
    assert batch.targets.mask.dtype == torch.bool
    changed = (batch.inputs.image != batch.inputs.background).any(1, keepdim=True)
    assert (changed | ~batch.targets.mask).float().mean() > 0.99, "outside of the pasted thing both are equal"
    assert batch.targets.mask.flatten(1).any(1).all()
    assert batch.inputs.camera.K.shape == (3, 3, 3)


def test_color_is_one_draw_for_image_and_background(given) -> None:
    config = given.model_copy(update={"color": given.color.model_copy(update={"probability": 1.0})})
    batch = next(iter(Loader(open_composites(config, seed=0).samples("train"), batch_size=4, shuffle=False)))
    apart = ~(batch.inputs.image - batch.inputs.background).abs().amax(1, keepdim=True).gt(0)
    assert (apart | (batch.targets.image - batch.inputs.image).abs().amax(1, keepdim=True).gt(0)).float().mean() > 0.9
    assert torch.equal(
        batch.inputs.image[apart.expand_as(batch.inputs.image)],
        batch.inputs.background[apart.expand_as(batch.inputs.image)],
    )


def test_mirroring_changes_image_and_camera_together(given) -> None:
    def first(probability: float) -> Batch:
        samples = open_composites(given.model_copy(update={"mirror": probability}), seed=0).samples("train")
        return next(iter(Loader(samples, batch_size=4, shuffle=False)))

    plain, turned = first(0.0), first(1.0)
    for of in (
        lambda b: b.targets.image,
        lambda b: b.inputs.background,
        lambda b: b.targets.depth_m,
        lambda b: b.targets.mask,
    ):
        assert torch.equal(of(turned), of(plain).flip(-1))
        assert not torch.equal(of(turned), of(plain))
    assert torch.allclose(mirror_camera(turned.inputs.camera).K, plain.inputs.camera.K, atol=1e-5)
    assert [one.mirrored for one in turned.meta] == [True] * 4
    assert first(0.5).meta != plain.meta != turned.meta
    held_out = Loader(open_composites(given, seed=0).samples("val"), batch_size=3, shuffle=False)
    assert not any(one.mirrored for batch in held_out for one in batch.meta)


def test_splits_share_no_world_and_no_object(given) -> None:
    images = open_composites(given, seed=0).images
    pairs = {split: [one.pair(number) for number in range(40)] for split, one in images.items()}
    for factor in ("background", "world", "foreground", "object"):
        train, val = ({getattr(pair, factor) for pair in pairs[split]} for split in ("train", "val"))
        assert train
        assert val
        assert not train & val, factor


def written(config: OverlayDataConfig, out: Path, count: int = 20, seed: int = 3) -> CompositeSplits:
    made = make_composers(config, seed=seed)
    write_composites({split: made[split] for split in ("train", "val")}, {"train": count, "val": 6}, out)
    return open_composites(config.model_copy(update={"path": str(out)}), seed=0)


@pytest.mark.slow
def test_written_images_equal_composed_ones_bit_for_bit(given, tmp_path: Path) -> None:
    disk, made = written(given, tmp_path / "out"), open_composites(given, seed=3)
    for split, count in (("train", 20), ("val", 6)):
        assert disk.images[split].count == count
        assert all(same(disk.images[split].composed(n), made.images[split].composed(n)) for n in range(count))
    assert disk.label == made.label
    samples, plain = disk.samples("val"), made.samples("val")
    assert torch.equal(samples[2].inputs.image, plain[2].inputs.image)
    assert torch.equal(samples[2].targets.depth_m, plain[2].targets.depth_m)


def test_labels_on_disk_are_lossless_and_have_a_source(given, tmp_path: Path) -> None:
    written(given, tmp_path / "out")
    shard = tmp_path / "out" / "train" / "00000"
    masks = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted((shard / "mask").iterdir())]
    assert set(np.unique(np.stack(masks)).tolist()) == {0, 255}
    with np.load(shard / "depth" / "000.npz", allow_pickle=False) as arrays:
        assert arrays["depth_m"].dtype == np.float32
        assert str(arrays["source"]) == "exact"
    assert json.loads((shard / "samples.json").read_text())["label"] == {"source": "exact", "depth_scale": "metres"}
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["label"] == {
        "source": "exact",
        "depth_scale": "metres",
    }


@pytest.mark.slow
def test_images_without_depth_need_a_teacher_whose_scale_is_kept(given, world, tmp_path: Path) -> None:
    world.dataset(tmp_path / "bare", {"train": ["d"], "val": ["e"]}, frames=3, stereo=False, depth=False)
    bare = given.model_copy(
        update={"backgrounds": given.backgrounds.model_copy(update={"path": str(tmp_path / "bare")})}
    )
    with refuses(DataError, where=("bare/d", "bare/e"), found="5", fix="backgrounds.teacher"):
        open_composites(bare, seed=0)
    teacher = tmp_path / "teacher"
    for name in ("d", "e"):
        folder = teacher / "bare" / name
        (folder / "depth").mkdir(parents=True)
        for index in range(3):
            depth = np.linspace(9, 1, 24, dtype=np.float32)[:, None].repeat(40, 1)
            np.savez(folder / "depth" / f"{index:06d}.npz", depth=depth)
        record = {
            "depth_scale": "up-to-scale",
            "recipe": "selfsup",
            "checkpoint": "best.safetensors, step 7",
            "finished": True,
        }
        entries = [f"{index:06d}" for index in range(3)]
        (folder / "predictions.json").write_text(json.dumps({**record, "entries": entries}))
    config = bare.model_copy(update={"backgrounds": bare.backgrounds.model_copy(update={"teacher": str(teacher)})})
    opened = open_composites(config, seed=0)
    assert opened.label.source == "teacher: selfsup, best.safetensors, step 7"
    assert opened.label.depth_scale is DepthScale.UP_TO_SCALE
    assert 0 < opened.images["train"].composed(0).depth.max() <= 9
    opened_facts = opened.images["train"].facts()
    disk = written(config, tmp_path / "out")
    assert disk.label == opened.label
    assert same(disk.images["train"].composed(1), open_composites(config, seed=3).images["train"].composed(1))
    with np.load(tmp_path / "out" / "train" / "00000" / "depth" / "000.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"depth", "source"}, "a name without a unit: nobody scores it as metres"
    np.savez(
        teacher / "bare" / "d" / "depth" / "000001.npz", depth=np.full((24, 40), 5, np.float32)
    )  # another network of that name
    assert open_composites(config, seed=0).images["train"].facts() != opened_facts
    with refuses(DataError, where="00000"):
        written(config, tmp_path / "out")
    (teacher / "bare" / "e" / "predictions.json").write_text(
        json.dumps({**record, "depth_scale": "metres", "entries": entries})
    )
    with refuses(DataError, where="bare/e", expected="bare/d"):
        open_composites(config, seed=0)
