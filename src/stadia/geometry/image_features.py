"""Find SIFT features of an image (Lowe, IJCV 60(2), 2004), and corners whose motion is tracked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_FEATURES = 2000
WORDS = 32  # words of the visual vocabulary
WORD_SIZE = 32  # principal components of a descriptor
WORD_SAMPLES = 20_000  # descriptors from which the vocabulary is learned
MIN_TRACKED_CORNERS = 10
"""Image motion is measured only if at least this many corners are tracked between two video frames."""

DESCRIPTOR_LENGTH = 512
"""Length of a RootSIFT descriptor before its numbers are rounded."""

MAX_DESCRIPTOR_DISTANCE = 0.7
"""Largest distance of the descriptors of a match as a share of their length; COLMAP's default."""

MIN_CONTRAST = 0.02  # OpenCV's SIFT threshold; its default, twice this, finds too few features on roads


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """The N SIFT features of one image.

    xy: (N, 2) float32 positions x, y in pixels.
    descriptors: (N, 128) uint8 RootSIFT descriptors.
    colors: (N, 3) uint8 RGB of the image at the positions.
    """

    xy: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    colors: NDArray[np.uint8]

    def select(self, rows: NDArray[np.bool_]) -> "FrameFeatures":
        """Return only the features whose entry in the boolean mask `rows` (N,) is true."""
        return FrameFeatures(self.xy[rows], self.descriptors[rows], self.colors[rows])

    def outside(self, mask: NDArray[np.bool_]) -> "FrameFeatures":
        """Return only the features outside an image mask, for example one of moving objects.

        mask: (H, W) bool; a feature is dropped if the mask is true at its pixel.
        """
        column, row = self.xy.round().astype(int).T
        return self.select(~mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)])


def find_features(image: NDArray[np.uint8], gray: NDArray[np.uint8], max_features: int = MAX_FEATURES) -> FrameFeatures:
    """Return the RootSIFT features (Arandjelovic, CVPR 2012) of an image.

    image: (H, W, 3) uint8 RGB.
    gray: (H, W) uint8 of the same image.
    max_features: largest number of features.
    """
    sift = cv2.SIFT_create(max_features, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True)  # type: ignore[attr-defined]
    points, descriptors = sift.detectAndCompute(gray, None)
    if not points:
        return FrameFeatures(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), np.empty((0, 3), np.uint8))
    xy = np.array([point.pt for point in points], np.float32)
    share = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    column, row = xy.round().astype(int).T
    colors = image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)]
    return FrameFeatures(xy, np.rint(DESCRIPTOR_LENGTH * share).clip(0, 255).astype(np.uint8), colors)


def match_sift_features(first: FrameFeatures, second: FrameFeatures, ratio: float = 0.8) -> NDArray[np.int64]:
    """Match the features of two images; return index pairs (M, 2): feature of the first image, feature of the second.

    The two features of a match are the nearest neighbors of each other among the descriptors.

    first, second: the features of the two images.
    ratio: a match is kept only if its descriptor distance is below this share of the distances to the second-nearest
        features of both images (Lowe's ratio test).
    """
    if min(len(first.xy), len(second.xy)) < 2:
        return np.empty((0, 2), np.int64)
    a, b = (features.descriptors.astype(np.float32) for features in (first, second))
    one, other = np.ones((len(a), 1), np.float32), np.ones((len(b), 1), np.float32)
    lengths_a, lengths_b = ((each * each).sum(1, keepdims=True) for each in (a, b))
    # One product gives |a|^2 + |b|^2 - 2 a b; float32 has these whole numbers exactly, so the order of sums is free.
    squared = multiply_on_one_thread(np.hstack((a, lengths_a, one)), np.hstack((-2 * b, other, lengths_b)))
    nearest = squared.argmin(1)
    best = squared[np.arange(len(a)), nearest]
    is_near = best <= (MAX_DESCRIPTOR_DISTANCE * DESCRIPTOR_LENGTH) ** 2
    rows = np.flatnonzero(is_near & (best == squared.min(0)[nearest]))
    rows = rows[np.sort(np.unique(nearest[rows], return_index=True)[1])]
    columns = nearest[rows]
    squared[rows, columns] = np.inf
    second_best = np.minimum(squared.min(1)[rows], squared.min(0)[columns])
    kept = best[rows] < ratio**2 * second_best
    return np.column_stack((rows[kept], columns[kept]))


_BLOCK = 50, 40
"""Rows and columns of the products of blocks: OpenBLAS computes them on one thread for up to 131 columns of factors."""


def multiply_on_one_thread(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a b^T, (N, M), of descriptors a (N, K) and b (M, K), without threads of the library behind NumPy.

    OpenBLAS divides large products among threads, which wait for each other in a loop: 12 ms of processor for 1,000
    times 1,000 descriptors on two cores, and 3 ms in this way.
    """
    (rows, columns), size = _BLOCK, a.shape[1]
    a_padded = np.zeros((-(-len(a) // rows), 1, rows, size), np.float32)
    b_padded = np.zeros((-(-len(b) // columns), columns, size), np.float32)
    a_padded.reshape(-1, size)[: len(a)] = a
    b_padded.reshape(-1, size)[: len(b)] = b
    product = np.empty((len(a_padded), rows, len(b_padded), columns), np.float32)
    np.matmul(a_padded, np.ascontiguousarray(b_padded.swapaxes(1, 2)), out=product.transpose(0, 2, 1, 3))
    return product.reshape(len(a_padded) * rows, len(b_padded) * columns)[: len(a), : len(b)]


def describe_places(frames: Sequence[FrameFeatures]) -> NDArray[np.float32]:
    """Return one VLAD vector of unit length per image, (N, WORDS * WORD_SIZE), to find images of the same place.

    The product of two vectors rises with the similarity of the images (Jegou, CVPR 2010). Descriptors are reduced to
    their WORD_SIZE principal components (Jegou and Chum, ECCV 2012). The vocabulary of WORDS visual words is built from
    the features of these images, so vectors of different calls cannot be compared.

    frames: the features of each of N images; the sequence is read twice, and may read each image from a file. With
        fewer than WORDS features in all, every vector is zero.
    """
    random, share = np.random.default_rng(0), -(-WORD_SAMPLES // max(len(frames), 1))
    drawn = [frame.descriptors[random.permutation(len(frame.descriptors))[:share]] for frame in frames]
    sample = np.concatenate([np.empty((0, 128)), *drawn]).astype(np.float32)
    if len(sample) < WORDS:
        return np.zeros((len(frames), WORDS * WORD_SIZE), np.float32)
    mean = sample.mean(0)
    components = np.linalg.eigh(np.cov((sample - mean).T))[1][:, -WORD_SIZE:].T.astype(np.float32)
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0.0)
    _, _, words = cv2.kmeans(
        multiply_on_one_thread(sample - mean, components), WORDS, None, criteria, 1, cv2.KMEANS_PP_CENTERS
    )
    places = np.zeros((len(frames), WORDS, WORD_SIZE), np.float32)
    for row, frame in enumerate(frames):
        reduced = multiply_on_one_thread(frame.descriptors - mean, components)
        word = ((words * words).sum(1) - 2 * multiply_on_one_thread(reduced, words)).argmin(1)
        belongs = (word == np.arange(WORDS)[:, None]).astype(np.float32)
        places[row] = belongs @ reduced - belongs.sum(1, keepdims=True) * words
    flat = (np.sign(places) * np.sqrt(np.abs(places))).reshape(len(frames), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))


def find_corners(gray: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the corners (N, 1, 2) of a gray image, at most 200, whose motion can be tracked; N may be 0.

    gray: (H, W) uint8 image. Coordinates are x, y in pixels, as OpenCV's tracker expects them.
    """
    found = cv2.goodFeaturesToTrack(gray, maxCorners=200, qualityLevel=0.01, minDistance=7)
    return np.empty((0, 1, 2), np.float32) if found is None else found


def measure_motion(before: NDArray[np.uint8], points: NDArray[np.float32], after: NDArray[np.uint8]) -> float:
    """Return how far corners move from one video frame to another: the median displacement divided by the image width.

    It is infinite if fewer than MIN_TRACKED_CORNERS corners are tracked there and back with an error below 0.5 pixels.

    before: (H, W) uint8 gray video frame.
    points: (N, 1, 2) float32 corners of `before`, as `find_corners` returns them.
    after: (H, W) uint8 gray video frame that the corners are tracked to.
    """
    if len(points) < MIN_TRACKED_CORNERS:
        return float("inf")
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(15, 15), maxLevel=3)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, tracked, None, winSize=(15, 15), maxLevel=3)
    good = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm(back - points, axis=2)[:, 0] < 0.5)
    if good.sum() < MIN_TRACKED_CORNERS:
        return float("inf")
    return float(np.median(np.linalg.norm(tracked - points, axis=2)[good])) / before.shape[1]


MIN_SIFT_WIDTH = 640  # narrower images are enlarged before detection, since SIFT finds little in them

MAX_SIFT_WIDTH = 1280  # wider images are reduced before detection, which is slow

MAX_SIFT_FEATURES = 1500

MAX_DESCRIPTOR_RATIO = 0.8  # distance of the nearest descriptor over the second nearest (Lowe, IJCV 2004, 7.1)

MIN_FLOW_CORNERS = 10  # corners that optical flow needs


@dataclass(frozen=True, slots=True)
class SiftFeatures:
    """SIFT features of an image.

    pixels: (N, 2) float64, x and y.
    descriptors: (N, 128) float32.
    """

    pixels: NDArray[np.float64]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureMatches:
    """Matches between the features of two images.

    first_index: (M,) rows of the first image's features.
    first_px, second_px: (M, 2) float64.
    """

    first_index: NDArray[np.intp]
    first_px: NDArray[np.float64]
    second_px: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first_index)

    def select(self, chosen: NDArray[np.bool_]) -> "FeatureMatches":
        """Return the chosen matches.

        chosen: (N,) bool.
        """
        return FeatureMatches(self.first_index[chosen], self.first_px[chosen], self.second_px[chosen])

    @property
    def displacement_px(self) -> float:
        """Median displacement from first to second; 0 without matches."""
        return float(np.median(np.linalg.norm(self.second_px - self.first_px, axis=1))) if len(self) else 0.0


def gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB to (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


@cache
def _sift() -> cv2.SIFT:
    # Without the precise upscale, OpenCV's keypoints are a quarter of a pixel too far right and down.
    return cv2.SIFT.create(nfeatures=MAX_SIFT_FEATURES, enable_precise_upscale=True)


def detect_features(image: NDArray[np.uint8], ignored: NDArray[np.bool_] | None = None) -> SiftFeatures:
    """Return SIFT features of an image, (H, W, 3) uint8 RGB, outside the ignored region (H, W)."""
    height, width = image.shape[:2]
    scale = float(np.clip(width, MIN_SIFT_WIDTH, MAX_SIFT_WIDTH) / width)
    gray_image = gray(image)
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        gray_image = cv2.resize(gray_image, None, fx=scale, fy=scale, interpolation=method)
    keypoints, descriptors = _sift().detectAndCompute(gray_image, None)
    if descriptors is None:
        return SiftFeatures(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    scales = np.array([gray_image.shape[1] / width, gray_image.shape[0] / height])
    pixels = (np.array([point.pt for point in keypoints], dtype=np.float64) + 0.5) / scales - 0.5
    if ignored is None:
        return SiftFeatures(pixels, descriptors)
    column, row = pixels.round().astype(int).clip(0, (width - 1, height - 1)).T
    used = ~ignored[row, column]
    return SiftFeatures(pixels[used], descriptors[used])


def match_features(first: SiftFeatures, second: SiftFeatures) -> FeatureMatches:
    """Return mutual nearest neighbors that pass the ratio test."""
    if min(len(first.pixels), len(second.pixels)) < 2:
        return FeatureMatches(np.zeros(0, np.intp), np.zeros((0, 2)), np.zeros((0, 2)))
    a, b = first.descriptors, second.descriptors  # whole numbers up to 255: float32 has their products exactly
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    rows = np.arange(len(a))
    partners = squared.argmin(axis=1)
    nearest = squared[rows, partners]
    squared[rows, partners] = np.inf
    by_distance = np.flatnonzero(nearest < MAX_DESCRIPTOR_RATIO**2 * squared.min(axis=1))
    by_distance = by_distance[np.argsort(nearest[by_distance], kind="stable")]
    # If two features have one partner, the nearer one is kept.
    _, nearest_of_each = np.unique(partners[by_distance], return_index=True)
    kept = np.sort(by_distance[nearest_of_each])
    return FeatureMatches(kept, first.pixels[kept], second.pixels[partners[kept]])


def median_flow_px(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Return the median displacement of corners in pixels (Lucas and Kanade); None without corners."""
    corners = cv2.goodFeaturesToTrack(before, maxCorners=200, qualityLevel=0.01, minDistance=5)
    if corners is None or len(corners) < MIN_FLOW_CORNERS:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15), maxLevel=3)
    displacements = np.linalg.norm((moved - corners)[:, 0], axis=1)[found.ravel() > 0]
    return float(np.median(displacements)) if len(displacements) >= MIN_FLOW_CORNERS else None
