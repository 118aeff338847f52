"""Shards: what was written is read to the bit, faults are named, and copies are bounded and shared."""

import hashlib
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses
from tests.stores import s3_server as s3_server
from tests.stores import s3_url as s3_url
from torch.utils.data import BatchSampler

from stadia.core.errors import DataError, StadiaError
from stadia.data.config import CacheConfig, DatasetConfig
from stadia.data.open_dataset import open_recordings, read_named_splits
from stadia.data.recordings import FrameRange
from stadia.data.shard_writer import shard_dataset
from stadia.data.sharded_dataset import DamagedShardError
from stadia.data.splits import open_split
from stadia.io.remote_store import RemoteStore
from stadia.training.loading.loader import AHEAD_SHARDS, Loader, PrefetchingSampler, shuffle_by_shard
from stadia.training.loading.samples import VideoSamples

SMALL_SHARD = 64 << 10
"""Two images of the world."""

OneLine = Callable[..., None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, world: Any) -> Path:
    """Two recordings of five frames with stereo, depth and poses, in two splits."""
    folder = tmp_path_factory.mktemp("source") / "world"
    world.dataset(folder, {"train": ["a"], "val": ["b"]}, frames=5)
    return folder


@pytest.fixture(scope="module")
def written(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in shards, in a folder."""
    folder = tmp_path_factory.mktemp("shards") / "set"
    (line,) = shard_dataset(source, str(folder), shard_bytes=SMALL_SHARD)
    assert "2 recordings, 10 frames" in line
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    copy = tmp_path / "copy"
    for file in (path for path in written.rglob("*") if path.is_file()):
        (copy / file.relative_to(written)).parent.mkdir(parents=True, exist_ok=True)
        (copy / file.relative_to(written)).write_bytes(file.read_bytes())
    return copy


def upload(folder: Path, url: str) -> str:
    store = RemoteStore(url)
    for file in folder.rglob("*"):
        if file.is_file():
            store.upload(file, file.relative_to(folder).as_posix())
    return url


def check_equal(expected: Any, found: Any) -> None:
    assert (found.name, found.sides, len(found)) == (expected.name, expected.sides, len(expected))
    np.testing.assert_array_equal(found.T_right_left, expected.T_right_left)
    for index in range(len(expected)):
        assert found.number(index) == expected.number(index)
        assert found.timestamp_s(index) == expected.timestamp_s(index)
        np.testing.assert_allclose(found.T_world_camera(index), expected.T_world_camera(index), atol=1e-12)
        for side in expected.sides:
            assert np.array_equal(found.image(index, side), expected.image(index, side))
            assert np.array_equal(found.depth_m(index, side), expected.depth_m(index, side))
            assert np.array_equal(found.K(index, side), expected.K(index, side))


def test_shards_are_written_into_a_new_folder_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "shards").mkdir(parents=True)
    (tmp_path / "mine").write_text("years of work")
    (tmp_path / "set" / "shards" / "00000.bin").symlink_to(tmp_path / "mine")
    with refuses(StadiaError, where="set", found="files in it"):
        list(shard_dataset(source, str(tmp_path / "set")))
    assert (tmp_path / "mine").read_text() == "years of work"


def test_files_of_others_in_a_store_are_not_replaced(source: Path) -> None:
    store = RemoteStore("memory://of-another/set")
    store.write("shards/00000.bin", b"years of work")
    with refuses(StadiaError, where="00000.bin"):
        list(shard_dataset(source, store.url))
    store.write("unfinished.json", b"{}")
    list(shard_dataset(source, store.url))
    assert store.exists("shards.json")
    assert not store.exists("unfinished.json")


@pytest.mark.slow
def test_shards_hold_every_bit_of_the_source(source: Path, written: Path) -> None:
    for expected, found in zip(open_recordings(source), open_recordings(written), strict=True):
        check_equal(expected, found)
        assert len({found.shard_of(index) for index in range(5)}) > 1
        check_equal(expected, pickle.loads(pickle.dumps(found)))
    assert read_named_splits(written) == {"train": ["world/a"], "val": ["world/b"]}
    assert [one.name for one in open_recordings(written, recordings=["b"])] == ["world/b"]
    part = FrameRange(found, 2, 4)
    assert part.is_streamed
    assert part.shard_of(1) == found.shard_of(3)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_other_encodings_and_sizes(source: Path, tmp_path: Path, encoding: Any) -> None:
    list(shard_dataset(source, str(tmp_path / "set"), encoding=encoding, size=(48, 64)))
    expected, found = open_recordings(source)[0], open_recordings(tmp_path / "set")[0]
    assert found.image(1).shape == (48, 64, 3)
    assert found.depth_m(1).shape == (48, 64)
    config = DatasetConfig(path=str(source), height=64, width=96)
    samples = [
        VideoSamples([one], height=64, width=96, ground_truth_depth=True)[1].targets for one in (expected, found)
    ]
    assert config.shuffle_shards == 16
    assert float((samples[0].image - samples[1].image).abs().mean()) < 0.03
    np.testing.assert_allclose(samples[0].camera.K, samples[1].camera.K, rtol=1e-5)


# -- faults: 20 of them, each named


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / "shards.json").read_text())
    change(index)
    (folder / "shards.json").write_text(json.dumps(index))


def change_table(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the frames of the first recording, and list the changed file: only its content lies."""
    file = folder / "recordings" / "000000.json"
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change_index(folder, lambda index: index["recordings"][0].update(sha256=digest))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(bytes(data))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda f: (f / "shards" / "00001.bin").unlink(), ("00001.bin",)),
    "truncated shard": (lambda f: cut(f / "shards" / "00000.bin"), ("00000.bin",)),
    "changed bit": (lambda f: flip(f / "shards" / "00000.bin"), ("00000.bin",)),
    "empty shard": (lambda f: (f / "shards" / "00000.bin").write_bytes(b""), ("00000.bin",)),
    "truncated index": (lambda f: cut(f / "shards.json"), ("shards.json", "JSON")),
    "later version": (lambda f: change_index(f, lambda i: i.update(version=2)), ("2", "1")),
    "shard outside": (
        lambda f: change_index(f, lambda i: i["shards"][0].update(name="../../secret")),
        ("../../secret",),
    ),
    "changed table": (lambda f: flip(f / "recordings" / "000000.json"), ("000000.json",)),
    "no left camera": (lambda f: change_index(f, lambda i: i["recordings"][0]["cameras"].pop("left")), ("left",)),
    "no places of the left camera": (lambda f: change_table(f, lambda t: t["images"].pop("left")), ("images.left",)),
    "too large images": (
        lambda f: change_index(f, lambda i: i["recordings"][0]["cameras"]["left"].update(height=20000)),
        ("height",),
    ),
    "wrong offset": (lambda f: change_table(f, lambda t: t["images"]["left"][0].__setitem__(1, 1)), ("1",)),
}


def read_all(path: str | Path, **options: Any) -> None:
    for recording in open_recordings(path, **options):
        for index in range(len(recording)):
            for side in recording.sides:
                recording.image(index, side)
                recording.depth_m(index, side)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_a_folder_is_named(shards: Path, name: str, one_line: OneLine) -> None:
    damage, names = FAULTS[name]
    damage(shards)
    with refuses(DataError, names=names) as caught:
        read_all(shards)
    one_line(caught.value)


@pytest.mark.slow
def test_a_cut_shard_is_named_by_any_frame(shards: Path) -> None:
    cut(shards / "shards" / "00000.bin")
    with refuses(DataError, names=("00000.bin", "bytes")):
        open_recordings(shards)[0].image(0)


@pytest.mark.slow
def test_copy_that_changed_on_this_machine_is_fetched_again(written: Path, s3_url: str, tmp_path: Path) -> None:
    url = upload(written, f"{s3_url}/set")
    read_all(url)
    copies = sorted((tmp_path / "cache" / "shards").rglob("*.bin"))
    assert len(copies) > 2
    flip(copies[0])
    copies[1].unlink()
    for expected, found in zip(open_recordings(written), open_recordings(url), strict=True):
        check_equal(expected, found)


@pytest.mark.slow
def test_copies_are_bounded_and_the_oldest_go_first(written: Path, s3_url: str, tmp_path: Path) -> None:
    url = upload(written, f"{s3_url}/set")
    bytes_allowed = 3 * SMALL_SHARD
    read_all(url, cache={"shard_gb": bytes_allowed / 1e9})
    copies = sorted((tmp_path / "cache" / "shards").rglob("*.bin"))
    assert len(copies) >= 2
    assert sum(path.stat().st_size for path in copies) <= bytes_allowed
    last = json.loads((written / "shards.json").read_text())["shards"][-1]["name"]
    assert (tmp_path / "cache" / "shards").rglob(Path(last).name)


# -- training


def test_damaged_shard_is_never_trained_on(shards: Path) -> None:
    flip(shards / "shards" / "00000.bin")
    config = DatasetConfig(path=str(shards), height=64, width=96, offsets=(), stereo=True)
    split = open_split(config)
    with pytest.raises(DamagedShardError):
        VideoSamples.from_config(split.train, config, training=True).packed((0, 0))
    skipping = VideoSamples.from_config(split.train, config.model_copy(update={"damaged": "skip"}), training=True)
    whole = [skipping.packed((0, index)).meta[0].index for index in range(len(skipping))]
    assert 0 not in whole
    assert set(whole) < set(range(5))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_of_a_store_go_on_exactly_in_the_middle_of_an_epoch(
    written: Path, s3_url: str, world_size: int, tmp_path: Path
) -> None:
    url = upload(written, f"{s3_url}/set")
    config = DatasetConfig(
        path=url,
        height=64,
        width=96,
        offsets=(-1, 1),
        cache=CacheConfig(shard_gb=3 * SMALL_SHARD / 1e9),
        shuffle_shards=2,
    )

    def load(rank: int) -> Loader[Any, Any]:
        split = open_split(config)
        samples = VideoSamples.from_config([*split.train, *split.val], config, training=True, seed=5)
        assert samples._stores == {}, "no decoded copy of what is in shards"
        loader = Loader(samples, batch_size=2 // world_size, shuffle=True, seed=5)
        loader.shard(rank, world_size)
        return loader

    for rank in range(world_size):
        loader = load(rank)
        loader.set_position(3)
        undisturbed = [batch.inputs.image for batch in loader]
        assert len(undisturbed) == 3
        resumed = load(rank)
        resumed.set_position(3, 2)
        (last,) = (batch.inputs.image for batch in resumed)
        assert np.array_equal(last, undisturbed[2])


def test_shuffle_mixes_a_window_of_shards_and_all_samples_once() -> None:
    shards = np.repeat(np.arange(100), 50)
    first, second = (shuffle_by_shard(shards, 8, np.random.default_rng(seed)) for seed in range(2))
    for order in (first, second):
        assert sorted(order.tolist()) == list(range(5000))
        seen = shards[order]
        starts, ends = ({}, {})
        for place, shard in enumerate(seen.tolist()):
            starts.setdefault(shard, place)
            ends[shard] = place
        in_use = [sum(starts[s] <= place <= ends[s] for s in range(100)) for place in range(500, 4500, 250)]
        assert max(in_use) <= 10
        together = np.mean(seen[1:] == seen[:-1])
        assert together < 0.2, "neighbors are of different shards"
    assert abs(np.corrcoef(np.argsort(first), np.argsort(second))[0, 1]) < 0.2, "epochs differ"


def test_shards_are_prefetched_once_and_in_the_order_of_the_batches() -> None:
    shards = np.repeat(np.arange(12), 10)
    order = shuffle_by_shard(shards, 3, np.random.default_rng(0)).tolist()
    batches = BatchSampler([(0, index) for index in order], 4, drop_last=False)
    fetched, ahead_most = list[int](), 0
    sampler = PrefetchingSampler(batches, shards, lambda index: fetched.append(int(shards[index])))
    begun, yielded = set[int](), list[list[tuple[int, int]]]()
    for keys in sampler:
        yielded.append(keys)
        begun |= {int(shards[index]) for _, index in keys}
        until = time.monotonic() + 600
        while not begun <= set(fetched):
            assert time.monotonic() < until
            time.sleep(0.001)
        ahead_most = max(ahead_most, len(set(fetched) - begun))
    assert yielded == list(batches)
    assert len(sampler) == len(batches)
    assert sorted(fetched) == list(range(12))
    assert 0 < ahead_most <= AHEAD_SHARDS + 3, "those of a batch come together"


@pytest.mark.slow
def test_prefetched_shard_is_copied_and_its_fault_waits_for_the_sample(
    shards: Path, s3_url: str, tmp_path: Path
) -> None:
    FAULTS["missing shard"][0](shards)
    (first, *_) = open_recordings(upload(shards, f"{s3_url}/set"))
    first.prefetch(0)
    assert [path.name for path in (tmp_path / "cache").rglob("*.bin")] == ["00000.bin"]
    missing = next(index for index in range(len(first)) if first.shard_of(index) == 1)
    FrameRange(first, missing, missing + 1).prefetch(0)
    with refuses(DamagedShardError, where="set/shards/00001.bin"):
        first.image(missing)
