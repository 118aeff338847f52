"""What prediction spends on each frame: no growing tables, no slow copies, and the same pictures as before."""

from __future__ import annotations

import logging
import pathlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.datasets.image_files import read_rgb
from stadia.datasets.video.frame_selection import FrameSelector
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.io.predictions_folder import UNFINISHED, _write_maps
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.evaluation.plots.videos import MIN_BILINEAR, depth_color_writer, draw_side_by_side, open_video_file
from stadia.files.atomic_files import open_atomic, sync_later
from stadia.files.paths import join_name
from stadia.geometry.numpy_camera import CropWindow
from stadia.recipes.prediction import backend_predictor
from stadia.recipes.prediction.backend_predictor import BackendPredictor, limit_torch_threads
from stadia.recipes.prediction.prediction_outputs import note_unfinished

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 3)


def predicted(name: str) -> PredictedFrame:
    frame = Frame(name, SMOOTH, np.eye(3))
    inverse_depth = np.linspace(0.1, 1, 60 * 80, dtype=np.float32).reshape(60, 80)
    return PredictedFrame(
        frame, DepthScale.METRES, inverse_depth, np.eye(3), None, (240, 320), CropWindow(0, 0, 240, 320)
    )


def list_pathlib_calls(function: Callable[[], object]) -> list[str]:
    """Return the functions of `pathlib` that a call runs, without those that return a path's text."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(pathlib.__file__.removesuffix("__init__.py")):
            calls.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return [name for name in calls if name not in ("__fspath__", "__str__")]


def test_reading_an_image_makes_no_path(tmp_path: Path) -> None:
    """Each `Path` of a name enlarges Python's table of interned strings."""
    cv2.imwrite(str(path := tmp_path / "000000.png"), SMOOTH)
    assert list_pathlib_calls(lambda: read_rgb(path)) == []


def test_the_files_of_a_frame_make_no_paths(tmp_path: Path) -> None:
    add, maps = depth_color_writer(tmp_path / "depth_color"), str(tmp_path / "depth")
    with sync_later(tmp_path):
        for name in ("000000", "000001"):
            shown = predicted(name)
            calls = list_pathlib_calls(lambda shown=shown: (_write_maps(maps, shown), add(shown)))  # type: ignore[misc]
    assert calls == [], "of the second frame; the first makes the folders"
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == [f"depth/00000{k}.{kind}" for k in (0, 1) for kind in ("npz", "png")] + [
        f"depth_color/00000{k}.jpg" for k in (0, 1)
    ]


@pytest.mark.parametrize("name", ["../a", "a/b", "..", "", "a\0"])
def test_a_frames_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(DataError, match="expected the name of one file"):
        join_name("depth", name)


def test_a_stream_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_atomic(str(tmp_path / "new" / "a.bin")) as stream:
        stream.write(bytes(1 // stream.tell()))
    assert list((tmp_path / "new").iterdir()) == []


def test_frames_that_are_only_counted_are_selected_alike() -> None:
    listed, counted = FrameSelector(3), FrameSelector(3, lists_kept=False)
    image = np.zeros((8, 8, 3), np.uint8)
    numbers = [0, 1, 2, 5, 6, 7, 9]  # 3, 4 and 8 are lost
    assert [listed.keep(image, k) for k in numbers] == [counted.keep(image, k) for k in numbers]
    assert (listed.selection.kept, counted.selection.kept) == ([0, 6, 9], [])
    assert (listed.selection.lost, listed.selection.skipped) == (counted.selection.lost, counted.selection.skipped)
    assert listed.selection.lost == 3


def test_colors_are_drawn_into_a_part_of_an_image() -> None:
    """The colors are those of OpenCV's map, and nothing beside them changes."""
    values = np.linspace(0, 1.2, 130 * 40, dtype=np.float32).reshape(130, 40)
    whole = np.full((140, 60, 3), 7, np.uint8)
    drawn = color_inverse_depth(values, top=1.0, out=whole[5:135, 10:50])
    shares = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    expected = cv2.applyColorMap(shares, cv2.COLORMAP_MAGMA)[..., ::-1]
    assert np.array_equal(drawn, expected)
    assert np.array_equal(whole[5:135, 10:50], expected)
    assert (whole.sum() - expected.sum(dtype=np.int64)) == 7 * 3 * (140 * 60 - 130 * 40)


@pytest.mark.parametrize(("height", "is_exact"), [(int(240 * MIN_BILINEAR) - 2, True), (200, False)])
def test_images_that_shrink_little_are_resized_bilinearly(height: int, is_exact: bool) -> None:
    width = height * 320 // 240
    shown = draw_side_by_side(SMOOTH, np.ones((6, 8), np.float32), 1.0, height, width, DepthScale.METRES)
    area = cv2.resize(SMOOTH, (width, height), interpolation=cv2.INTER_AREA)
    difference = np.abs(shown[:height, :width].astype(int) - area)
    assert (difference.max() == 0) == is_exact
    assert difference.mean() < 1


def test_a_video_keeps_its_images(tmp_path: Path) -> None:
    """Colors and brightness come back: a wrong conversion to planes of color would shift them."""
    with open_video_file(tmp_path / "a.mp4", 10) as write:
        for _ in range(3):
            write(SMOOTH)
    with av.open(str(tmp_path / "a.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(images) == 3
    for image in images:
        assert 10 * np.log10(255**2 / np.mean((image - SMOOTH) ** 2)) > 36
        assert np.abs((image - SMOOTH).mean((0, 1))).max() < 2


class TestThreads:
    @pytest.fixture(autouse=True)
    def _keep_threads(self) -> Iterator[None]:
        count = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(count)

    @pytest.mark.parametrize(
        ("backend", "motion_backend", "pose", "expected"),
        [(None, None, "net", 2), ("other", None, "net", 2), ("other", "other", "net", 1), ("other", None, None, 1)],
    )
    def test_torch_gets_one_thread_where_it_runs_no_network(
        self, backend: str | None, motion_backend: str | None, pose: str | None, expected: int
    ) -> None:
        predictor = BackendPredictor.__new__(BackendPredictor)
        predictor.backend, predictor.motion_backend = backend, motion_backend  # type: ignore[assignment]
        predictor.recipe = SimpleNamespace(depth_pose_net=SimpleNamespace(pose=pose))  # type: ignore[assignment]
        with limit_torch_threads(predictor):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2

    def test_a_checkpoint_keeps_its_threads(self) -> None:
        with backend_predictor.limit_torch_threads(SimpleNamespace()):  # type: ignore[arg-type]
            assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("maps", "line"), [(2, "with 2 whole maps; the same prediction into it removes them, and starts"), (0, "")]
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("a", found="b", expected="c", fix="d")])
def test_an_unfinished_prediction_logs_what_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, maps: int, line: str, error: BaseException
) -> None:
    (tmp_path / "depth").mkdir()
    (tmp_path / UNFINISHED).touch()
    for number in range(maps):
        (tmp_path / "depth" / f"{number}.npz").touch()

    with caplog.at_level(logging.WARNING), pytest.raises(type(error)), note_unfinished(tmp_path):
        raise error
    assert line in caplog.text
    assert bool(caplog.text) == bool(maps)
