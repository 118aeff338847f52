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
from tests.processes import leave_stale_folder
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.core.types import Batch, DepthScale
from stadia.differentiable.view_synthesis import mirror_camera
from stadia.io import atomic_files
from stadia.overlay.composites import CompositeSplits, make_composers, open_composites
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.world.composite_files import SHARD_SIZE, write_composites
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


@pytest.mark.slow
def test_workers_and_order_change_nothing(given) -> None:
    samples = open_composites(given, seed=0).samples("train")
    alone = {
        meta: image
        for batch in Loader(samples, batch_size=4, shuffle=False)
        for meta, image in zip(batch.meta, batch.inputs.image, strict=True)
    }
    shared = {
        meta: image
        for batch in Loader(samples, batch_size=5, shuffle=True, workers=2)
        for meta, image in zip(batch.meta, batch.inputs.image, strict=True)
    }
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[meta], shared[meta]) for meta in alone)


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


def test_epochs_are_new_images_or_the_same_again(given) -> None:
    fresh = open_composites(given, seed=0).samples("train")
    assert [fresh.number((epoch, 3)) for epoch in range(3)] == [3, 23, 43]
    again = open_composites(given.model_copy(update={"fresh": False}), seed=0).samples("train")
    assert [again.number((epoch, 3)) for epoch in range(3)] == [3, 3, 3]
    assert open_composites(given, seed=0).samples("val").number((7, 2)) == 2, "validation is always the same"


def test_splits_share_no_world_and_no_object(given) -> None:
    images = open_composites(given, seed=0).images
    pairs = {split: [one.pair(number) for number in range(40)] for split, one in images.items()}
    for factor in ("background", "world", "foreground", "object"):
        train, val = ({getattr(pair, factor) for pair in pairs[split]} for split in ("train", "val"))
        assert train
        assert val
        assert not train & val, factor


def test_views_of_an_object_stay_together_and_named_splits_are_kept(given, tmp_path: Path) -> None:
    for number in range(4):
        for view in range(3):
            cut(tmp_path / "views" / f"cup-{number}" / f"{view}.png", 10 * number + view)
    config = given.model_copy(
        update={"foregrounds": given.foregrounds.model_copy(update={"path": str(tmp_path / "views")})}
    )
    images = open_composites(config, seed=0).images
    train, val = ({images[split].pair(number).object for number in range(30)} for split in ("train", "val"))
    assert (len(train), len(val), len(train & val)) == (3, 1, 0)
    assert len({images["val"].pair(number).foreground for number in range(30)}) == 3
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        cut(tmp_path / "named" / split / f"{number}.png", number)
    config = given.model_copy(
        update={"foregrounds": given.foregrounds.model_copy(update={"path": str(tmp_path / "named")})}
    )
    assert open_composites(config, seed=0).images["val"].pair(0).object == "2"


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
def test_an_interrupted_writing_goes_on_and_other_settings_are_refused(
    given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stadia.overlay.world.composite_files.SHARD_SIZE", 5)
    written(given, tmp_path / "whole")
    written(given, tmp_path / "out")
    kept = tmp_path / "out" / "train" / "00001" / "samples.json"
    before = kept.stat().st_mtime_ns
    for name in ("00002", "00003"):
        for file in sorted((tmp_path / "out" / "train" / name).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (tmp_path / "out" / "train" / name).rmdir()
    leave_stale_folder(tmp_path / "out" / "train" / "00002")
    atomic_files._CLEANED.clear()  # another process goes on
    written(given, tmp_path / "out")
    assert kept.stat().st_mtime_ns == before
    files = {
        path.relative_to(tmp_path / "whole"): path.read_bytes()
        for path in (tmp_path / "whole").rglob("*")
        if path.is_file()
    }
    assert files == {
        path.relative_to(tmp_path / "out"): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    with refuses(DataError, where="00000"):
        written(given, tmp_path / "out", seed=4)
    listing = tmp_path / "out" / "dataset.json"
    listing.write_text(edited := listing.read_text().replace('"height"', '"note": "mine", "height"'))
    with refuses(DataError, where="dataset.json"):
        written(given, tmp_path / "out")
    assert listing.read_text() == edited
    monkeypatch.setattr("stadia.overlay.world.composite_files.SHARD_SIZE", 50)
    written(given, tmp_path / "small")
    with refuses(DataError, where="00000", found="20", expected=("30", "--count")):
        written(given, tmp_path / "small", count=30)
    assert SHARD_SIZE == 500


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


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"depth_scale": "affine-inverse"}, ("predictions.json",)),
        ({"finished": False}, ("predictions.json",)),
        ({"crop": "kb"}, ("kb",)),
        ({"entries": ["000000"]}, ("2", "3")),
        ({"depth_scale": "feet"}, ("depth_scale", "metres")),
    ],
)
def test_invalid_teachers_are_refused(given, world, tmp_path: Path, change: dict, names: tuple[str, ...]) -> None:
    world.recording(tmp_path / "bare", 3, stereo=False, depth=False)
    record = {
        "depth_scale": "metres",
        "recipe": "supervised",
        "checkpoint": "x",
        "finished": True,
        "entries": [f"{index:06d}" for index in range(3)],
    }
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "predictions.json").write_text(
        json.dumps({key: value for key, value in (record | change).items() if value is not None})
    )
    bare = given.backgrounds.model_copy(update={"path": str(tmp_path / "bare"), "teacher": str(tmp_path / "teacher")})
    with refuses(DataError, names=names):
        open_composites(given.model_copy(update={"backgrounds": bare}), seed=0)


def test_foregrounds_that_cannot_be_pasted_are_named(given, tmp_path: Path, one_line) -> None:
    def first(name: str, picture: np.ndarray) -> DataError:
        folder = tmp_path / name
        for split in ("train", "val"):
            cut(folder / split / "good.png", 7)
        (folder / "train" / "good.png").unlink()
        assert cv2.imwrite(str(folder / "train" / name), picture)
        config = given.foregrounds.model_copy(update={"path": str(folder)})
        with pytest.raises(DataError) as raised:
            open_composites(given.model_copy(update={"foregrounds": config}), seed=0).images["train"].composed(0)
        return raised.value

    rgb = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    one_line(first("plain.png", rgb), "plain.png", "no alpha channel", "cut the object out")
    one_line(first("photo.jpg", rgb), "photo.jpg", "a JPEG")
    one_line(first("opaque.png", np.dstack([rgb, np.full((20, 20), 255, np.uint8)])), "alpha 255 everywhere")
    one_line(first("empty.png", np.dstack([rgb, np.zeros((20, 20), np.uint8)])), "alpha 0 everywhere")
    cut(tmp_path / "one" / "cup.png")
    config = given.foregrounds.model_copy(update={"path": str(tmp_path / "one")})
    with refuses(DataError, where="one"):
        open_composites(given.model_copy(update={"foregrounds": config}), seed=0)


def test_a_set_of_an_older_version_is_refused_with_what_to_do(given, tmp_path: Path, one_line) -> None:
    disk = written(given, tmp_path / "out")
    about = tmp_path / "out" / "dataset.json"
    record = json.loads(about.read_text())
    about.write_text(json.dumps(record | {"version": 1}))
    with refuses(DataError, where="dataset.json", found="2") as error:
        open_composites(disk.config, seed=0)
    one_line(error.value, "write the set again")


@pytest.mark.real
def test_7_scenes_gives_backgrounds_in_metres(given, real_data: Path) -> None:
    backgrounds = given.backgrounds.model_copy(update={"path": str(real_data / "sevenscenes")})
    opened = open_composites(given.model_copy(update={"backgrounds": backgrounds, "height": 64, "width": 64}), seed=0)
    one = opened.images["train"].composed(3)
    assert one.mask.any()
    assert 0.3 < np.median(one.depth[one.mask]) < 8
    assert opened.label.source == "exact"
