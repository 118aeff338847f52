"""Find the camera motion between video frames by direct image alignment with predicted depth."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Camera, Predictor
from stadia.differentiable.direct_alignment import DirectAlignment, align_direct, is_reliable
from stadia.geometry.cameras import depth_from_inverse
from stadia.predict.predict_frames import FrameArrays, FrameMotion, predict_motion
from stadia.training.recipes.base.depth_predictor import choose_device, to_tensors


def _rank(found: DirectAlignment) -> tuple[bool, float]:
    """Return a key that sorts better alignments first: reliable ones, then by residual."""
    return not is_reliable(found), float(found.residual)


def align_motion(
    predictor: Predictor, now: FrameArrays, following: FrameArrays, T_before: NDArray[np.float64] | None
) -> list[FrameMotion]:
    """Find the camera motion of B pairs of video frames by direct image alignment with predicted depth.

    It starts from the motion of the pose network, or else from the motion of the pair before. An unreliable result is
    not taken.

    predictor: network that predicts depth, and perhaps motion.
    now: B video frames with their inverse depth.
    following: the B video frames that follow them.
    T_before: motion of the pair before, or None.
    """
    predicted = predict_motion(predictor, now, following, T_before)
    if predictor.depth_scale.is_affine:
        return predicted
    starts = [link.T_next_now for link in predicted if link.T_next_now is not None]
    together = _align(now, following, np.stack(starts)) if len(starts) == len(predicted) else []
    motions: list[FrameMotion] = []
    for number, by_network in enumerate(predicted):
        before = motions[-1].T_next_now if motions else T_before
        pair = now.select(number), following.select(number)
        if together:
            (found,) = together[number : number + 1]
            shift = found.T_source_target[0, :3, 3].cpu().numpy()
            if before is not None and not (is_reliable(found) and shift @ before[:3, 3] >= 0):
                found = min(found, *_align(*pair, before[None]), key=_rank)
        else:
            (found,) = _align(*pair, (np.eye(4) if before is None else before)[None])
        if is_reliable(found):
            motions.append(FrameMotion(found.T_source_target[0].cpu().numpy(), is_aligned=True))
        else:
            motions.append(FrameMotion(by_network.T_next_now, is_aligned=False))
    return motions


def _align(now: FrameArrays, following: FrameArrays, start: NDArray[np.float64]) -> list[DirectAlignment]:
    """Align B pairs from `start` (B, 4, 4), on a GPU if there is one."""
    assert now.inverse_depth is not None
    device = choose_device()
    cameras = []
    for view in (now, following):
        K = to_tensors(view.camera.K).to(device)
        cameras.append(Camera(K.expand(len(start), 3, 3), view.camera.height, view.camera.width))
    images = [to_tensors(view.image).to(device) for view in (now, following)]
    depth = depth_from_inverse(to_tensors(now.inverse_depth).to(device))
    found = align_direct(*images, depth, *cameras, to_tensors(start).to(device))
    columns = (getattr(found, column.name).split(1) for column in fields(found))
    return [DirectAlignment(*values) for values in zip(*columns, strict=True)]
