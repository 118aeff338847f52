"""Cameras, and batches of video and of other things."""

import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import GeometryError
from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets, is_temporal

K = torch.tensor([[60.0, 0, 10.5], [0, 61.0, 7.5], [0, 0, 1]])


def sample(index: int = 0, *, width: int = 8, names: tuple[str, ...] = ("-1", "stereo"), depth: bool = False) -> Batch:
    """A Batch without its first axis, its images filled with the index."""
    image, sources = torch.full((3, 6, width), float(index)), torch.full((len(names), 3, 6, width), float(index))
    camera, rig = Camera(K, 6, width), torch.full((len(names), 4, 4), torch.nan)
    return Batch(
        inputs=Inputs(image=image, sources=sources, camera=camera, T_source_target_rig=rig),
        targets=Targets(
            image=image,
            sources=sources,
            camera=camera,
            source_camera=Camera(K.expand(len(names), 3, 3), 6, width),
            T_source_target_true=rig,
            depth_m=torch.full((1, 6, width), 5.0) if depth else None,
        ),
        meta=(Meta("recording", index, "left"),),
        source_names=names,
    )


def test_camera_names_its_numbers():
    camera = Camera(K, 16, 22)
    assert [float(v) for v in (camera.fx, camera.fy, camera.cx, camera.cy)] == [60.0, 61.0, 10.5, 7.5]
    assert Camera(K.expand(4, 2, 3, 3), 16, 22).fx.shape == (4, 2)


@pytest.mark.parametrize(
    ("matrix", "height", "width"),
    [(torch.eye(4), 1, 1), (torch.eye(3, dtype=torch.int64), 1, 1), (K, 0, 5), (K, 5, -1)],
)
def test_what_cannot_be_a_camera(matrix, height, width):
    with refuses(GeometryError, where="camera"):
        Camera(matrix, height, width)


def test_batch_moves_as_a_whole():
    batch = sample(depth=True).to(torch.float64)
    assert (
        batch.inputs.image.dtype == batch.inputs.camera.K.dtype == batch.targets.source_camera.K.dtype == torch.float64
    )
    assert batch.targets.depth_m is not None
    assert batch.targets.depth_m.dtype == torch.float64
    assert batch.source_names == ("-1", "stereo")


@pytest.mark.parametrize(("name", "expected"), [("-1", True), ("+2", True), ("stereo", False), ("", False)])
def test_neighbors_in_time(name, expected):
    assert is_temporal(name) is expected
