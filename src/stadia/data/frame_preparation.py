"""Prepare frames for a network: crop, resize, pad, correct for another lens."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import DepthScale, Recording
from stadia.geometry.cameras import NEAR, CropWindow, crop_K, crop_window, resize_K, resize_to_planar

log = logging.getLogger(__name__)

FOCAL_TOLERANCE, CENTER_TOLERANCE = 0.02, 0.15

MAX_UNPADDED_RATIO = 0.03  # largest difference of aspect ratios (in the logarithm) without padding


@dataclass(frozen=True, slots=True)
class Frame:
    """Hold a video frame, or a single image, as input of a depth prediction.

    name: name of the files that are written for it.
    image: (H, W, 3) uint8 RGB.
    K: (3, 3) intrinsics in pixels.
    time_s: time of the video frame in seconds; None if unknown.
    frames_since: number of video frames since the previous predicted one (1 if none was skipped); None if the
        previous one shows another place.
    on_path: whether camera motion is predicted to and from this video frame. False for one that was left out of a
        training because the camera hardly moved.
    skipped: function that reads the video frames between this and the next predicted one. They get no depth, but
        motion is followed through them.
    ignored: (H, W) bool, true for pixels that never get depth, such as the own car's hood (`data.ignore`); None for
        no such pixels.
    """

    name: str
    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    time_s: float | None = None
    frames_since: int | None = 1
    on_path: bool = True
    skipped: "Callable[[], Iterable[Frame]]" = tuple
    ignored: NDArray[np.bool_] | None = None

    @property
    def is_neighbor(self) -> bool:
        """Return whether this video frame directly follows the previous predicted one, so that motion is predicted."""
        return self.frames_since == 1


@dataclass(frozen=True, slots=True)
class PredictedFrame:
    """Hold a video frame with the depth and the camera pose that were predicted for it.

    frame: the video frame, cropped as the network needs it, with the K of the crop.
    depth_scale: whether depth is in metres, up to scale, or affine.
    inverse_depth: (h, w) float32 predicted 1 / depth at the network's size, in the unit of `depth_scale`.
    K: (3, 3) intrinsics in pixels of the network's size.
    T_world_camera: (4, 4) camera-to-world pose, translation in the unit of depth. The world is the camera of the
        first video frame. None if no pose is known.
    image_size: (height, width) of the image before the crop, in pixels.
    box: rows and columns of the crop in that image.
    log_uncertainty: (h, w) float32 logarithm of the predicted scale Sigma of the photometric residual, larger for
        less certain depth; None without uncertainty.
    is_aligned: True if direct image alignment found the motion to this video frame, False if it failed; None if it
        was not used.
    starts_path: True if the camera trajectory starts again at this video frame, because no known motion connects it
        with earlier ones.
    max_depth: depth beyond it is written as 0 (unknown, far); None keeps all depths.
    rays: (h, w, 3) unit rays of the pixels of a panorama, whose depth is the distance along them; None for a pinhole
        camera, whose depth is z.
    """

    frame: Frame
    depth_scale: DepthScale
    inverse_depth: NDArray[np.float32]
    K: NDArray[np.float64]
    T_world_camera: NDArray[np.float64] | None
    image_size: tuple[int, int]
    box: CropWindow
    log_uncertainty: NDArray[np.float32] | None = None
    is_aligned: bool | None = None
    starts_path: bool = False
    max_depth: float | None = None
    rays: NDArray[np.float64] | None = None

    def depth_at_image(self) -> NDArray[np.float32]:
        """Return depth, (H, W) at the size of the original image, in the unit of `depth_scale`; 0 means unknown.

        It is interpolated bilinearly in inverse depth. It is 0 outside the network's crop, at ignored pixels, and
        beyond max_depth.
        """
        depth, box = np.zeros(self.image_size, np.float32), self.box
        inside = cv2.resize(self.inverse_depth, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        np.divide(1, inside, out=depth[box.rows, box.columns])
        if (ignored := self.frame.ignored) is not None:
            depth[box.rows, box.columns][ignored] = 0
        if self.max_depth is not None:
            depth[depth > self.max_depth] = 0
        return depth

    def depth(self) -> NDArray[np.float32]:
        """Return depth, (h, w) at the network's size, in metres or up to scale; 0 if ignored or beyond max_depth."""
        known = self.inverse_depth > NEAR
        if (ignored := self.frame.ignored) is not None:
            known &= ~_find_inside(ignored, known.shape)
        if self.max_depth is not None:
            known &= self.inverse_depth * self.max_depth >= 1
        return np.divide(1, self.inverse_depth, out=np.zeros_like(self.inverse_depth), where=known)


def _find_inside(region: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    share = cv2.resize(region.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    whole = np.pad((share > 0.999).astype(np.uint8), 1, mode="edge")
    return np.asarray(cv2.erode(whole, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0)


Listener = Callable[[PredictedFrame], None]  # takes every predicted frame: a video, a point cloud


class Network(Protocol):
    """What a frame is prepared for: `core.types.Predictor`, or an exported network."""

    depth_scale: DepthScale
    height: int
    width: int
    crop: str


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """Hold a video frame in the form that the network takes.

    frame: the video frame after the network's crop.
    image: (3, h, w) float32 RGB in [0, 1], resized to the network's size.
    K: (3, 3) intrinsics in pixels of the network's size.
    image_size: (height, width) of the original image in pixels.
    box: rows and columns of the crop in the original image.
    """

    frame: Frame
    image: NDArray[np.float32]
    K: NDArray[np.float64]
    image_size: tuple[int, int]
    box: CropWindow

    @classmethod
    def prepare(cls, network: Network, frame: Frame) -> "PreparedFrame":
        """Crop and resize a frame for a network. Raise GeometryError if the image is smaller than the crop."""
        size = (frame.image.shape[0], frame.image.shape[1])
        box = crop_window(network.crop, *size)
        image, K = np.ascontiguousarray(box.cut(frame.image)), crop_K(frame.K, box.left, box.top)
        ignored = None if frame.ignored is None else np.ascontiguousarray(box.cut(frame.ignored))
        skipped = partial(_crop_frames, network.crop, frame.skipped)
        cropped = replace(frame, image=image, K=K, skipped=skipped, ignored=ignored)
        K = resize_K(cropped.K, (box.height, box.width), network.height, network.width)
        return cls(cropped, resize_to_planar(cropped.image, network.height, network.width), K, size, box)

    def to_picture(self) -> NDArray[np.uint8]:
        """Return the image as RGB (h, w, 3) in bytes."""
        return np.ascontiguousarray((255 * self.image).round().astype(np.uint8).transpose(1, 2, 0))

    def predicted(
        self, depth_scale: DepthScale, inverse_depth: NDArray[np.float32], T_world_camera: NDArray[np.float64] | None
    ) -> PredictedFrame:
        """Return the frame with its prediction (h, w). Raise StadiaError for invalid values."""
        is_affine = depth_scale.is_affine
        if not np.isfinite(inverse_depth).all() or (not is_affine and inverse_depth.min() <= 0):
            fix = "the network diverged or is damaged: use another checkpoint"
            expected = "finite and positive values"
            found = f"inverse depth from {inverse_depth.min()} to {inverse_depth.max()}"
            raise StadiaError(f"prediction of '{self.frame.name}'", found=found, expected=expected, fix=fix)
        return PredictedFrame(self.frame, depth_scale, inverse_depth, self.K, T_world_camera, self.image_size, self.box)


def _crop_frames(crop: str, read: Callable[[], Iterable[Frame]]) -> Iterator[Frame]:
    """Yield frames cropped for a network. Raise GeometryError if an image is smaller than the crop."""
    for frame in read():
        box = crop_window(crop, *frame.image.shape[:2])
        yield replace(frame, image=box.cut(frame.image), K=crop_K(frame.K, box.left, box.top))


def frame_name(recording: Recording, index: int) -> str:
    """Return the name of a frame on disk: the stem of its file, or its number in the video."""
    file = recording.file(index)
    return file.stem if file is not None else f"{recording.number(index):06d}"


def has_frame_numbers(recording: Recording) -> bool:
    """Return whether `frame_name` is the frame's number in a video."""
    return len(recording) > 0 and recording.file(0) is None


def read_frames(recording: Recording, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Yield the left images of a recording.

    recording: the recording.
    indices: rising indices of the images; None reads all.
    """
    before = None
    for index, after in pairwise(chain(range(len(recording)) if indices is None else indices, [len(recording)])):
        skipped = partial(read_frames, recording, range(index + 1, after))
        frames_since = 1 if before is None else index - before
        name, time_s = frame_name(recording, index), recording.timestamp_s(index)
        image, K = recording.image(index), recording.K(index)
        yield Frame(name, image, K, time_s, frames_since, skipped=skipped, ignored=recording.ignored())
        before = index


class TrainingLens:
    """The focal length (fx / width) that a network was trained with; the nearest of its cameras is used for an image.

    With a longer lens everything seems nearer by the ratio of the focal lengths, so inverse depth is divided by it.
    """

    def __init__(self, focal: float | Sequence[float], consequence: str) -> None:
        self.focal, self.consequence = np.atleast_1d(np.asarray(focal, np.float64)), consequence
        self._warned = False

    def ratio(self, K: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
        """Return the ratio (...) of the focal lengths of K (..., 3, 3) to the training's, 1 if unknown; warn once."""
        if not self.focal.any():
            return np.ones(K.shape[:-2])
        with np.errstate(divide="ignore"):  # 0 before training
            ratios = np.divide((K[..., 0, 0] / width)[..., None], self.focal, dtype=np.float64)
            nearest = np.abs(np.log(ratios)).argmin(-1)
        ratio = np.take_along_axis(ratios, nearest[..., None], -1)[..., 0]
        ratio = np.where(np.abs(ratio - 1) < FOCAL_TOLERANCE, 1.0, ratio)
        if not self._warned and (ratio != 1).any():
            self._warned = True
            consequence = self.consequence + _off_center_hint(K, height, width)
            log.warning("focal length is %.2f times the training camera's: %s", ratio.max(), consequence)
        return ratio


def _off_center_hint(K: NDArray[np.floating], height: int, width: int) -> str:
    """Return a hint if the principal point is far from the middle: K belongs to another image size."""
    x, y = (K.reshape(-1, 3, 3)[0, :2, 2] + 0.5) / (width, height)
    if max(abs(x - 0.5), abs(y - 0.5)) < CENTER_TOLERANCE:
        return ""
    center = f"its principal point is at {x:.2f} of the width, {y:.2f} of the height"
    return f"; or K is for another image size: {center}"


@dataclass(frozen=True)
class PaddedImage:
    """Hold an image with margins around it.

    image: (H, W, 3) uint8 RGB with the margins.
    K: (3, 3) intrinsics for the image with the margins.
    window: rows and columns of the original image in it.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float64]
    window: CropWindow


def compute_padded_size(
    size: tuple[int, int], K: NDArray[np.float64], height: int, width: int, pixel_ratio: float
) -> tuple[int, int]:
    """Return an image's height and width with margins that give its pixels the training's aspect ratio.

    After the image with margins is resized to height x width, fx / fy is about `pixel_ratio`. An image that fits
    already keeps its size.

    size: (height, width) of the image.
    K: (3, 3) intrinsics of the image.
    height: height of the network's input in pixels.
    width: width of the network's input in pixels.
    pixel_ratio: fx / fy of the training images at the network's size.
    """
    wanted = width * K[0, 0] / (height * K[1, 1] * pixel_ratio)  # W / H
    h, w = size
    if abs(np.log(w / h / wanted)) < MAX_UNPADDED_RATIO:
        return size
    return (round(w / wanted), w) if w / h > wanted else (h, round(h * wanted))


def needs_padding(frame: Frame, height: int, width: int, pixel_ratio: float) -> bool:
    """Return whether `pad_to_aspect` would add margins to an image.

    frame: the image with its K.
    height: height of the network's input in pixels.
    width: width of the network's input in pixels.
    pixel_ratio: fx / fy of the training images at the network's size.
    """
    size = frame.image.shape[0], frame.image.shape[1]
    return compute_padded_size(size, frame.K, height, width, pixel_ratio) != size


def pad_to_aspect(frame: Frame, height: int, width: int, pixel_ratio: float) -> PaddedImage:
    """Add margins of the image's mean color so that its pixels have the training's aspect ratio at the network's size.

    The principal point of K moves with the image.

    frame: the image with its K.
    height: height of the network's input in pixels.
    width: width of the network's input in pixels.
    pixel_ratio: fx / fy of the training images at the network's size.
    """
    size = frame.image.shape[0], frame.image.shape[1]
    rows, columns = compute_padded_size(size, frame.K, height, width, pixel_ratio)
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    if (rows, columns) == size:
        return PaddedImage(frame.image, frame.K, CropWindow(0, 0, *size))
    mean = frame.image.reshape(-1, 3).mean(0).round().tolist()
    margins = top, rows - size[0] - top, left, columns - size[1] - left
    image = cv2.copyMakeBorder(frame.image, *margins, cv2.BORDER_CONSTANT, value=mean)
    K = frame.K.copy()
    K[:2, 2] += left, top
    return PaddedImage(np.asarray(image, np.uint8), K, CropWindow(top, left, *size))


T = TypeVar("T")

MAX_WAITING, MAX_WAITING_BYTES = 4, 128 << 20  # finished items that wait, and their bytes
LARGE_BYTES = 16 << 20  # a larger item (4K has 25 MB) is alone in memory


def bound_count(count: int, item_bytes: int) -> int:
    """Return how many items may wait in memory: at most `count`, fewer for larger items, and 0 for large ones.

    count: largest number of waiting items.
    item_bytes: size of an item in bytes. Above LARGE_BYTES no item may wait. Up to it, one may wait, and more while
        all have at most MAX_WAITING_BYTES together.
    """
    return 0 if item_bytes > LARGE_BYTES else max(min(count, MAX_WAITING_BYTES // max(item_bytes, 1)), 1)


def run_ahead(
    items: Iterable[T], count: int = MAX_WAITING, *, weigh: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield the items in order, while a thread computes up to `count` of the next ones.

    weigh: returns the number of bytes of an item. At most MAX_WAITING_BYTES may wait.

    If computing an item raises an exception, the exception is raised here in place of the item.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="stadia-ahead")
    try:
        waiting: deque[Future[Any]] = deque([pool.submit(next, iterator, end)])
        while (item := waiting.popleft().result()) is not end:
            most = bound_count(count, weigh(item))
            while len(waiting) < most:
                waiting.append(pool.submit(next, iterator, end))
            yield item
            item = None
            if not waiting:
                waiting.append(pool.submit(next, iterator, end))
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(iterator, "close"):
            iterator.close()


@contextmanager
def run_behind(
    functions: Sequence[Callable[[T], object]], count: int = MAX_WAITING, *, weigh: Callable[[T], int] = lambda item: 1
) -> Iterator[Callable[[T], None]]:
    """Yield a function that passes an item to all `functions`.

    Each runs in its own thread, at most `count` items behind.

    weigh: returns the number of bytes of an item. At most MAX_WAITING_BYTES may wait.

    A function that raises an exception gets no further items. The exception is raised by a later call, or when the
    block ends.
    """
    pools = [ThreadPoolExecutor(1, thread_name_prefix="stadia-behind") for _ in functions]
    waiting: deque[list[Future[object]]] = deque()
    failed: set[int] = set()

    def call(number: int, item: T) -> None:
        if number in failed:
            return
        try:
            functions[number](item)
        except BaseException:
            failed.add(number)
            raise

    def finish(most: int) -> None:
        while len(waiting) > most:
            for future in waiting.popleft():
                future.result()

    def add(item: T) -> None:
        most = bound_count(count, weigh(item))
        finish(max(most - 1, 0))
        if most:
            waiting.append([pool.submit(call, number, item) for number, pool in enumerate(pools)])
            return
        for function in functions:  # large items one after the other, to save gigabytes
            function(item)

    try:
        yield add
        finish(0)
    finally:
        for pool in pools:
            pool.shutdown()
