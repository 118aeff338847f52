"""Cameras, batches and how samples become one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stadia.core.errors import GeometryError
from stadia.core.types import Batch, Camera, Claim, Inputs, Meta, Prediction, Targets, collate, is_temporal

K = torch.tensor([[60.0, 0, 10.5], [0, 61.0, 7.5], [0, 0, 1]])


def sample(index: int = 0, *, width: int = 8, names: tuple[str, ...] = ("-1", "stereo"), depth: bool = False) -> Batch:
    """A Batch without its first axis, its pictures filled with the index."""
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
    ("matrix", "height", "width"), [(torch.eye(4), 1, 1), (torch.eye(3, dtype=torch.int64), 1, 1), (K, 0, 5), (K, 5, -1)]
)
def test_what_cannot_be_a_camera(matrix, height, width):
    with pytest.raises(GeometryError, match="camera"):
        Camera(matrix, height, width)


def test_camera_changes_type_and_keeps_size():
    camera = Camera(K, 16, 22).to(torch.float64)
    assert camera.K.dtype == torch.float64
    assert (camera.height, camera.width) == (16, 22)


def test_collate_stacks_every_leaf():
    batch = collate([sample(0), sample(1), sample(2)])
    assert batch.size == 3
    assert batch.inputs.image.shape == (3, 3, 6, 8)
    assert batch.inputs.sources.shape == (3, 2, 3, 6, 8)
    assert batch.inputs.camera.K.shape == (3, 3, 3)
    assert batch.targets.source_camera.K.shape == (3, 2, 3, 3)
    assert batch.targets.depth_m is None
    assert [m.index for m in batch.meta] == [0, 1, 2]
    assert batch.inputs.image[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_collate_of_mixed_ground_truth_fills_in_none():
    batch = collate([sample(0, depth=True), sample(1)])
    assert batch.targets.depth_m is not None
    assert batch.targets.depth_m[:, 0, 0, 0].tolist() == [5.0, 0.0]


def test_collate_refuses_different_sizes_and_sources():
    with pytest.raises(GeometryError, match="picture sizes"):
        collate(
            [replace(sample(), inputs=sample(width=8).inputs), replace(sample(), inputs=replace(sample().inputs, camera=Camera(K, 6, 9)))]
        )
    with pytest.raises(GeometryError, match="sources"):
        collate([sample(), sample(names=("-1",))])


def test_batch_moves_as_a_whole():
    batch = collate([sample(depth=True)]).to(torch.float64)
    assert batch.inputs.image.dtype == batch.inputs.camera.K.dtype == batch.targets.source_camera.K.dtype == torch.float64
    assert batch.targets.depth_m is not None
    assert batch.targets.depth_m.dtype == torch.float64
    assert batch.source_names == ("-1", "stereo")


def test_prediction_moves_as_a_whole():
    prediction = Prediction(Claim.METRES, (torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)), torch.eye(4)[None, None]).to(torch.float64)
    assert {m.dtype for m in (*prediction.inverse_depth, prediction.T_source_target)} == {torch.float64}
    assert prediction.claim is Claim.METRES


@pytest.mark.parametrize(("name", "answer"), [("-1", True), ("+2", True), ("stereo", False), ("", False)])
def test_neighbours_in_time(name, answer):
    assert is_temporal(name) is answer
