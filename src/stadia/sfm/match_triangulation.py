"""Give images the poses of a reconstruction, and triangulate independent matches from these poses.

Matches of every image are moved into one virtual pinhole camera, so that what judges a map of one camera judges results
of several cameras too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stadia.core.errors import DataError
from stadia.geometry.lens import MAX_OFF_AXIS_DEG, distort, undistort
from stadia.geometry.poses import invert_pose
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
        if _share_inside(wanted, reconstruction.times_s) < 0.5:
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
    if (np.abs(scale - 1) > 1e-3).any():
        width, height = sizes[0]
        notes += (f"K belongs to images of {width}x{height}; it was scaled to the images of this folder",)
    distortion, known_s = reconstruction.distortion[rows], None if wanted is None else wanted[images]
    K = scale_intrinsics(K, scale)
    lenses = None if reconstruction.lenses is None else reconstruction.lenses[rows]
    return PosedImages(images, T, K, distortion, matches.sizes[images], rows, how, notes, known_s, 1 / scale, lenses)


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
class VirtualView:
    """Matches between posed images, as one virtual pinhole camera sees them.

    camera: the virtual camera.
    pairs: the matches of pairs of posed images, in its pixels; `first` and `second` are indices of images.
    posed: the images.
    """

    camera: LensCamera
    pairs: list[FramePair]
    posed: PosedImages

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
    known = set(posed.images.tolist())
    pairs = [pair for pair in matches.pairs if pair.first in known and pair.second in known]
    sizes = posed.sizes
    width, height = np.median(sizes, axis=0)
    shrink = min(1.0, max_side_px / max(width, height))
    focal = np.sqrt(posed.K[:, 0, 0] * posed.K[:, 1, 1])
    focal_px = float(np.median(focal / sizes.max(1))) * max(width, height) * shrink
    h, w = max(round(height * shrink), 1), max(round(width * shrink), 1)
    camera = LensCamera(focal_px, ((w - 1) / 2, (h - 1) / 2), (0.0, 0.0, 0.0, 0.0), h, w)
    if not pairs:
        return VirtualView(camera, [], posed)
    ends = np.concatenate([np.full(len(xy), image) for image, xy in _list_ends(pairs)])
    features, places = np.unique(
        np.column_stack((ends, np.concatenate([xy for _, xy in _list_ends(pairs)]))), axis=0, return_inverse=True
    )
    row = np.searchsorted(posed.images, features[:, 0].astype(int))
    moved = focal_px * posed.normalize(row, features[:, 1:]) + camera.center_px
    split = np.split(moved[places.ravel()], np.cumsum([len(xy) for _, xy in _list_ends(pairs)])[:-1])
    seen = [
        replace(pair, xy_first=split[2 * number], xy_second=split[2 * number + 1]) for number, pair in enumerate(pairs)
    ]
    count = sum(len(pair.is_held) for pair in seen)
    seen = [select_matches(pair, np.isfinite(pair.xy_first[:, 0] + pair.xy_second[:, 0])) for pair in seen]
    share = 1 - sum(len(pair.is_held) for pair in seen) / count
    if share > MIN_NAMED_SHARE:
        reach = f"farther than {MAX_OFF_AXIS_DEG:.0f} degrees from the axis of the lens, or out of its reach"
        posed = replace(posed, notes=(*posed.notes, f"{share:.0%} of the matches are left out: {reach}"))
    return VirtualView(camera, [pair for pair in seen if len(pair.is_held)], posed)


def select_matches(pair: FramePair, kept: NDArray[np.bool_]) -> FramePair:
    """Return a pair with some of its matches.

    kept: (N,) whether each match is kept.
    """
    return replace(pair, xy_first=pair.xy_first[kept], xy_second=pair.xy_second[kept], is_held=pair.is_held[kept])


def _list_ends(pairs: list[FramePair]) -> list[tuple[int, Array]]:
    return [end for pair in pairs for end in ((pair.first, pair.xy_first), (pair.second, pair.xy_second))]


def triangulate_view(view: VirtualView, max_miss_px: float = MAX_MISS_PX) -> SparseMap:
    """Triangulate the matches of a view that are not held out; matches that miss their point are left out.

    The points minimize the algebraic error, weighted by depth, which is close to the reprojection error.

    view: matches in one virtual camera.
    max_miss_px: largest distance of a match from its point, pixels.
    """
    frame, xy, track = join_tracks(view)
    points, kept = triangulate_tracks(view, frame, xy, track, max_miss_px)
    used, row_of_point = np.unique(track[kept], return_inverse=True)
    return SparseMap(
        camera=view.camera,
        frames=view.posed.images.astype(np.int64),
        T_camera_world=view.posed.T_camera_world,
        points=points[used],
        colors=np.zeros((len(used), 3), np.uint8),
        observed=np.column_stack((frame[kept], row_of_point.ravel())).astype(np.int64),
        xy=xy[kept],
    )


def triangulate_tracks(
    view: VirtualView, frame: NDArray[np.intp], xy: Array, track: NDArray[np.intp], max_miss_px: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Triangulate tracks; features that miss the point of their track are left out, the worst ones first.

    view: the poses and the virtual camera.
    frame, xy, track: for each of M features its row in `view.posed`, its pixel (M, 2) and its track (`join_tracks`).
    max_miss_px: largest distance of a feature from its point, pixels.

    Returns the point (N, 3) of each track, and which features (M,) have one.
    """
    T = view.posed.T_camera_world
    centers = invert_pose(T)[:, :3, 3]
    middle, unit = np.median(centers, 0), max(float(np.median(np.abs(centers - np.median(centers, 0)))), 1e-12)
    local = T.copy()
    local[:, :3, 3] = (T[:, :3, 3] + T[:, :3, :3] @ middle) / unit
    camera, count = view.camera, int(track.max(initial=-1)) + 1
    rays = (xy - camera.center_px) / camera.focal_px
    weight, kept = np.ones(len(xy)), np.ones(len(xy), bool)
    points = np.zeros((count, 3))
    missed = np.zeros(len(xy))
    for _ in range(ROUNDS):
        points = _solve_points(local[frame[kept], :3], rays[kept], track[kept], weight[kept], count)
        inside = np.einsum("mij,mj->mi", local[frame, :3, :3], points[track]) + local[frame, :3, 3]
        missed = np.full(len(xy), 1e6)
        ahead = inside[:, 2] > 1e-9
        missed[ahead] = np.linalg.norm(camera.project(inside[ahead]) - xy[ahead], axis=1)
        weight = 1 / np.maximum(np.abs(inside[:, 2]), 1e-6)
        worst = np.zeros(count)
        np.maximum.at(worst, track[kept], missed[kept])
        is_worst = kept & (missed >= worst[track]) & (worst[track] > max_miss_px)
        if not is_worst.any():
            break
        kept &= ~is_worst
    worst = np.zeros(count)
    np.maximum.at(worst, track[kept], missed[kept])
    kept &= (worst <= max_miss_px)[track] & (np.bincount(track[kept], minlength=count) >= 2)[track]
    return points * unit + middle, kept


def _solve_points(P: Array, rays: Array, track: NDArray[np.intp], weight: Array, count: int) -> Array:
    """Return the points (count, 3) of tracks by the direct linear transform.

    P: (M, 3, 4) world-to-camera poses of the observations.
    rays: (M, 2) their points at a focal length of 1.
    track: (M,) their tracks.
    weight: (M,) their weights.
    """
    A = (rays[:, :, None] * P[:, 2:3] - P[:, :2]) * weight[:, None, None]
    normal = np.zeros((count, 4, 4))
    np.add.at(normal, track, np.einsum("mki,mkj->mij", A, A))
    scale = np.maximum(np.trace(normal, axis1=1, axis2=2), 1e-30)[:, None, None]
    X = np.linalg.eigh(normal / scale)[1][:, :, 0]
    w = np.where(np.abs(X[:, 3]) > 1e-9, X[:, 3], 1e-9)
    return np.asarray(X[:, :3] / w[:, None])


def join_tracks(view: VirtualView) -> tuple[NDArray[np.intp], Array, NDArray[np.intp]]:
    """Join matches that are not held out to tracks.

    view: matches in one virtual camera.

    Returns for each of M features its row in `view.posed`, its pixel (M, 2), and its track.
    """
    kept = [(pair, ~pair.is_held) for pair in view.pairs]
    ends = [
        np.column_stack((np.full(used.sum(), row), xy[used]))
        for pair, used in kept
        for row, xy in zip(view.find_rows(pair), (pair.xy_first, pair.xy_second), strict=True)
    ]
    if not ends:
        return np.empty(0, np.intp), np.empty((0, 2)), np.empty(0, np.intp)
    stacked = np.concatenate(ends)
    keys = np.rint(stacked * (1, _SUB_PIXELS, _SUB_PIXELS)).astype(np.int64)
    _, first, ids = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    pieces = np.split(ids.ravel(), np.cumsum([len(end) for end in ends])[:-1])
    before, after = np.concatenate(pieces[::2]), np.concatenate(pieces[1::2])
    graph = coo_matrix((np.ones(len(before)), (before, after)), (len(first), len(first)))
    track = connected_components(graph, directed=False)[1]
    return stacked[first, 0].astype(np.intp), stacked[first, 1:], track.astype(np.intp)
