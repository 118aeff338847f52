"""The motion from frame to frame: aligned where depth can align it, the network's where it cannot."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera, DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.direct_alignment import DirectAlignment
from stadia.geometry.cameras import inverse_from_depth
from stadia.predict import predict_frames
from stadia.predict.predict_frames import FrameArrays
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training.prediction import aligned_motion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[FrameArrays, FrameArrays, Tensor]:
    """Two frames of a rendered drive with their depth, and T_next_now."""
    folder = tmp_path_factory.mktemp("motion") / "world"
    write_roadworld(
        ROADWORLD_TINY.model_copy(update={"train": 0, "val": 0, "frames": 2, "stereo": False}), folder, seed=0
    )
    recording = open_recordings(folder)[0]
    views = []
    for index in range(2):
        image = torch.from_numpy(recording.image(index)).permute(2, 0, 1)[None].float() / 255
        depth = recording.depth_m(index)
        assert depth is not None
        views.append(
            FrameArrays(
                image.numpy(),
                Camera(recording.K(index), *image.shape[-2:]),
                inverse_from_depth(torch.from_numpy(depth)[None, None]).numpy(),
            )
        )
    now, following = (recording.T_world_camera(index) for index in range(2))
    assert now is not None
    assert following is not None
    return views[0], views[1], torch.from_numpy(np.linalg.inv(following) @ now)


def predict_motion(*arguments: object) -> Tensor | None:
    """The motion of one pair."""
    (motion,) = predict_frames.predict_motion(*arguments)
    assert motion.is_aligned is None
    return as_tensor(motion.T_next_now)


def align_motion(*arguments: object) -> Tensor | None:
    """The motion of one pair."""
    *views, before = arguments
    (motion,) = aligned_motion.align_motion(*views, before if before is None else before.numpy())
    return as_tensor(motion.T_next_now)


def as_tensor(T: np.ndarray | None) -> Tensor | None:
    return None if T is None else torch.from_numpy(T)


def saying(T_next_now: Tensor | None, depth_scale: DepthScale = DepthScale.METRES) -> SimpleNamespace:
    """A predictor whose pose network says this."""
    return SimpleNamespace(
        depth_scale=depth_scale,
        T_next_now=lambda now, *_: None if T_next_now is None else T_next_now.expand(len(now), 4, 4).numpy(),
    )


def forward(metres: float) -> Tensor:
    T = torch.eye(4)
    T[2, 3] = -metres
    return T


def error_m(T: Tensor, true: Tensor) -> float:
    return float((T - true)[:3, 3].norm())


def test_the_depth_corrects_the_network(pair) -> None:
    now, following, true = pair
    assert true[2, 3] < -0.4, "it drives"
    wrong = forward(-1.4 * float(true[2, 3]))
    assert error_m(predict_motion(saying(wrong), now, following, None), true) > 0.2
    assert error_m(align_motion(saying(wrong), now, following, None), true) < 0.02


def test_network_motion_is_kept_for_unknown_shift_or_no_overlap(pair) -> None:
    now, following, _ = pair
    said = forward(0.7)
    shifted = align_motion(saying(said, DepthScale.AFFINE_INVERSE), now, following, None)
    torch.testing.assert_close(shifted, said.double())
    far = forward(0.0)
    far[0, 3] = 500.0  # beside the image
    torch.testing.assert_close(align_motion(saying(far), now, following, None), far.double())
    far = far.double()
    assert align_motion(saying(None), now, following, far) is None


def test_the_camera_of_each_view_counts(pair) -> None:
    """The next image through a longer lens: cropped and enlarged, the same motion comes back."""
    now, following, true = pair
    middle = torch.from_numpy(following.image[..., 12:84, 40:280])
    enlarged = torch.nn.functional.interpolate(middle, (96, 320), mode="bilinear", align_corners=False)
    K = following.camera.K.copy()
    K[0, 2], K[1, 2] = K[0, 2] - 40, K[1, 2] - 12
    K[:2, 2] = (K[:2, 2] + 0.5) * (4 / 3) - 0.5
    K[0, 0], K[1, 1] = K[0, 0] * 4 / 3, K[1, 1] * 4 / 3
    zoomed = FrameArrays(enlarged.numpy(), Camera(K, 96, 320), following.inverse_depth)
    assert error_m(align_motion(saying(forward(0.6)), now, zoomed, None), true) < 0.05


def test_pairs_of_a_batch_are_aligned_as_each_alone(pair) -> None:
    """There and back, with and without a pose network."""
    now, following, true = pair
    both = [
        FrameArrays(np.concatenate([a.image, b.image]), a.camera, np.concatenate([a.inverse_depth, b.inverse_depth]))
        for a, b in ((now, following), (following, now))
    ]
    there, back = (as_tensor(one.T_next_now) for one in aligned_motion.align_motion(saying(forward(0.3)), *both, None))
    torch.testing.assert_close(there, align_motion(saying(forward(0.3)), now, following, None), atol=1e-5, rtol=0)
    torch.testing.assert_close(back, align_motion(saying(forward(0.3)), following, now, None), atol=1e-5, rtol=0)
    found = aligned_motion.align_motion(saying(None), *both, forward(0.5).double().numpy())
    first, second = (as_tensor(one.T_next_now) for one in found)
    torch.testing.assert_close(
        first, align_motion(saying(None), now, following, forward(0.5).double()), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(second, align_motion(saying(None), following, now, first), atol=1e-5, rtol=0)
    assert error_m(there, true) < 0.02


def test_of_two_alignments_a_reliable_one_counts(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one sees a corner of the image alone, where it fits better."""
    now, following, true = pair
    back = true.double().inverse()

    def align(*images_depth_cameras: object) -> DirectAlignment:
        start = images_depth_cameras[-1]
        assert isinstance(start, Tensor)
        is_again = bool(torch.allclose(start[0], back))
        seen, residual = (0.05, 0.001) if is_again else (0.9, 0.02)
        ones = torch.ones(1, dtype=torch.float64)
        T_source_target = start[:1] if is_again else true[None].double()
        return DirectAlignment(T_source_target, ones, 0 * ones, seen * ones, residual * ones)

    monkeypatch.setattr(aligned_motion, "align_direct", align)
    said = forward(0.3)
    torch.testing.assert_close(align_motion(saying(said), now, following, back), true.double())
