"""A path is followed through a painted room of which everything is known; and the command that does it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from tests.tensor_cameras import pixel_grid
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import DataError, StadiaError
from stadia.core.types import DepthScale, PredictedMaps
from stadia.data.frame_preparation import Frame
from stadia.differentiable.photometric_residuals import HostPoints
from stadia.geometry import poses as se3
from stadia.geometry.cameras import inverse_intrinsics
from stadia.io.records.read import read_kitti_trajectory
from stadia.predict.track_camera import MapPoints, track_camera
from stadia.training.odometry import sliding_window_odometry as refining
from stadia.training.recipes.base.depth_predictor import accept_arrays

F64 = torch.float64
K = torch.tensor([[70.0, 0, 71.5], [0, 70, 39.5], [0, 0, 1]], dtype=F64)
HEIGHT, WIDTH, COUNT = 80, 144, 12
WALLS = torch.tensor([2.5, 1.5, 12.0], dtype=F64)


def view(T_world_camera: Tensor) -> tuple[Tensor, Tensor]:
    """Gray and depth (80, 144) of the room."""
    homogeneous = torch.cat((pixel_grid(HEIGHT, WIDTH, dtype=F64), torch.ones(1, HEIGHT, WIDTH, dtype=F64)))
    direction = T_world_camera[:3, :3] @ inverse_intrinsics(K) @ homogeneous.flatten(1)
    center = T_world_camera[:3, 3:]
    depth = ((WALLS[:, None] * direction.sign() - center) / direction).amin(0)
    x, y, z = center + depth * direction
    waves = (
        torch.sin(1.1 * x + 0.9 * y + 0.3 * z)
        + torch.sin(1.3 * y - 0.6 * x + 1 - 0.4 * z)
        + torch.sin(0.7 * x + 1.6 * y + 0.5 * z)
    )
    return (0.5 + waves / 7).view(HEIGHT, WIDTH), depth.view(HEIGHT, WIDTH)


class Room:
    """Frames of a walk, and a predictor whose depth is off by a factor a frame and whose motion is short by a third."""

    depth_scale, height, width, crop = DepthScale.METRES, HEIGHT, WIDTH, "none"

    def __init__(self, *, wrong: float = 0.0, motion: bool = True, exposure: float = 0.0) -> None:
        k = torch.arange(COUNT, dtype=F64)[:, None]
        twist = torch.tensor([[0.02, 0.01, 0.2, 0.002, 0.008, 0.0]], dtype=F64) * k
        self.truth = se3.se3_exp(twist)
        generator = torch.Generator().manual_seed(0)
        self.factor = 1 + wrong * torch.randn(COUNT, generator=generator, dtype=F64)
        self.motion, self.depths, self.frames = motion, list[Tensor](), list[Frame]()
        for index, T in enumerate(self.truth):
            gray, depth = view(T)
            self.depths.append(depth)
            shown = (gray * (1 - exposure * index / COUNT) * 255).round().byte()
            self.frames.append(
                Frame(f"{index:06d}", shown[..., None].expand(-1, -1, 3).numpy().copy(), K.numpy(), index / 10)
            )
        self.shown = [torch.from_numpy(frame.image).permute(2, 0, 1).float() / 255 for frame in self.frames]

    def which(self, image: Tensor) -> int:
        return int(torch.stack([(image[0] - shown).abs().sum() for shown in self.shown]).argmin())

    @accept_arrays
    def inverse_depth(self, image: Tensor, camera: object) -> Tensor:
        index = self.which(image)
        return (self.factor[index] / self.depths[index])[None, None].float()

    @accept_arrays
    def T_next_now(self, now: Tensor, camera: object, following: Tensor, next_camera: object) -> Tensor | None:
        if not self.motion:
            return None
        a, b = self.which(now), self.which(following)
        T = se3.compose(se3.invert_pose(self.truth[b]), self.truth[a])
        T[:3, 3] *= 2 / 3
        return T[None].float()


class RightRoom(Room):
    """Every depth is a tenth too far, but not what the right camera would see, 1 m beside."""

    def __init__(self, *, knows_rig: bool) -> None:
        super().__init__(motion=False)
        self.factor = torch.full((COUNT,), 0.9, dtype=F64)
        self.rig = se3.se3_exp(torch.tensor([-1.0, 0, 0, 0, 0, 0], dtype=F64))
        self.right = [1 / view(se3.compose(T, se3.invert_pose(self.rig)))[1] for T in self.truth]
        self.knows_rig = knows_rig

    @accept_arrays
    def maps(self, image: Tensor, camera: object) -> PredictedMaps:
        right = self.right[self.which(image)][None, None].float()
        return PredictedMaps(self.inverse_depth(image, camera), right, None, self.rig if self.knows_rig else None)


def ate_m(path: np.ndarray, truth: Tensor) -> float:
    return float(np.sqrt(np.square(path[:, :3, 3] - truth[:, :3, 3].numpy()).sum(-1).mean()))


@pytest.mark.slow
def test_every_way_gives_a_pose_a_frame_from_the_identity():
    room = Room()
    for method in ("network", "aligned", "refined", "graph"):
        found = track_camera(room, room.frames, method, source="room")
        assert found.T_world_camera.shape == (COUNT, 4, 4)
        assert_close(torch.from_numpy(found.T_world_camera[0]), torch.eye(4, dtype=F64), atol=1e-6, rtol=0)
        assert found.names[-1] == f"{COUNT - 1:06d}"
        assert found.ends == ""


@pytest.mark.slow
@pytest.mark.parametrize("motion", [True, False])
def test_the_refined_path_is_right_where_the_depth_is(motion):
    room = Room(motion=motion)
    found = track_camera(room, room.frames, "refined", source="room")
    assert ate_m(found.T_world_camera, room.truth) < 0.03  # of 2.2 m
    assert 3 <= found.keyframes <= COUNT


@pytest.mark.slow
def test_refined_is_nearer_than_chained():
    """Depths wrong by a tenth, each its own way: the window means over them. The pose network is short by a third."""
    room = Room(wrong=0.1)
    errors = {
        method: ate_m(track_camera(room, room.frames, method, source="room").T_world_camera, room.truth)
        for method in ("network", "refined")
    }
    assert errors["refined"] < 0.3 * errors["network"]


@pytest.mark.slow
def test_the_refined_path_has_the_length_of_the_network_path_beside_it():
    """The pose network is short by a third. Without one, and of other methods, the length is unknown."""
    room = Room()
    found = track_camera(room, room.frames, "refined", source="room")
    steps = room.truth[1:, :3, 3] - room.truth[:-1, :3, 3]
    assert found.network_length == pytest.approx(2 / 3 * float(steps.norm(dim=-1).sum()), rel=1e-6)
    assert track_camera(room, room.frames, "network", source="room").network_length is None
    alone = Room(motion=False)
    assert track_camera(alone, alone.frames[:3], "refined", source="room").network_length is None


@pytest.mark.slow
def test_virtual_stereo_holds_the_scale():
    """Where the rig is known that the right view is of; and the window forgets no part of it."""
    ends = [
        track_camera(room, room.frames, "refined", source="room")
        for room in (RightRoom(knows_rig=False), RightRoom(knows_rig=True))
    ]
    length = float(Room().truth[-1, :3, 3].norm())
    without, with_it = (float(np.linalg.norm(path.T_world_camera[-1, :3, 3])) / length - 1 for path in ends)
    assert without == pytest.approx(0.1, abs=0.03)
    assert abs(with_it) < without / 3


@pytest.mark.slow
def test_the_window_is_bounded_and_the_map_lies_on_the_walls(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(refining, "KEYFRAME_FLOW", 0.04)
    monkeypatch.setattr(refining, "WINDOW_KEYFRAMES", 3)
    mapped = list[MapPoints]()
    room = Room()
    found = track_camera(room, room.frames, "refined", source="room", take_points=mapped.append)
    assert found.keyframes >= 4
    assert len(mapped) == found.keyframes
    position = np.concatenate([points.position for points in mapped])
    assert len(position) > 30
    to_wall = np.abs(WALLS.numpy() - np.abs(position)).min(-1)
    assert np.median(to_wall) < 0.03
    assert ate_m(found.T_world_camera, room.truth) < 0.02


def test_points_out_of_sight_or_behind_do_not_count_for_a_new_keyframe():
    pixel = torch.tensor([[78.5, 39.5], [64.5, 39.5], [80, 45], [60, 45], [70, 45], [143, 39.5], [0, 39.5]], dtype=F64)
    inverse_depth = torch.tensor([0.1, 0.1, 2.0, 2.0, 2.0, 0.9, 0.9], dtype=F64)
    ray = (torch.cat((pixel, torch.ones(7, 1, dtype=F64)), 1) @ torch.linalg.inv(K).mT)[:, None].expand(-1, 8, -1)
    nothing = torch.ones(7, 8, dtype=F64)
    points = HostPoints(torch.zeros(7, dtype=torch.long), pixel, ray, inverse_depth, nothing, nothing, nothing)
    T = torch.eye(4, dtype=F64)
    T[2, 3] = -1.0
    share = refining.relative_flow(points, K, HEIGHT, WIDTH, T)
    assert share == pytest.approx(7 / 9 / ((HEIGHT + WIDTH) / 2))  # 7 px from the center, 10 m to 9 m
    assert refining.relative_flow(points.select(slice(2, 7)), K, HEIGHT, WIDTH, T) == 1


def test_path_ends_without_motion_estimate():
    room = Room(motion=False)
    cut = [*room.frames[:4], Frame("cut", room.frames[5].image, K.numpy(), None, frames_since=None)]
    found = track_camera(room, cut, "refined", source="room")
    assert len(found.names) == 4
    assert "000003" in found.ends
    with refuses(DataError, where="room", found="000001", fix="--method"):
        track_camera(room, room.frames, "network", source="room")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["refined", "aligned", "network"])
def test_a_network_that_predicts_nan_ends_the_path_and_keeps_its_start(method):
    """A NaN became the least integer as an index, and the path was lost."""

    class Broken(Room):
        broken = 6

        @accept_arrays
        def inverse_depth(self, image: Tensor, camera: object) -> Tensor:
            depth = super().inverse_depth(image, camera)
            return depth * torch.nan if self.which(image) >= self.broken else depth

        @accept_arrays
        def T_next_now(self, now: Tensor, camera: object, following: Tensor, next_camera: object) -> Tensor | None:
            T = super().T_next_now(now, camera, following, next_camera)
            return T * torch.nan if T is not None and self.which(following) >= self.broken else T

    room = Broken()
    room.frames[5] = replace(room.frames[5], image=255 - room.frames[5].image)  # no alignment is reliable from here on
    found = track_camera(room, room.frames, method, source="room")
    assert 2 <= len(found.names) < COUNT
    assert np.isfinite(found.T_world_camera).all()
    assert found.names[-1] in found.ends


@pytest.mark.slow
def test_points_of_unknown_depth_are_not_chosen():
    room = Room()
    depth = room.inverse_depth

    def holed(image: Tensor, camera: object) -> Tensor:
        found = depth(image, camera)
        found[..., :40, :], found[..., 40:50, :] = torch.nan, 0
        return found

    room.inverse_depth = holed
    found = track_camera(room, room.frames, "refined", source="room")
    assert len(found.names) == COUNT
    assert np.isfinite(found.T_world_camera).all()


def test_inverse_depth_up_to_a_shift_is_not_refined():
    room = Room()
    room.depth_scale = DepthScale.AFFINE_INVERSE
    with refuses(StadiaError, fix="another network"):
        track_camera(room, room.frames, "refined", source="room")


@pytest.mark.slow
def test_the_command_writes_a_path_and_scores_it(stadia, checkpoint, drive_folder, tmp_path):
    """Where the world is flat and nothing can be seen of its motion, the network's own path."""
    code, out, err = stadia(
        "odometry", checkpoint, drive_folder, "data.split=test", "--method", "network", "--out", tmp_path / "o"
    )
    assert code == 0, err
    assert {file.name for file in (tmp_path / "o").iterdir()} == {
        "odometry.json",
        "path.png",
        "trajectory.txt",
        "trajectory_tum.txt",
    }
    record = json.loads((tmp_path / "o" / "odometry.json").read_text())
    assert (record["depth_scale"], record["method"], len(record["frames"])) == ("metres", "network", 6)
    assert (record["entries"], record["has_frame_numbers"]) == (record["frames"], False), "every image, and no number"
    assert record["score"]["metrics"]["ate_rmse_m"] == pytest.approx(0, abs=1e-3)
    assert len(read_kitti_trajectory(tmp_path / "o" / "trajectory.txt")) == 6
    assert "frames/s" in out
    assert "m (SE(3)-aligned), 6 poses, path 2.5 m, length ratio 1: " in out
    again, _, err = stadia(
        "odometry", checkpoint, drive_folder, "data.split=test", "--method", "network", "--out", tmp_path / "o"
    )
    assert again == 2
    assert "choose another --out" in err
