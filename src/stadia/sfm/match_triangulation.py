"""Give images the poses of a reconstruction, and triangulate independent matches from these poses.

Matches of every image are moved into one virtual pinhole camera, so that what judges a map of one camera judges results
of several cameras too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stadia.core.errors import DataError
from stadia.geometry.lens import MAX_OFF_AXIS_DEG, distort, undistort
from stadia.geometry.poses import find_centers, hat, invert_pose
from stadia.io.records.poses import convert_times
from stadia.io.records.reconstruction import Reconstruction, interpolate_poses
from stadia.sfm.image_matches import MAX_SIDE_PX, ImageMatches
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array, LensCamera, SparseMap

MAX_MISS_PX = 4.0
"""Largest distance of a match from its triangulated point, pixels of the virtual camera; farther ones are left out."""

ROUNDS = 5
"""Number of times that the worst match of each point is left out before the point is given up."""

MAX_GAP = 2.0
"""An image takes a pose by its time only if the two poses around it are at most this many usual gaps apart."""

MIN_NAMED_SHARE = 0.005
"""A larger share of matches that are left out because of their lens is named."""

_SUB_PIXELS = 64
_BATCH = 100_000
_BEHIND_PX = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class PosedImages:
    """The images that have a pose, with their camera.

    images: (F,) indices of the images, rising.
    T_camera_world: (F, 4, 4) their poses, world to camera.
    K: (F, 3, 3) intrinsics for the size of the image as it is, pixels.
    distortion: (F, 4) OpenCV's coefficients k1, k2, p1, p2.
    sizes: (F, 2) width and height of the images, pixels.
    rows: (F,) the row of the reconstruction of each image; the nearest one in time if the pose is interpolated.
    how: how poses were assigned: "name", "stem", "number", "order" or "time".
    notes: sentences for the user.
    times_s: (F,) times on the clock of the reconstruction, seconds, if poses were assigned by time.
    px_of_file: (F, 2) pixels of K as the file has it, for a pixel of the image; None if they are equal.
    lenses: (F,) the Lens of each image that has another model, and None of the others; None if all have coefficients.
    squares: "padded" or "cropped" if K and depth maps belong to squares to which the images were fitted so, without
        being stretched; "" if they do not.
    """

    images: NDArray[np.intp]
    T_camera_world: Array
    K: Array
    distortion: Array
    sizes: NDArray[np.int64]
    rows: NDArray[np.intp]
    how: str
    notes: tuple[str, ...] = ()
    times_s: Array | None = None
    px_of_file: Array | None = None
    lenses: NDArray[np.object_] | None = None
    squares: Literal["", "padded", "cropped"] = ""

    def project(self, row: int, points: Array) -> Array:
        """Return the pixels (N, 2) of points (N, 2) with z = 1 in the axes of one image's camera.

        row: the row of the image.
        points: x / z and y / z.
        """
        K, lens = self.K[row], None if self.lenses is None else self.lenses[row]
        bent = distort(points, self.distortion[row]) if lens is None else lens.distort(points)
        return bent * K[(0, 1), (0, 1)] + K[:2, 2]

    def normalize(self, rows: NDArray[np.intp], xy: Array, K: Array | None = None) -> Array:
        """Return points (N, 2) at a focal length of 1, without distortion.

        They are NaN where the lens has no ray, or one farther than MAX_OFF_AXIS_DEG from the axis of another model.

        rows: (N,) the row of each point's image.
        xy: (N, 2) pixels.
        K: (F, 3, 3) intrinsics to take in place of the images' own.
        """
        used = (self.K if K is None else K)[rows]
        bent = (xy - used[:, :2, 2]) / used[:, (0, 1), (0, 1)]
        if self.lenses is None:
            return undistort(bent, self.distortion[rows])
        points, of_image = np.empty_like(bent), self.lenses[rows]
        for lens in set(self.lenses.tolist()):
            is_own = of_image == lens
            points[is_own] = (
                undistort(bent[is_own], self.distortion[rows[is_own]]) if lens is None else lens.undistort(bent[is_own])
            )
        return points


def find_image_times(matches: ImageMatches) -> Array | None:
    """Return the times (M,) of all images in seconds, from the video or from names that are times; None if unknown."""
    if matches.times_s is not None:
        return matches.times_s
    try:
        stems = [Path(name).stem for name in matches.names]
        heads = {stem.rpartition("_")[0] for stem in stems}
        if len(heads) == 1:  # ARKitScenes names a frame VIDEO_TIME; a number of Python may have _ in it
            stems = [stem.rpartition("_")[2] for stem in stems]
        if any("_" in stem for stem in stems):
            return None
        times_s, unit = convert_times(stems)  # nanoseconds, as EuRoC names them
    except ValueError:
        return None
    is_clock = unit != "seconds" and min(map(len, stems)) >= DIGITS_OF_MILLISECONDS
    return times_s if is_clock or all("." in stem for stem in stems) else None


DIGITS_OF_MILLISECONDS = 13  # since 1970; shorter names are numbers of frames


def pose_images(reconstruction: Reconstruction, matches: ImageMatches, offset_s: float = 0.0) -> PosedImages:
    """Find the pose and the camera of each image: by name, by time, or by order.

    reconstruction: cameras and poses.
    matches: the images.
    offset_s: seconds that are added to the times of the images before poses are searched.

    Raises DataError if fewer than 3 images get a pose, or the reconstruction has no camera.
    """
    times_s = find_image_times(matches)
    named = any(reconstruction.names)
    notes: tuple[str, ...] = ()
    wanted: Array | None = None
    if not named and reconstruction.times_s is not None and times_s is not None:
        wanted = times_s + offset_s
        if _share_inside(wanted, reconstruction.times_s) == 0:
            shift = reconstruction.times_s[0] - times_s[0]
            wanted = wanted + shift
            notes = (
                f"times of poses and images have different starts; {shift:+.3f} s was added to the times of images",
            )
        images, rows, T = _pose_by_time(reconstruction, wanted)
        how = "time"
    else:
        found = reconstruction.match_images(matches.names, matches.sizes)
        order = np.argsort(found.images)
        images, rows, how, notes = found.images[order], found.rows[order], found.how, found.notes
        T = reconstruction.T_camera_world[rows]
    usable = np.isfinite(T).all((1, 2))
    images, rows, T = images[usable], rows[usable], T[usable]
    if len(images) < 3:
        expected, fix = "poses for at least 3 images", "check that the images belong to the reconstruction"
        raise DataError(reconstruction.path, found=f"poses for {len(images)} images", expected=expected, fix=fix)
    K = reconstruction.K[rows]
    if not np.isfinite(K).all():
        raise make_camera_error(reconstruction)
    sizes = np.where(reconstruction.sizes[rows] > 0, reconstruction.sizes[rows], matches.sizes[images])
    scale = matches.sizes[images] / sizes
    width, height = sizes[0]
    distortion, known_s = reconstruction.distortion[rows], None if wanted is None else wanted[images]
    lenses = None if reconstruction.lenses is None else reconstruction.lenses[rows]
    posed = PosedImages(images, T, K, distortion, matches.sizes[images], rows, how, notes, known_s, None, lenses)
    if _are_fitted_squares(K, sizes, scale):
        posed = _unfit_squares(posed, sizes, matches)
        note = (
            f"K belongs to images that were {posed.squares} to {width}x{height}, as VGGT does; it was scaled and moved"
        )
        return replace(posed, notes=(*notes, note))
    if (np.abs(scale - 1) > 1e-3).any():
        notes += (f"K belongs to images of {width}x{height}; it was scaled to the images of this folder",)
    return replace(posed, K=scale_intrinsics(K, scale), notes=notes, px_of_file=1 / scale)


MIN_SQUARES_GAIN = 1.2
"""Least factor by which more matches fit the unusual squares, padded or cropped; wrong poses fit some by chance."""

FITTED_MATCHES = 20_000
"""Most matches by which both are compared."""

MAX_ASPECT_ERROR = 0.02
"""Largest difference from 1 of fy over fx of square pixels, and of the aspects of two images of one shape."""


def _are_fitted_squares(K: Array, sizes: NDArray[np.int64], scale: Array) -> bool:
    """Return whether K (N, 3, 3) has square pixels in square images (N, 2), but the images are not square.

    scale: (N, 2) pixels of an image for a pixel of K. An image that was stretched to a square has no square pixels.
    """
    is_stretched = np.abs(scale[:, 1] / scale[:, 0] - 1) > MAX_ASPECT_ERROR
    has_square_pixels = np.abs(K[:, 1, 1] / K[:, 0, 0] - 1) < MAX_ASPECT_ERROR
    return bool((is_stretched & has_square_pixels & (sizes[:, 0] == sizes[:, 1])).all())


def _unfit_squares(posed: PosedImages, squares: NDArray[np.int64], matches: ImageMatches) -> PosedImages:
    """Return the images with K for them as they are: padded or cropped to squares, whichever fits the matches better.

    Without a clear difference, portrait images were cropped and others padded, as VGGT does without an option.

    posed: the images with K for squares.
    squares: (F, 2) sizes of the squares, pixels.
    matches: matches between the images.
    """

    def unfit(squares_are: Literal["padded", "cropped"]) -> PosedImages:
        scale = posed.sizes / squares
        factor = (scale.max(1) if squares_are == "padded" else scale.min(1))[:, None].repeat(2, 1)
        K = scale_intrinsics(posed.K, factor)
        K[:, :2, 2] += (posed.sizes - factor * squares) / 2  # bars were added or cut off
        return replace(posed, K=K, px_of_file=1 / factor, squares=squares_are)

    padded, cropped = unfit("padded"), unfit("cropped")
    is_portrait = posed.sizes[0, 1] > posed.sizes[0, 0]
    usual, other = (cropped, padded) if is_portrait else (padded, cropped)
    is_other = _measure_fit(other, matches) > MIN_SQUARES_GAIN * _measure_fit(usual, matches)
    return other if is_other else usual


def _measure_fit(posed: PosedImages, matches: ImageMatches) -> float:
    """Return the share of at most FITTED_MATCHES matches that are near their epipolar lines; 0 without matches."""
    view = view_matches(posed, matches)
    at = np.linspace(0, len(view.features.ends) - 1, min(len(view.features.ends), FITTED_MATCHES)).astype(int)
    lines, _ = measure_matches(view, np.empty((0, 3)), np.full(len(view.xy), -1), at)
    return float((lines < MAX_MISS_PX).mean()) if len(at) else 0.0


def make_camera_error(reconstruction: Reconstruction) -> DataError:
    """Return the error of a reconstruction whose file has no intrinsics."""
    fix = "pass the camera: --camera FILE, or --camera fx=700,fy=700,cx=640,cy=360"
    return DataError(reconstruction.path, found="no intrinsics", expected="a camera", fix=fix)


def _share_inside(times_s: Array, known_s: Array) -> float:
    return float(((times_s >= known_s.min()) & (times_s <= known_s.max())).mean())


def _pose_by_time(reconstruction: Reconstruction, wanted_s: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Return the images whose time is between two poses, the nearest row of each, and the interpolated poses."""
    times_s = np.asarray(reconstruction.times_s, np.float64)
    order = np.argsort(times_s, kind="stable")
    known_s = times_s[order]
    rising = np.flatnonzero(np.diff(known_s, prepend=-np.inf) > 0)
    order, known_s = order[rising], known_s[rising]
    gap = float(np.median(np.diff(known_s))) if len(known_s) > 1 else 1.0
    after = np.clip(np.searchsorted(known_s, wanted_s), 1, len(known_s) - 1)
    is_near = np.minimum(np.abs(known_s[after] - wanted_s), np.abs(known_s[after - 1] - wanted_s)) <= 0.5 * gap
    is_inside = (wanted_s >= known_s[0]) & (wanted_s <= known_s[-1])
    images = np.flatnonzero(is_near | (is_inside & (known_s[after] - known_s[after - 1] <= MAX_GAP * gap)))
    if not len(images):
        return images, images, np.empty((0, 4, 4))
    T = interpolate_poses(reconstruction.rows(order), wanted_s[images]).T_camera_world
    is_before = wanted_s[images] - known_s[after[images] - 1] < known_s[after[images]] - wanted_s[images]
    return images, order[after[images] - is_before], T


def scale_intrinsics(K: Array, scale: Array) -> Array:
    """Return intrinsics (N, 3, 3) for images resized by the factors `scale` (N, 2) of width and height."""
    scaled = K.copy()
    for axis in (0, 1):
        scaled[:, axis, axis] *= scale[:, axis]
        scaled[:, axis, 2] = (scaled[:, axis, 2] + 0.5) * scale[:, axis] - 0.5
    return scaled


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFeatures:
    """The features of matches between posed images, each once, and the tracks that matches join.

    rows: (M,) row of each feature's image among the posed ones.
    xy: (M, 2) pixels of the images as they are.
    tracks: (M,) its track by matches that are not held out; -1 for a feature of held-out matches alone.
    ends: (K, 2) both features of each match.
    pairs: (K,) the pair of images of each match, from 0.
    is_held: (K,) whether the match is held out.
    images: (P, 2) rows of the images of each pair.
    """

    rows: NDArray[np.intp]
    xy: Array
    tracks: NDArray[np.intp]
    ends: NDArray[np.intp]
    pairs: NDArray[np.intp]
    is_held: NDArray[np.bool_]
    images: NDArray[np.intp]


@lru_cache(maxsize=2)
def list_features(matches: ImageMatches, images: tuple[int, ...]) -> MatchedFeatures:
    """Return the features of the matches between some images. A second call for the same matches is free.

    matches: matches between images.
    images: indices of the images, rising.
    """
    known = set(images)
    pairs = [pair for pair in matches.pairs if pair.first in known and pair.second in known and len(pair.is_held)]
    if not pairs:
        none = np.empty(0, np.intp)
        no_ends = np.empty((0, 2), np.intp)
        return MatchedFeatures(none, np.empty((0, 2)), none, no_ends, none, np.empty(0, bool), no_ends)
    counts = [len(pair.is_held) for pair in pairs]
    of_images = np.searchsorted(images, [(pair.first, pair.second) for pair in pairs])
    row = np.concatenate([np.repeat(of_images[:, end], counts) for end in (0, 1)])
    xy = np.concatenate([pair.xy_first for pair in pairs] + [pair.xy_second for pair in pairs])
    steps = np.rint(xy * _SUB_PIXELS).astype(np.int64)
    key = (steps[:, 0] << 32) + steps[:, 1]
    order = np.lexsort((key, row))
    is_new = np.concatenate(([True], (np.diff(key[order]) != 0) | (np.diff(row[order]) != 0)))
    ids = np.empty(len(order), np.intp)
    ids[order] = np.cumsum(is_new) - 1
    ends, once = ids.reshape(2, -1).T, order[is_new]
    is_held = np.concatenate([pair.is_held for pair in pairs])
    joined = ends[~is_held]
    graph = coo_matrix((np.ones(len(joined)), joined.T), (len(once), len(once)))
    parts = connected_components(graph, directed=False)[1]
    tracks = np.full(len(once), -1, np.intp)
    used = np.unique(joined)
    tracks[used] = np.unique(parts[used], return_inverse=True)[1].ravel()
    return MatchedFeatures(
        row[once], xy[once], tracks, ends, np.repeat(np.arange(len(pairs)), counts), is_held, of_images
    )


@dataclass(frozen=True, slots=True, eq=False)
class VirtualView:
    """Matches between posed images, as one virtual pinhole camera sees them.

    camera: the virtual camera.
    posed: the images.
    features: the features of the matches, in pixels of the images.
    xy: (M, 2) the same in pixels of the virtual camera; NaN where the lens of their image has no ray near its axis.
    """

    camera: LensCamera
    posed: PosedImages
    features: MatchedFeatures
    xy: Array

    @property
    def rays(self) -> Array:
        """The features (M, 2) at a focal length of 1."""
        return (self.xy - self.camera.center_px) / self.camera.focal_px

    def list_pairs(self) -> list[FramePair]:
        """Return the matches of each pair of images; `first` and `second` are indices of images."""
        features, found = self.features, list[FramePair]()
        starts = np.searchsorted(features.pairs, np.arange(len(features.images) + 1))
        for (first, second), start, stop in zip(
            self.posed.images[features.images], starts[:-1], starts[1:], strict=True
        ):
            xy_first, xy_second = self.xy[features.ends[start:stop].T]
            kept = np.isfinite(xy_first[:, 0] + xy_second[:, 0])
            if kept.any():
                held = features.is_held[start:stop][kept]
                found.append(FramePair(int(first), int(second), xy_first[kept], xy_second[kept], held))
        return found

    def list_tracks(self) -> tuple[NDArray[np.intp], Array, NDArray[np.intp], NDArray[np.intp]]:
        """Return for each of the features of tracks its row in `posed`, its pixel (N, 2), its track, and its number in
        `features`.
        """
        at = np.flatnonzero((self.features.tracks >= 0) & np.isfinite(self.xy[:, 0]))
        return self.features.rows[at], self.xy[at], self.features.tracks[at], at

    def find_rows(self, pair: FramePair) -> NDArray[np.intp]:
        """Return the rows (2,) of a pair's images in `posed`."""
        return np.searchsorted(self.posed.images, (pair.first, pair.second))


def view_matches(posed: PosedImages, matches: ImageMatches, max_side_px: float = MAX_SIDE_PX) -> VirtualView:
    """Move the matches between posed images into one virtual pinhole camera.

    Matches at pixels without a ray near the axis of their lens are left out; a note of the images names their share.

    posed: the images with their cameras.
    matches: matches between images.
    max_side_px: longest side of the virtual camera's image, pixels.
    """
    features = list_features(matches, tuple(posed.images.tolist()))
    sizes = posed.sizes
    width, height = np.median(sizes, axis=0)
    shrink = min(1.0, max_side_px / max(width, height))
    focal = np.sqrt(posed.K[:, 0, 0] * posed.K[:, 1, 1])
    focal_px = float(np.median(focal / sizes.max(1))) * max(width, height) * shrink
    h, w = max(round(height * shrink), 1), max(round(width * shrink), 1)
    camera = LensCamera(focal_px, ((w - 1) / 2, (h - 1) / 2), (0.0, 0.0, 0.0, 0.0), h, w)
    xy = focal_px * posed.normalize(features.rows, features.xy) + camera.center_px
    if len(xy):
        share = 1 - float(np.isfinite(xy[features.ends, 0]).all(1).mean())
        if share > MIN_NAMED_SHARE:
            reach = f"farther than {MAX_OFF_AXIS_DEG:.0f} degrees from the axis of the lens, or out of its reach"
            posed = replace(posed, notes=(*posed.notes, f"{share:.0%} of the matches are left out: {reach}"))
    return VirtualView(camera, posed, features, xy)


def triangulate_view(view: VirtualView, max_miss_px: float = MAX_MISS_PX) -> SparseMap:
    """Triangulate the matches of a view that are not held out; matches that miss their point are left out.

    The points minimize the algebraic error, weighted by depth, which is close to the reprojection error.

    view: matches in one virtual camera.
    max_miss_px: largest distance of a match from its point, pixels.
    """
    return triangulate_features(view, max_miss_px)[0]


def triangulate_features(view: VirtualView, max_miss_px: float = MAX_MISS_PX) -> tuple[SparseMap, NDArray[np.intp]]:
    """Triangulate as `triangulate_view`, and return with the map the point (M,) of each feature, -1 without one."""
    row, xy, track, at = view.list_tracks()
    points, kept = triangulate_tracks(view.posed.T_camera_world, view.camera, row, xy, track, max_miss_px)
    used, row_of_point = np.unique(track[kept], return_inverse=True)
    of_feature = np.full(len(view.xy), -1, np.intp)
    of_feature[at[kept]] = row_of_point.ravel()
    sparse = SparseMap(
        camera=view.camera,
        frames=view.posed.images.astype(np.int64),
        T_camera_world=view.posed.T_camera_world,
        points=points[used],
        colors=np.zeros((len(used), 3), np.uint8),
        observed=np.column_stack((row[kept], row_of_point.ravel())).astype(np.int64),
        xy=xy[kept],
    )
    return sparse, of_feature


def measure_matches(
    view: VirtualView, points: Array, of_feature: NDArray[np.intp], at: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Measure how far matches are from the epipolar lines and from the points of a view.

    view: matches in one virtual camera.
    points: (N, 3) points.
    of_feature: (M,) the point of each feature, -1 without one (`triangulate_features`).
    at: (K,) the matches.

    Returns Sampson distances (K,), and the larger distances (K,) of either end's point from the other end, in pixels;
    NaN without a point, and for matches that the lens leaves out.
    """
    features, T = view.features, view.posed.T_camera_world
    R, t = _find_motions(T, features.images)
    E, rays = hat(t / np.maximum(np.linalg.norm(t, axis=1), 1e-12)[:, None]) @ R, view.rays
    lines, distances = np.empty(len(at)), np.empty(len(at))
    for start in range(0, len(at), _BATCH):
        batch = at[start : start + _BATCH]
        ends, of_pair = features.ends[batch].T, features.pairs[batch]
        first, second = (np.column_stack((rays[end], np.ones(len(end)))) for end in ends)
        forth = np.einsum("kij,kj->ki", E[of_pair], first)
        back = np.einsum("kij,ki->kj", E[of_pair], second)
        slope = np.sqrt((forth[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
        lines[start : start + _BATCH] = np.abs((second * forth).sum(1)) / np.maximum(slope, 1e-12)
        missed = [
            _measure_misses(view, points, of_feature[end], features.rows[other], view.xy[other])
            for end, other in (ends, ends[::-1])
        ]
        distances[start : start + _BATCH] = np.fmax(*missed)
    return view.camera.focal_px * lines, distances


def _find_motions(T: Array, images: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return rotations (P, 3, 3) and translations (P, 3) from the first to the second image of each pair (P, 2)."""
    between = T[images[:, 1]] @ invert_pose(T[images[:, 0]])
    return between[:, :3, :3], between[:, :3, 3]


def _measure_misses(
    view: VirtualView, points: Array, of_match: NDArray[np.intp], rows: NDArray[np.intp], xy: Array
) -> Array:
    """Return distances (K,) of points from pixels (K, 2) of the images at `rows`; far off behind an image, and NaN
    without a point.
    """
    missed, known = np.full(len(xy), np.nan), np.flatnonzero(of_match >= 0)
    T = view.posed.T_camera_world[rows[known]]
    inside = np.einsum("kij,kj->ki", T[:, :3, :3], points[of_match[known]]) + T[:, :3, 3]
    ahead = inside[:, 2] > 0
    missed[known] = _BEHIND_PX
    missed[known[ahead]] = np.linalg.norm(view.camera.project(inside[ahead]) - xy[known[ahead]], axis=1)
    return missed


def triangulate_tracks(
    T_camera_world: Array,
    camera: LensCamera,
    frame: NDArray[np.intp],
    xy: Array,
    track: NDArray[np.intp],
    max_miss_px: float,
) -> tuple[Array, NDArray[np.bool_]]:
    """Triangulate tracks; features that miss the point of their track are left out, the worst ones first.

    T_camera_world: (F, 4, 4) poses, world to camera.
    camera: the camera of all images, without distortion.
    frame, xy, track: for each of M features its row among the poses, its pixel (M, 2) and its track.
    max_miss_px: largest distance of a feature from its point, pixels.

    Returns the point (N, 3) of each track, and which features (M,) have one.
    """
    if not len(track):
        return np.zeros((0, 3)), np.zeros(0, bool)
    centers = find_centers(T_camera_world)
    middle = np.median(centers, 0)
    distances = np.linalg.norm(centers - middle, axis=1)
    unit = max(float(np.median(distances)) or float(distances.max()), 1e-12)
    local = T_camera_world.copy()
    local[:, :3, 3] = (T_camera_world[:, :3, 3] + T_camera_world[:, :3, :3] @ middle) / unit
    order = np.argsort(track, kind="stable")
    used, of_track = np.unique(track[order], return_inverse=True)
    row, seen, of_track = frame[order], xy[order], of_track.ravel()
    rays = (seen - camera.center_px) / camera.focal_px
    weight, missed, kept = np.ones(len(seen)), np.zeros(len(seen)), np.ones(len(seen), bool)
    solved, worst = np.zeros((len(used), 3)), np.zeros(len(used))
    is_active = np.ones(len(used), bool)
    for number in range(ROUNDS):
        at = np.flatnonzero(is_active[of_track] & kept)
        active = np.flatnonzero(is_active)
        of_active = np.searchsorted(active, of_track[at])
        solved[active] = _solve_points(local[row[at], :3], rays[at], of_active, weight[at], len(active))
        inside = np.einsum("mij,mj->mi", local[row[at], :3, :3], solved[of_track[at]]) + local[row[at], :3, 3]
        errors = np.full(len(at), 1e6)
        ahead = inside[:, 2] > 1e-9
        errors[ahead] = np.linalg.norm(camera.project(inside[ahead]) - seen[at[ahead]], axis=1)
        missed[at], weight[at] = errors, 1 / np.maximum(np.abs(inside[:, 2]), 1e-6)
        starts = np.searchsorted(of_active, np.arange(len(active)))
        worst[active] = np.maximum.reduceat(errors, starts)
        is_wrong = worst[active] > max_miss_px
        if not is_wrong.any() or number == ROUNDS - 1:
            break
        kept[at[(errors >= worst[active][of_active]) & is_wrong[of_active]]] = False
        left = np.bincount(of_track[kept], minlength=len(used)) >= 2
        if number:
            is_active[active] = is_wrong
        is_active &= left
        worst[~left] = np.inf
        if not is_active.any():
            break
    kept &= (worst <= max_miss_px)[of_track]
    kept &= (np.bincount(of_track[kept], minlength=len(used)) >= 2)[of_track]
    points, is_kept = np.zeros((int(track.max()) + 1, 3)), np.zeros(len(track), bool)
    points[used], is_kept[order] = solved * unit + middle, kept
    return points, is_kept


def _solve_points(P: Array, rays: Array, track: NDArray[np.intp], weight: Array, count: int) -> Array:
    """Return the points (count, 3) of tracks by the direct linear transform.

    P: (M, 3, 4) world-to-camera poses of the observations.
    rays: (M, 2) their points at a focal length of 1.
    track: (M,) their tracks, sorted; each of the `count` tracks has one.
    weight: (M,) their weights.
    """
    A = (rays[:, :, None] * P[:, 2:3] - P[:, :2]) * weight[:, None, None]
    normal = np.add.reduceat(A.swapaxes(1, 2) @ A, np.searchsorted(track, np.arange(count)))
    scale = np.maximum(np.trace(normal, axis1=1, axis2=2), 1e-30)[:, None, None]
    X = np.linalg.eigh(normal / scale)[1][:, :, 0]
    w = np.where(np.abs(X[:, 3]) > 1e-9, X[:, 3], 1e-9)
    return np.asarray(X[:, :3] / w[:, None])
