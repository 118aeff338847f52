"""Files that are dropped together: a result and its images become a verdict; hostile archives do not."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.sfm.test_check_reconstruction import write_result
from tests.sfm.textured_room import TexturedRoom, find_arc_pose
from tests.web.conftest import Browser, encode, make_picture

from stadia.core.errors import DataError
from stadia.io.output_files import pack_files
from stadia.web import drops
from stadia.web.drops import Drop
from stadia.web.video import VideoJob


def make_zip(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    folder = tmp_path / "drop"
    folder.mkdir()
    return Drop(VideoJob(folder))


def unpack(drop: Drop, data: bytes) -> set[str]:
    path = drop.job.folder.parent / "a.zip"
    path.write_bytes(data)
    drop.unpack(path)
    return {str(file.relative_to(drop.job.folder)) for file in drop.job.folder.rglob("*") if file.is_file()}


def test_members_of_an_archive_stay_in_the_folder(drop: Drop) -> None:
    link = zipfile.ZipInfo("images/link.png")
    link.external_attr = 0o120777 << 16
    stream = io.BytesIO(make_zip({"../../up.txt": b"1", "/etc/abs.json": b"{}", "a/images/1.png": b"1", "x.pkl": b"1"}))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert unpack(drop, stream.getvalue()) == {"result/up.txt", "result/abs.json", "images/1.png"}
    assert sorted(path.name for path in drop.job.folder.parent.iterdir()) == ["a.zip", "drop"]


@pytest.mark.parametrize("data", [b"PK\x03\x04 no archive", make_zip({"a.txt": bytes(1 << 20)})[:200], b""])
def test_a_damaged_archive_is_one_line(drop: Drop, data: bytes) -> None:
    with pytest.raises(DataError):
        unpack(drop, data)


def test_a_bomb_ends_at_the_limit(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drops, "MAX_DROP_BYTES", 1 << 20)
    with pytest.raises(DataError, match="1 MB"):
        unpack(drop, make_zip({"a.txt": bytes(3 << 20)}))
    monkeypatch.setattr(drops, "MAX_DROP_FILES", 3)
    with pytest.raises(DataError, match="files"):
        unpack(drop, make_zip({f"{number}.txt": b"1" for number in range(5)}))


def test_a_folder_survives_packing(drop: Drop, tmp_path: Path) -> None:
    (tmp_path / "result" / "sparse").mkdir(parents=True)
    (tmp_path / "result" / "sparse" / "cameras.txt").write_text("1")
    assert unpack(drop, pack_files(tmp_path / "result")) == {"result/cameras.txt"}


def post(browser: Browser, key: str, name: str, data: bytes) -> Any:
    return browser.post(f"/api/drops/{key}/files", params={"name": name}, content=data)


def wait_for(browser: Browser, key: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (job := browser.client.get(f"/api/drops/{key}").json())["state"] in ("waiting", "checking"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_the_command_takes_the_result_its_images_and_their_camera(drop: Drop, tmp_path: Path) -> None:
    unpack(drop, make_zip({"a/trajectory.txt": b"1", "K.txt": b"1", "images/1.png": encode(make_picture())}))
    words, folder = drop.name_check(None), drop.job.folder
    assert words[:4] == ["check", str(folder / "result" / "trajectory.txt"), "--images", str(folder / "images")]
    assert words[-2:] == ["--camera", str(folder / "result" / "K.txt")]
    assert drop.name_check(90.0)[-1] == "fx=64", "128 pixels wide"


def test_a_check_that_is_done_has_its_corrected_files(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check ends in another thread, between any two lines of the description."""
    describe = drop.job.describe

    def end_and_describe() -> dict[str, object]:
        drop.fixed, drop.job.state = [drop.corrected / "transforms.json"], "done"
        return describe()

    monkeypatch.setattr(drop.job, "describe", end_and_describe)
    about = drop.describe()
    assert (about["state"], about["has_fixed"]) == ("done", True)


def test_frames_are_photos_of_one_shape(drop: Drop, tmp_path: Path) -> None:
    names = {f"{number}.png": encode(make_picture()) for number in range(3)}
    unpack(drop, make_zip({**names, "9.png": encode(make_picture(128, 96))}))
    decoded, notes = drop.write_frames(tmp_path / "frames", 64, 300)
    assert (decoded.count, decoded.size, len(notes)) == (3, (48, 64), 1)
    assert len(list((tmp_path / "frames").iterdir())) == 3
    with pytest.raises(DataError):
        drop.write_frames(tmp_path / "few", 64, 2)


def make_wrong_scene(folder: Path) -> dict[str, bytes]:
    """Return the files of a scene of nerfstudio by their paths: images, and poses with wrong camera axes."""
    view = TexturedRoom()
    files = {f"scene/images/{row:06d}.png": encode(view.draw(*find_arc_pose(2 * row))) for row in range(12)}
    content = json.loads(write_result(folder / "transforms.json", is_opengl=False).read_text())
    for frame in content["frames"]:
        frame["file_path"] = f"images/{frame['file_path']}"
    return {**files, "scene/transforms.json": json.dumps(content).encode()}


@pytest.mark.slow
def test_the_corrected_result_replaces_the_given_one(browser: Browser, tmp_path: Path) -> None:
    """It has the name and the paths of the given file, and can be judged again."""
    files = make_wrong_scene(tmp_path)
    key = browser.post("/api/drops", json={}).json()["drop"]
    assert post(browser, key, "scene.zip", make_zip(files)).status_code == 200
    for _ in range(2):
        assert browser.post(f"/api/drops/{key}/check", json={}).status_code == 200
        job = wait_for(browser, key)
        assert (job["state"], job["error"], job["has_fixed"]) == ("done", "", True)
    with zipfile.ZipFile(io.BytesIO(browser.client.get(f"/api/drops/{key}/fixed.zip").content)) as archive:
        (name,) = archive.namelist()
        scene = json.loads(archive.read(name))
    assert name == "transforms.json"
    assert [f"scene/{frame['file_path']}" for frame in scene["frames"]] == sorted(files)[:12]
    assert scene["fl_x"] == 300, "the camera of all frames is at the top, as nerfstudio writes it"
    assert not any("fl_x" in frame for frame in scene["frames"])
