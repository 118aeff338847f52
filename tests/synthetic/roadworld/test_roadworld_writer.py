"""The data set on disk: every file, the same bytes always, and nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.data.open_dataset import open_recordings
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

pytestmark = pytest.mark.slow

SMALL = RoadWorldConfig(train=1, val=1, test=0, frames=3, height=32, width=96, exposure=True, noise=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("roadworld") / "data"
    assert write_roadworld(SMALL, out, workers=2) == out / "dataset.json"
    return out


def test_every_file_is_there_and_loads(dataset: Path) -> None:
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["format"] == "stadia"
    assert description["splits"] == {"train": ["train-000"], "val": ["val-000"], "test": []}
    assert cv2.imread(str(dataset / "preview.png")).shape == (6 * 32, 4 * 96, 3)
    folder = dataset / "train-000"
    recording = json.loads((folder / "recording.json").read_text())
    assert set(recording["cameras"]) == {"left", "right"}
    assert recording["T_right_left"][0] == [1.0, 0.0, 0.0, -0.54]
    assert recording["camera_height_m"] == 1.65
    assert abs(recording["road_plane"]["height_m"] - 1.65) < 0.05
    classes = json.loads((folder / "classes.json").read_text())
    instances = json.loads((folder / "instances.json").read_text())["instances"]
    assert {i["class"] for i in instances} <= set(classes.values())
    for side in ("left", "right"):
        for i in range(3):
            name = f"{i:06d}"
            assert cv2.imread(str(folder / side / f"{name}.png")).shape == (32, 96, 3)
            depth = np.load(folder / "depth" / side / f"{name}.npy", allow_pickle=False)
            normals = np.load(folder / "normals" / side / f"{name}.npy", allow_pickle=False)
            semantic = cv2.imread(str(folder / "semantic" / side / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            instance = cv2.imread(str(folder / "instance" / side / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert (depth.dtype, normals.dtype, semantic.dtype, instance.dtype) == (
                np.float32,
                np.float16,
                np.uint8,
                np.uint16,
            )
            assert normals.shape == (32, 96, 3)
            np.testing.assert_array_equal(depth == 0, semantic == 0)
            assert set(np.unique(instance)) - {0} <= {i["id"] for i in instances}
            label = {i["id"]: i["class"] for i in instances}
            for number in set(np.unique(instance)) - {0}:
                assert {classes[str(c)] for c in np.unique(semantic[instance == number])} == {label[number]}
    for instance in instances:
        poses = np.array(instance["T_world_instance"])
        assert poses.shape == ((3, 4, 4) if instance["moving"] else (4, 4))
    gains = json.loads((folder / "exposure.json").read_text())
    np.testing.assert_allclose(gains["encoded_gain"]["left"], np.array(gains["linear_gain"]["left"]) ** (1 / 2.2))
    assert np.loadtxt(folder / "road_planes.txt").shape == (3, 4)


def test_dataset_opens_as_recordings(dataset: Path) -> None:
    recordings = open_recordings(dataset)
    assert [len(r) for r in recordings] == [3, 3]
    first = recordings[0]
    assert first.sides == ("left", "right")
    assert first.image(2, "right").shape == (32, 96, 3)
    depth = first.depth_m(1)
    assert depth is not None
    assert depth.max() > 10
    T = [first.T_world_camera(i) for i in range(3)]
    assert T[0] is not None
    assert T[2] is not None
    assert (np.linalg.inv(T[2]) @ T[0])[2, 3] < 0  # driving forward


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_on_one_thread(dataset: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from stadia.synthetic.config import RoadWorldConfig;"
        " from stadia.synthetic.roadworld.roadworld_writer import *;"
        " config = RoadWorldConfig.model_validate_json(sys.argv[1]);"
        " write_roadworld(config, pathlib.Path(sys.argv[2]), workers=1); assert 'torch' not in sys.modules"
    )
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    config = SMALL.model_copy(update={"val": 0})
    arguments = [sys.executable, "-c", code, config.model_dump_json(), str(tmp_path / "again")]
    subprocess.run(arguments, check=True, env={**os.environ, **single})
    assert contents(tmp_path / "again" / "train-000") == contents(dataset / "train-000")
