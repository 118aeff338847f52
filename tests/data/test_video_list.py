"""Many videos as one data set: a folder, a glob or a list, each video of its own size and camera."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.data.rendered_world import write_video
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.config import CameraConfig, DatasetConfig, SourceOptions, SplitConfig
from stadia.data.open_dataset import detect_format, open_recordings, read_named_splits, sample_recordings
from stadia.data.splits import open_split, split_recordings, unique_recordings
from stadia.data.surveys import format_table, summarize_survey, survey_videos
from stadia.data.video.video_list import read_entries
from stadia.training.loading.samples import VideoSamples

OneLine = Callable[..., None]
CAMERA = {"horizontal_fov_deg": 67.0}


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory, world: Any) -> Path:
    """Three videos of two sizes in two folders."""
    folder = tmp_path_factory.mktemp("many") / "drives"
    frames = [world.render(index)[0] for index in range(5)]
    write_video(folder / "north" / "a.mp4", frames)
    write_video(folder / "north" / "b.mp4", [cv2.resize(frame, (96, 64)) for frame in frames])
    write_video(folder / "south" / "a.mp4", frames[::-1])
    return folder


def write_list(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_folder_glob_and_lists_open_the_same_videos(drives: Path, tmp_path: Path) -> None:
    files = sorted(drives.glob("*/*.mp4"))
    text = write_list(tmp_path / "drives.txt", "# three drives", *map(str, files))
    table = write_list(tmp_path / "drives.csv", "video,name", *(f"{p},{p.parent.name}/{p.stem}" for p in files))
    for path in (drives, Path(f"{drives}/*/*.mp4"), text, table):
        assert detect_format(path) == "videos"
        recordings = open_recordings(path, camera=CAMERA)
        assert [one.name for one in recordings] == ["north/a", "north/b", "south/a"]
        assert [one.image(0).shape[:2] for one in recordings] == [(96, 160), (64, 96), (96, 160)]
        assert [len(one) for one in recordings] == [5, 5, 5]


def test_row_of_a_list_has_camera_rig_masks_track_split_and_place(drives: Path, tmp_path: Path, world: Any) -> None:
    (tmp_path / "K.txt").write_text("120 0 77\n0 120 41\n0 0 1\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "classes.json").write_text('{"1": "road"}')
    (tmp_path / "path.txt").write_text(world.rows([world.pose(index) for index in range(5)]))
    table = write_list(
        tmp_path / "list.csv",
        "video,camera,rig,masks,track,split,place,name",
        f"{drives}/north/a.mp4,K.txt,van,masks,path.txt,train,town,first",
        f"{drives}/north/b.mp4,horizontal_fov_deg=60,van,,,train,town,second",
        f"{drives}/south/a.mp4,focal_px=100,,,,val,shore,third",
    )
    first, second, third = open_recordings(table, stride=1)
    assert first.K(0)[0].tolist() == [120, 0, 77]
    assert second.K(0)[0, 0] == pytest.approx(48 / np.tan(np.radians(30)))
    assert third.K(0)[0, 0] == 100
    assert (first.mount, second.mount, third.mount) == ("van", "van", "")
    assert (first.session, second.session, third.session) == ("town", "town", "shore")
    assert first.mask_reader is not None
    np.testing.assert_allclose(first.T_world_camera(2), world.pose(2), atol=1e-9)
    assert read_named_splits(table) == {"train": ["first", "second"], "val": ["third"]}


def test_videos_of_several_sizes_train_together_split_by_their_column(drives: Path, tmp_path: Path) -> None:
    table = write_list(
        tmp_path / "list.csv",
        "video,split",
        f"{drives}/north/a.mp4,train",
        f"{drives}/north/b.mp4,train",
        f"{drives}/south/a.mp4,val",
        "absent.mp4,test",
    )
    (tmp_path / "absent.mp4").write_bytes(b"damaged, and not used")
    config = DatasetConfig(path=str(table), height=64, width=96, camera=CameraConfig(**CAMERA), stride=1)
    split = open_split(config)
    assert [one.name.rpartition("/")[2] for one in unique_recordings(split.train)] == ["a", "b"]
    samples = VideoSamples.from_config(split.train, config, training=True)
    assert {tuple(samples[index].inputs.image.shape) for index in range(len(samples))} == {(3, 64, 96)}


def test_split_by_places_keeps_a_place_on_one_side(drives: Path, tmp_path: Path) -> None:
    rows = [f"{drives}/{name}.mp4,{place}" for name, place in (("north/a", 1), ("north/b", 1), ("south/a", 2))]
    recordings = open_recordings(write_list(tmp_path / "list.csv", "video,place", *rows), camera=CAMERA, stride=1)
    for seed in range(4):
        split = split_recordings(recordings, SplitConfig(unit="places", val_share=0.3, seed=seed))
        sides = [{part.recording.session for part in parts} for parts in (split.train, split.val)]
        assert sides[0] | sides[1] == {"1", "2"}
        assert not sides[0] & sides[1]
        again = split_recordings(recordings[::-1], SplitConfig(unit="places", val_share=0.3, seed=seed))
        assert {part.recording.name for part in again.val} == {part.recording.name for part in split.val}
    with refuses(DataError, where="data.split_by.unit=places", found="1"):
        split_recordings(recordings[:2], SplitConfig(unit="places"))


def test_damaged_videos_are_named_together_or_left_out(drives: Path, tmp_path: Path, one_line: OneLine) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.mp4").write_bytes(b"no video")
    table = write_list(tmp_path / "list.csv", "video", f"{drives}/north/a.mp4", "x.mp4", "y.mp4")
    with pytest.raises(DataError) as caught:
        open_recordings(table, camera=CAMERA)
    one_line(caught.value, table, "2 of 3 videos", "x: ", "y: ", "data.damaged=skip")
    (kept,) = open_recordings(table, camera=CAMERA, damaged="skip")
    assert kept.name.endswith("a")
    (sampled,) = sample_recordings(table, camera=CAMERA, damaged="skip")
    assert sampled.name == kept.name
    (tmp_path / "only.csv").write_text("video\nx.mp4\n")
    with refuses(DataError, where="x.mp4"):
        open_recordings(tmp_path / "only.csv", camera=CAMERA, damaged="skip")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["video,splits", "a.mp4,train"], ["column 'splits'", "did you mean 'split'?"]),
        (["video,name", "absent.mp4,a"], ["row 2", "'absent.mp4'"]),
        (["video,name", ",a"], ["row 2", "no video"]),
        (["video,name", "a.mp4,one", "b.mp4,one"], ["the name 'one' twice"]),
        (["video,name", "a.mp4,one", "a.mp4,two"], ["the path", "twice"]),
        (["video,name", "a.mp4,one//two"], ["row 2", "the name"]),
        (["video,camera", "a.mp4,focal_px=0"], ["row 2", "greater than 0"]),
        (["video,camera", "a.mp4,K.txt"], ["row 2", "'K.txt'"]),
        (["video"], ["no video"]),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, one_line: OneLine, rows: list[str], parts: list[str]) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        read_entries(write_list(tmp_path / "list.csv", *rows))
    one_line(caught.value, tmp_path / "list.csv", *parts)


def test_survey_has_a_row_for_each_video_and_names_faults(drives: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    rows = [f"{drives}/north/a.mp4,train", f"{drives}/north/b.mp4,val", "bad.mp4,val"]
    entries = read_entries(write_list(tmp_path / "list.csv", "video,split", *rows))
    facts = survey_videos(entries, SourceOptions(camera=CameraConfig(**CAMERA)), workers=2)
    assert [(row.frames, row.width, row.height) for row in facts] == [(5, 160, 96), (5, 96, 64), (None, None, None)]
    assert facts[0].duration_s == pytest.approx(0.5)
    assert "mov,matroska" in facts[2].fault
    first, *others = summarize_survey(facts)
    assert first == "2 of 3 videos can be used: 10 frames, 0.00 hours"
    assert any(line.startswith("damaged: bad: ") for line in others)
    assert format_table(facts).splitlines()[0].startswith("name,path,frames,width")
    assert len(format_table(facts).splitlines()) == 4
