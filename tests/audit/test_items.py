"""Items of a dataset: scenes in folders, a list, a glob, recordings of a known format."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.audit.rooms import write_list, write_result
from tests.data.rendered_world import write_video
from tests.refusals import refuses

from stadia.audit.item_images import open_item
from stadia.audit.items import list_items
from stadia.audit.judge_item import JudgeOptions, judge_item
from stadia.core.errors import DataError, StadiaError


def make_scene(folder: Path) -> Path:
    """A scene whose images are empty files: listing reads none."""
    (folder / "images").mkdir(parents=True)
    for index in range(3):
        (folder / "images" / f"{index}.png").touch()
    return write_result(folder, np.tile(np.eye(4), (3, 1, 1)))


def test_scenes_of_folders_have_names_results_and_groups(tmp_path: Path) -> None:
    for name in ("robot-1/a", "robot-1/b", "robot-2/a", "robot-10/a"):
        make_scene(tmp_path / name)
    (tmp_path / "robot-2" / "notes").mkdir()
    items = list_items(tmp_path)
    assert [item.name for item in items] == ["robot-1/a", "robot-1/b", "robot-2/a", "robot-10/a"]
    first = items[0]
    assert (first.images, first.result) == (tmp_path / "robot-1/a/images", tmp_path / "robot-1/a")
    assert first.groups == {"part 1": "robot-1", "part 2": "a"}
    assert [item.name for item in list_items(tmp_path / "robot-1")] == ["a", "b"]
    assert [item.name for item in list_items(tmp_path / "robot-*" / "a")] == ["robot-1/a", "robot-2/a", "robot-10/a"]


def test_episodes_of_lerobot_are_items_with_their_camera_as_group(tmp_path: Path) -> None:
    for camera in ("top", "wrist"):
        folder = tmp_path / "videos" / "chunk-000" / f"observation.images.{camera}"
        folder.mkdir(parents=True)
        for episode in range(2):
            (folder / f"episode_{episode:06d}.mp4").touch()
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    items = list_items(tmp_path)
    assert len(items) == 4
    assert items[0].groups["part 3"] == "observation.images.top"


def write_lerobot(folder: Path, spans_s: list[tuple[float, float]]) -> None:
    """A dataset of lerobot, version 3, with one video whose frame n has the gray level 5 n."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    frames = [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(40)]
    write_video(folder / "videos/observation.images.top/chunk-000/file-000.mp4", frames)
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "meta/info.json").write_text("{}")
    columns = {"episode_index": list(range(len(spans_s)))}
    of_video = "videos/observation.images.top"
    columns |= {f"{of_video}/{name}_index": [0] * len(spans_s) for name in ("chunk", "file")}
    ends = {f"{of_video}/{name}_timestamp": [span[end] for span in spans_s] for end, name in enumerate(("from", "to"))}
    parquet.write_table(arrow.table({**columns, **ends}), folder / "meta/episodes/chunk-000/file-000.parquet")


def test_episodes_of_lerobot_3_are_stretches_of_a_video(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "data", [(0.0, 1.3), (1.3, 3.1), (3.1, 4.0)])
    items = list_items(tmp_path / "data")
    assert [item.name for item in items] == [f"episode_{number:06d}/observation.images.top" for number in range(3)]
    assert items[1].groups["camera"] == "observation.images.top"
    lengths = []
    for item in items:
        images, result = open_item(item)
        assert result is None
        lengths.append(len(images))
        assert images.readable == range(len(images))
    assert lengths == [13, 18, 9]
    images, _ = open_item(items[1])
    assert [int(images.image(index).mean() / 5 + 0.5) for index in (0, 17)] == [13, 30]


def test_damaged_episodes_of_lerobot_are_refused(tmp_path: Path) -> None:
    write_lerobot(tmp_path, [(2.0, 1.0)])
    with refuses(DataError, found="episode 0 of observation.images.top from 2.0 to 1.0 s in file 0"):
        list_items(tmp_path)
    next((tmp_path / "meta/episodes").rglob("*.parquet")).write_bytes(b"PAR1")
    with refuses(DataError, expected="episodes of lerobot, version 3"):
        list_items(tmp_path)


def test_a_damaged_file_of_episodes_is_one_item_that_fails(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "robot", [(0.0, 1.3), (1.3, 3.1)])
    shutil.copytree(tmp_path / "robot", tmp_path / "whole")
    damaged = tmp_path / "robot/meta/episodes/chunk-000/file-001.parquet"
    damaged.write_bytes(b"PAR1")
    items = list_items(tmp_path)
    assert len(items) == 5
    assert [item.groups["part 1"] for item in items if item.problem is None] == ["robot", "robot", "whole", "whole"]
    (failing,) = (item for item in items if item.problem is not None)
    assert failing.name == "robot/meta/episodes/chunk-000/file-001.parquet"
    verdict = judge_item(failing, JudgeOptions())
    assert (verdict.state, verdict.is_bad) == ("failed", True)
    assert "file-001.parquet: found a damaged file" in verdict.reason


def test_without_pyarrow_a_dataset_of_lerobot_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lerobot(tmp_path / "robot", [(0.0, 1.3), (1.3, 3.1)])
    make_scene(tmp_path / "scene")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    robot, scene = list_items(tmp_path)
    assert (robot.name, scene.name, scene.problem) == ("robot", "scene", None)
    verdict = judge_item(robot, JudgeOptions())
    assert verdict.state == "failed"
    assert "pip install 'stadia[waymo]'" in verdict.reason
    with refuses(StadiaError, fix="pip install 'stadia[waymo]'"):
        list_items(tmp_path / "robot")


def test_a_scene_is_an_item_and_images_alone_are(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "scene")
    assert [(item.name, item.result) for item in list_items(scene)] == [("scene", scene)]
    (scene / "poses.txt").unlink()
    (scene / "K.txt").unlink()
    assert list_items(tmp_path)[0].result is None


def test_a_list_has_results_images_cameras_and_groups(tmp_path: Path) -> None:
    make_scene(tmp_path / "a")
    table = write_list(tmp_path / "items.csv", ["result,images,camera,day,calibration", "a,a/images,left,5,fx=3,fy=3"])
    with refuses(DataError, where="items.csv"):  # one cell too many
        list_items(table)
    write_list(table, ["result,images,name,camera,day", "a,a/images,one,left,5", "a,,two,,6"])
    one, two = list_items(table)
    assert (one.name, one.groups) == ("one", {"camera": "left", "day": "5"})
    assert (two.images, two.groups) == (tmp_path / "a" / "images", {"day": "6"})


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["result,imges", "a,a/images"], "imges"),
        (["result,images", "b,b/images"], "no file of its rows"),
        (["name", "x"], "no images"),
        (["result,images,name", "a,a/images,x", "a,a/images,x"], "'x' 2 times"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path: Path, rows: list[str], found: str) -> None:
    make_scene(tmp_path / "a")
    with refuses(DataError, found=found):
        list_items(write_list(tmp_path / "items.csv", rows))


def test_a_row_with_a_missing_file_fails_alone(tmp_path: Path) -> None:
    make_scene(tmp_path / "a")
    rows = ["result,images", "a,a/images", "b,b/images", "c/poses.txt,a/images"]
    _, gone, posed = list_items(write_list(tmp_path / "items.csv", rows))
    for item, missing in ((gone, "b/images"), (posed, "c/poses.txt")):
        verdict = judge_item(item, JudgeOptions())
        assert (verdict.state, verdict.is_bad) == ("failed", True)
        assert f"{missing}: found no such file or folder" in verdict.reason


def test_frames_of_a_large_video_are_kept_as_small_as_features_need_them(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(1280), np.arange(722))
    frame = np.stack([x % 256, y % 256, x // 256 * 50], axis=-1).astype(np.uint8)
    (item,) = list_items(write_video(tmp_path / "drive.mp4", [frame] * 3))
    images, _ = open_item(item)
    image, factor = images.reader(1)
    assert (image.shape, factor) == ((361, 640, 3), 2.0)
    assert images.sizes.tolist() == [[1280, 722]] * 3
    assert abs(image[200, 100, 0] - 200.5) < 6


def test_datasets_of_several_formats_are_found_in_one_folder(tmp_path: Path) -> None:
    """A reader that finds its recordings some levels down does not hide the folders next to them."""
    make_scene(tmp_path / "scene")
    frames = tmp_path / "kitchen" / "seq-01"
    frames.mkdir(parents=True)
    for index in range(3):
        (frames / f"frame-{index:06d}.color.png").touch()
        (frames / f"frame-{index:06d}.pose.txt").touch()
    assert {item.format for item in list_items(tmp_path)} == {"sevenscenes", ""}
    (item,) = list_items(tmp_path / "kitchen")
    assert (item.format, item.folder) == ("sevenscenes", frames)


def test_a_folder_without_items_is_refused(tmp_path: Path) -> None:
    with refuses(DataError, where=tmp_path.name, found="no item"):
        list_items(tmp_path)
