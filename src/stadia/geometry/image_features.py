"""Find SIFT features of an image (Lowe, IJCV 60(2), 2004), and corners whose motion is tracked."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_FEATURES = 2000
WORDS = 32  # words of the visual vocabulary
WORD_SAMPLES = 20_000  # descriptors from which the vocabulary is learned
MIN_TRACKED_CORNERS = 10
"""Image motion is measured only if at least this many corners are tracked between two video frames."""

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
    return FrameFeatures(xy, np.rint(512 * share).clip(0, 255).astype(np.uint8), colors)


def match_sift_features(first: FrameFeatures, second: FrameFeatures, ratio: float = 0.8) -> NDArray[np.int64]:
    """Match the features of two images; return index pairs (M, 2): feature of the first image, feature of the second.

    The two features of a match are the nearest neighbors of each other among the descriptors.

    first, second: the features of the two images.
    ratio: a match is kept only if its descriptor distance is below this share of the distance to the second-nearest
        feature (Lowe's ratio test).
    """
    if min(len(first.xy), len(second.xy)) < 2:
        return np.empty((0, 2), np.int64)
    a, b = (features.descriptors.astype(np.float32) for features in (first, second))
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    nearest, rows = squared.argmin(1), np.arange(len(a))
    best, second_best = np.partition(squared, 1, axis=1)[:, :2].T
    is_clear = best < ratio**2 * second_best
    is_mutual = squared.argmin(0)[nearest] == rows
    kept = is_clear & is_mutual
    return np.column_stack((rows[kept], nearest[kept]))


def describe_places(frames: Sequence[FrameFeatures]) -> NDArray[np.float64]:
    """Return one VLAD vector of unit length per image, (N, 32 * 128), to find images of the same place.

    The product of two vectors rises with the similarity of the images (Jegou, CVPR 2010). The vocabulary of 32 visual
    words is built from the features of these images, so vectors of different calls cannot be compared.

    frames: the features of each of N images. With fewer than 32 features in all, every vector is zero.
    """
    every = np.concatenate([frame.descriptors for frame in frames]).astype(np.float32)
    if len(every) < WORDS:
        return np.zeros((len(frames), WORDS * 128))
    sample = every[np.random.default_rng(0).permutation(len(every))[:WORD_SAMPLES]]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0.0)
    _, _, words = cv2.kmeans(sample, WORDS, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    places = np.zeros((len(frames), WORDS, 128))
    for row, frame in enumerate(frames):
        descriptors = frame.descriptors.astype(np.float32)
        word = ((words * words).sum(1) - 2 * descriptors @ words.T).argmin(1)
        np.add.at(places[row], word, descriptors - words[word])
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
