"""Ways to break a recording without touching its files. Each names the findings of which one must come, and what it
needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tests.mutations.mutated_recording import (
    Alone,
    Exposed,
    Image,
    Map,
    Matrix,
    MirroredImages,
    Mutated,
    ShiftedPoses,
    ShiftedRight,
    Turning,
)
from tests.mutations.stereo_rigs import (
    IN_BODY_AXES,
    LARGE_TURN,
    SMALL_TURN,
    T_RIGHT_LEFT,
    Unrectified,
    euroc_rig,
    other_order,
)

from stadia.core.types import LEFT, RIGHT, Camera, Recording
from stadia.judge.recordings.stereo_checks import fit_camera_height


def _with_K(change: Callable[[Matrix, Camera], Matrix]) -> Callable[[Camera], Camera]:
    """A change of K as a change of the camera, its size kept."""

    def changed(camera: Camera) -> Camera:
        return replace(camera, K=change(camera.K, camera))

    return changed


def _times(rows: float, both: bool = True) -> Callable[[Matrix, Camera], Matrix]:
    def change(K: Matrix, _: Camera) -> Matrix:
        scaled = K.copy()
        scaled[:2] *= rows
        if not both:  # the focal length alone
            scaled[:2, 2] = K[:2, 2]
        return scaled

    return change


def _swapped_center(K: Matrix, _: Camera) -> Matrix:
    K = K.copy()
    K[0, 2], K[1, 2] = K[1, 2], K[0, 2]
    return K


def _normalized(K: Matrix, camera: Camera) -> Matrix:
    return np.diag([1 / camera.width, 1 / camera.height, 1]) @ K


def _not_rescaled(recording: Recording) -> Recording:
    """Images (and ground truth) at half the size, K as it was."""

    def half(x: NDArray) -> NDArray:
        return cv2.resize(x, (x.shape[1] // 2, x.shape[0] // 2), interpolation=cv2.INTER_AREA)

    def sparse_half(depth: Map) -> Map:
        return depth[: depth.shape[0] // 2 * 2 : 2, : depth.shape[1] // 2 * 2 : 2]

    def camera(c: Camera) -> Camera:
        return replace(c, height=c.height // 2, width=c.width // 2)

    return Mutated(recording, image=half, camera=camera, depth=sparse_half)


def _cut(image: Image) -> Image:
    """Without the upper third and the right quarter."""
    return image[image.shape[0] // 3 :, : image.shape[1] * 3 // 4].copy()


def _crop_not_subtracted(recording: Recording) -> Recording:
    """Images (and ground truth) without the upper third, K as it was."""

    def lower(x: NDArray) -> NDArray:
        return x[x.shape[0] // 3 :].copy()

    return Mutated(recording, image=lower, camera=lambda c: replace(c, height=c.height - c.height // 3), depth=lower)


def _lost_where(recording: Recording) -> Callable[[Matrix], Matrix]:
    """Of the last frame's pose one number is none."""
    last = recording.T_world_camera(len(recording) - 1)
    return lambda T: np.where((last == T).all() & (np.arange(16).reshape(4, 4) == 7), np.nan, T)


def _translated(change: Callable[[Matrix], Matrix]) -> Callable[[Matrix], Matrix]:
    """A change of the translation of a 4 x 4 transform."""

    def changed(T: Matrix) -> Matrix:
        T[:3, 3] = change(T[:3, 3])
        return T

    return changed


_FORWARD_LEFT_UP = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # p_body = this p_camera
_Y_UP_Z_BACK = np.diag([1.0, -1, -1, 1])
_RAW_TURN_DEG = 1.71


def _turned(T: Matrix) -> Matrix:
    """The unrectified extrinsics of KITTI on rectified images: a turn of 1.71 degrees about x."""
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.radians([_RAW_TURN_DEG, 0, 0]))[0]
    return turn @ T


def _other_side(side: str) -> str:
    return RIGHT if side == LEFT else LEFT


def _inverse_depth(depth: Map) -> Map:
    """Return inverse depth with the median of the depth, so that its range is plausible."""
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 0.1), 0)
    return (inverse * np.median(depth[depth > 0]) / np.median(inverse[depth > 0])).astype(np.float32)


def _whole_metres(depth: Map) -> Map:
    return np.floor(depth).astype(np.float32)


def _eight_bit(depth: Map) -> Map:
    return (np.ceil(depth / depth.max() * 255) / 255 * depth.max()).astype(np.float32)


def _bars(rows: float, columns: float) -> Callable[[Image], Image]:
    """Black bars over these shares of the height, above and below, and of the width, on the left."""

    def changed(image: Image) -> Image:
        high, wide = round(rows * image.shape[0]), round(columns * image.shape[1])
        image = image.copy()
        image[:high], image[image.shape[0] - high :], image[:, :wide] = 16, 16, 16
        return image

    return changed


def _noisy() -> Callable[[Image], Image]:
    """Sensor noise of one gray level, another one for every image that is read."""
    random = np.random.default_rng(0)
    return lambda image: np.clip(image + random.normal(0, 1, image.shape), 0, 255).astype(np.uint8)


def changed(**changes: Any) -> Callable[[Recording], Recording]:
    """A mutation of what a recording returns: the arguments of `Mutated`."""
    return lambda recording: Mutated(recording, **changes)


@dataclass(frozen=True)
class Mutation:
    """name: in words.  check: whose it is.  codes: one of these must be found, as a stop unless `warns`.

    needs: of "stereo", "poses", "depth", "dense", "rulers" (stereo or depth beside the poses), "road" (seen level, with
        depth).
    """

    name: str
    check: str
    codes: tuple[str, ...]
    apply: Callable[[Recording], Recording]
    needs: frozenset[str] = frozenset()
    warns: bool = False


def _mutation(
    name: str, check: str, codes: str, apply: Callable[[Recording], Recording], needs: str = "", warns: bool = False
) -> Mutation:
    return Mutation(name, check, tuple(codes.split()), apply, frozenset(needs.split()), warns)


MUTATIONS = (
    _mutation("every frame twice", "frames", "D02", changed(frame=lambda i: i // 2)),
    _mutation("one frame all the time", "frames", "D02", changed(frame=lambda i: 0)),
    _mutation("standing still, with noise", "frames", "D03",
        lambda r: Mutated(r, frame=lambda i: 0, depth_frame=lambda i: 0, image=_noisy()), warns=True),
    _mutation("turning in place", "parallax", "D18", Turning, warns=True),
    _mutation("right is left", "frames", "D04", changed(side=lambda s: LEFT), "stereo"),
    _mutation("letterboxed", "borders", "D14", changed(image=_bars(0.1, 0)), warns=True),
    _mutation("a bar on the left", "borders", "D14", changed(image=_bars(0, 0.05)), warns=True),
    _mutation("frames sorted as text", "timestamps", "D15", changed(time=lambda i: float((i * 7) % 10))),
    _mutation("times in nanoseconds", "timestamps", "D16", changed(time=lambda i: 1e8 * i), warns=True),
    _mutation("times in milliseconds", "timestamps", "D16", changed(time=lambda i: 1e2 * i), warns=True),
    _mutation("seconds divided by a thousand", "timestamps", "D16", changed(time=lambda i: 1e-4 * i), warns=True),
    _mutation("every time twice", "timestamps", "D15", changed(time=lambda i: float(i // 2))),
    _mutation("a clock that was set back once", "timestamps", "D15",
        lambda r: Mutated(r, time=lambda i: i - 9.0 * (i >= len(r) // 2)), warns=True),
    _mutation("times that are no numbers", "timestamps", "D01", changed(time=lambda i: float("nan"))),
    _mutation("K transposed", "intrinsics", "K01", changed(camera=_with_K(lambda K, _: K.T))),
    _mutation("K normalized", "intrinsics", "K02", changed(camera=_with_K(_normalized))),
    _mutation("cx and cy exchanged", "intrinsics", "K03", changed(camera=_with_K(_swapped_center))),
    _mutation("a crop that was not subtracted", "intrinsics", "K03", _crop_not_subtracted, "poses"),
    _mutation("focal length in millimetres", "intrinsics", "K05", changed(camera=_with_K(_times(0.005, both=False)))),
    _mutation("K doubled", "resize", "K04", changed(camera=_with_K(_times(2)))),
    _mutation("K halved", "resize", "K04", changed(camera=_with_K(_times(0.5)))),
    _mutation("images halved, K not", "resize", "K04", _not_rescaled),
    _mutation("images halved, their camera not", "resize", "K04", changed(image=lambda x: x[::2, ::2].copy())),
    _mutation("images cropped, their camera not", "resize", "K04", changed(image=_cut)),
    _mutation("focal length alone doubled", "resize", "K04 K06 E03", changed(camera=_with_K(_times(2, both=False))),
        "stereo poses", warns=True),
    _mutation("left and right swapped", "sides", "E02", changed(side=_other_side), "stereo"),
    _mutation("right camera one frame late", "synchronization", "E10", lambda r: ShiftedRight(r, 1), "stereo poses"),
    _mutation("right camera two frames early", "synchronization", "E10", lambda r: ShiftedRight(r, -2), "stereo poses"),
    _mutation("right images mirrored", "sides", "E12", lambda r: MirroredImages(r, (RIGHT,)), "stereo"),
    _mutation("all images mirrored", "sides", "E12 E02", lambda r: MirroredImages(r, (LEFT, RIGHT)), "stereo"),
    _mutation("sign of the baseline", "baseline", "E01", changed(rig=np.linalg.inv), "stereo"),
    _mutation("baseline of P3 alone (0.883)", "baseline", "E03", changed(rig=_translated(lambda t: 0.8833 * t)),
        "stereo poses"),
    _mutation("baseline of 0.1 m", "baseline", "E03", changed(rig=_translated(lambda t: t / 5.4)), "stereo poses"),
    _mutation("baseline in millimetres", "baseline", "E03", changed(rig=_translated(lambda t: 1000 * t)), "stereo"),
    _mutation("baseline along y", "baseline", "E04", changed(rig=_translated(lambda t: t[[1, 0, 2]])), "stereo"),
    _mutation("extrinsics of the unrectified pair", "baseline", "E04", changed(rig=_turned), "stereo"),
    _mutation("extrinsics in the body's axes: T_BS1 inv(T_BS0)", "baseline", "E04",
        changed(rig=euroc_rig(IN_BODY_AXES)), "stereo"),
    _mutation("extrinsics in the body's axes: t1 - t0", "baseline", "E04",
        changed(rig=euroc_rig(IN_BODY_AXES, turned=False)), "stereo"),
    _mutation("extrinsics of EuRoC's raw pair", "baseline", "E04", changed(rig=euroc_rig(T_RIGHT_LEFT)), "stereo",
        warns=True),
    _mutation("images not rectified", "baseline", "E04", lambda r: Unrectified(r, SMALL_TURN, lambda R: np.eye(3)),
        "stereo"),
    _mutation("rotation of the rig transposed", "baseline", "E04", lambda r: Unrectified(r, SMALL_TURN, lambda R: R.T),
        "stereo"),
    _mutation("rotation of the rig in another order", "baseline", "E04",
        lambda r: Unrectified(r, LARGE_TURN, other_order), "stereo"),
    _mutation("exposures that alternate", "exposure", "B03", lambda r: Exposed(r, lambda i, side: 0.6 + 0.4 * (i % 2)),
        "", warns=True),
    _mutation("a right camera at half the exposure", "exposure", "B03",
        lambda r: Exposed(r, lambda i, side: 1 - 0.5 * (side == RIGHT)), "stereo", warns=True),
    _mutation("poses with rows and columns exchanged", "poses", "E05", changed(pose=lambda T: T.T), "poses"),
    _mutation("poses with a number missing in the last frame", "poses", "E05",
        lambda r: Mutated(r, pose=_lost_where(r)), "poses"),
    _mutation("poses of three rows", "poses", "D01", changed(pose=lambda T: T[:3]), "poses"),
    _mutation("poses inverted", "poses", "E06", changed(pose=np.linalg.inv), "poses"),
    _mutation("poses one frame late", "poses", "E11", lambda r: ShiftedPoses(r, lambda i: i - 1), "poses", warns=True),
    _mutation("poses in reverse order", "poses", "E11", lambda r: ShiftedPoses(r, lambda i: len(r) - 1 - i), "poses"),
    _mutation("poses of a body (x forward, z up)", "poses", "E07", changed(pose=lambda T: T @ _FORWARD_LEFT_UP.T),
        "poses"),
    _mutation("poses of a graphics camera (y up, z back)", "poses", "E06 E07",
        changed(pose=lambda T: T @ _Y_UP_Z_BACK), "poses"),
    _mutation("x and z of the translations exchanged", "poses", "E07 E09",
        changed(pose=_translated(lambda t: t[[2, 1, 0]])), "poses"),
    _mutation("poses in millimetres", "poses", "E08", changed(pose=_translated(lambda t: 1000 * t)), "poses"),
    _mutation("poses in centimetres", "poses", "E08", changed(pose=_translated(lambda t: 100 * t)), "poses rulers"),
    _mutation("poses up to scale (x 0.37)", "poses", "E08", changed(pose=_translated(lambda t: 0.37 * t)),
        "poses depth"),
    _mutation("ground truth with an axis for its channel", "ground_truth", "D01",
        changed(depth=lambda d: d[..., None]), "depth"),
    _mutation("ground truth zero", "ground_truth", "D05", changed(depth=np.zeros_like), "depth"),
    _mutation("ground truth constant", "ground_truth", "D05", changed(depth=lambda d: np.full_like(d, 10)), "depth"),
    _mutation("ground truth in millimetres", "ground_truth", "D06", changed(depth=lambda d: 1000 * d), "depth"),
    _mutation("uint16 not divided by 256", "ground_truth", "D06", changed(depth=lambda d: 256 * d), "depth"),
    _mutation("ground truth divided by 1000 twice", "ground_truth", "D06", changed(depth=lambda d: d / 1000), "depth"),
    _mutation("factor 5.4 not undone", "ground_truth", "D06", changed(depth=lambda d: d / np.float32(5.4)),
        "depth poses"),
    _mutation("ground truth normalized by 80 m", "ground_truth", "D06", changed(depth=lambda d: d / 80), "depth poses"),
    _mutation("inverse depth for depth", "ground_truth", "D06 D07", changed(depth=_inverse_depth), "depth poses"),
    _mutation("ground truth 5 m too far", "ground_truth", "D06 D07",
        changed(depth=lambda d: np.where(d > 0, d + 5, 0).astype(np.float32)), "depth stereo"),
    _mutation("ground truth of other frames", "ground_truth", "D06 D07",
        lambda r: Mutated(r, depth_frame=lambda i: (i + len(r) // 2) % len(r)), "depth stereo"),
    _mutation("ground truth one frame late", "ground_truth", "D07",
        lambda r: Mutated(r, depth_frame=lambda i: min(i + 1, len(r) - 1)), "depth stereo", warns=True),
    _mutation("millimetres read as 1/256 m", "ground_truth", "D06 E08",
        changed(depth=lambda d: d * np.float32(1000 / 256)), "depth poses"),
    _mutation("1/256 m read as millimetres", "ground_truth", "D06 E08", changed(depth=lambda d: d * np.float32(0.256)),
        "depth poses"),
    _mutation("millimetres read as 1/256 m, one camera alone", "ground_truth", "D06",
        lambda r: Alone(r, depth=lambda d: d * np.float32(1000 / 256)), "depth road", warns=True),
    _mutation("1/256 m read as millimetres, one camera alone", "ground_truth", "D06",
        lambda r: Alone(r, depth=lambda d: d * np.float32(0.256)), "depth road", warns=True),
    _mutation("ground truth at half the size of its images", "ground_truth", "D11",
        changed(depth=lambda d: d[::2, ::2]), "depth"),
    _mutation("ground truth of every fifth frame", "ground_truth", "D12",
        changed(depth_frame=lambda i: i if i % 5 == 0 else None), "depth", warns=True),
    _mutation("ground truth of whole metres", "ground_truth", "D08", changed(depth=_whole_metres), "depth"),
    _mutation("ground truth of 8 bits", "ground_truth", "D08", changed(depth=_eight_bit), "dense", warns=True),
)  # fmt: skip


def abilities(recording: Recording) -> frozenset[str]:
    """What a recording has, in the words of `Mutation.needs`."""
    depth = recording.depth_m(0)
    poses = recording.T_world_camera(0) is not None
    stereo = RIGHT in recording.sides
    has = {
        "stereo": stereo,
        "poses": poses,
        "depth": depth is not None,
        "dense": depth is not None and bool((depth > 0).sum() > 20_000),
        "rulers": stereo or depth is not None,
        "road": depth is not None and fit_camera_height(depth, recording.camera(0).K) is not None,
    }
    return frozenset(name for name, there in has.items() if there)


Splits = dict[str, list[tuple[Recording, Sequence[int]]]]


def clean_splits(recording: Recording) -> Splits:
    """The first frames train, the last ones are held out, and those between are used by neither."""
    frames = len(recording)
    return {
        "train": [(recording, range(frames * 6 // 10))],
        "val": [(recording, range(frames - max(2, frames // 6), frames))],
    }


def _renamed(recording: Recording) -> Recording:
    """The same images under another name."""
    copy = Mutated(recording)
    copy.name = "a copy of " + recording.name
    return copy


def _overlapping(recording: Recording) -> Splits:
    """The last tenth of the training frames are in the held-out split as well, as a copy."""
    frames = len(recording)
    half = frames // 2
    return {
        "train": [(recording, range(half))],
        "val": [(_renamed(recording), range(half - max(1, frames // 10), frames))],
    }


def _interleaved(recording: Recording) -> Splits:
    """Every other frame is held out."""
    return {"train": [(recording, range(0, len(recording), 2))], "val": [(recording, range(1, len(recording), 2))]}


SPLIT_MUTATIONS: tuple[tuple[str, str, Callable[[Recording], Splits]], ...] = (
    ("a copy of training frames held out", "D09", _overlapping),
    ("every other frame held out", "D10", _interleaved),
)
"""Name, code, and the broken splits."""
