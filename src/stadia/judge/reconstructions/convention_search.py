"""Find the convention of the poses or the camera of a reconstruction, by matches between its images.

A match fits if it is near its epipolar line and in front of both cameras. Conventions are tried until one explains the
matches that the reconstruction as given does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.geometry.conventions import (
    MISTAKEN_AXES,
    OPENGL,
    QuaternionOrder,
    center_K,
    list_axes,
    make_mirror,
    multiply_K_by_sizes,
    reorder_quaternions,
    scale_K_to_images,
    swap_sides_of_K,
    transpose_rotations,
    turn_translations,
)
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.image_matches import ImageMatches
from stadia.sfm.match_triangulation import (
    PosedImages,
    find_image_times,
    normalize_points,
    pose_images,
    scale_intrinsics,
)
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import Array

PIXELS = 640.0
"""Longer image side, pixels, that the distances of matches from their epipolar lines refer to."""

SOFT_PX = 2.0
"""Distance from the epipolar line at which a match counts half, pixels of an image of PIXELS."""

NEAR = 1.3
"""A match with less parallax than SOFT_PX times this counts as in front, since its side is unknown."""

MAX_PAIRS, MAX_MATCHES = 96, 50
"""Most pairs of images, and most matches of each, that are scored."""

MIN_MATCHES = 20
MIN_MOTION = 0.02
"""Smallest median motion of a scored pair's matches, as a share of the longer side."""

MIN_PAIRS = 5
MIN_EXPLAINED = 0.5
"""Share of matches that a convention must explain to be named."""

MAX_GIVEN, MAX_GIVEN_OF_RARE = 0.85, 0.7
"""Largest share of matches that fit as given, over the share that fit with the cure, if a convention is named;
MAX_GIVEN_OF_RARE for a focal length, for rare mistakes, and for several mistakes at once.
"""

MIN_SIGMA = 3.2
"""A convention is named if its gain over pairs of images is at least this many standard deviations of the mean."""

CORRELATED = 3
"""Number of scored pairs of images that count as one in that deviation, since pairs share images."""

ENOUGH = 0.7
"""Combinations of two mistakes are tried only below this share of fitting matches."""

SCORED_EVERY, KEPT = 3, 40
"""Combinations are scored on each SCORED_EVERY-th match first; the KEPT best ones are scored on all."""

NEARLY = 0.2
SOFTNESSES_PX = (0.3, 0.5, 0.8, 1.2, 2.0)
MIN_SHARP = 0.6
"""Distances are compared at the smallest of SOFTNESSES_PX at which the best convention fits this share of matches."""

MIN_KNOWN = 0.35
"""Share of the scored pairs that must have poses under a convention."""

SAME_DEG = 0.5
"""Two conventions are the same for these images if their camera motions agree within this angle."""

TIE = 0.03
"""Two conventions explain equally if their shares of fitting matches differ by less."""

MAX_LIST_SHIFT = 30
"""Largest shift of a list in images that is searched."""

MAX_OFFSET_S, OFFSET_STEPS = 3.0, 60
FOCAL_FACTORS = np.exp(np.linspace(np.log(0.3), np.log(3.4), 33))
"""Factors of the focal length that are tried."""

MIN_FOCAL_FAULT = 0.1
"""Smallest difference of a focal length, as a natural logarithm, that is named as a mistake."""

FOCAL_COST = 0.06
"""A free focal length must improve a convention by this share of matches."""

FOCAL_RANGE, FOCAL_STEPS = 2.0, 57
MAX_OFF_CENTER = 0.15
"""Largest distance of a principal point from the middle, as a natural logarithm, with which K may belong to another
size.
"""

OPENGL_FORMATS = frozenset({"transforms.json", "phone JSON", "Record3D"})
"""Formats with the camera axes of OpenGL."""

MIRROR = make_mirror(0)
_BATCH = 400_000  # matches times conventions that are scored at once


def _invert(T: Array) -> Array:
    return np.asarray(np.linalg.inv(T))


def _of_inverse(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda T: _invert(change(_invert(T)))


POSE_CHANGES: Mapping[str, tuple[str, str, Callable[[Array], Array]]] = {
    "given": ("", "", lambda T: T),
    "inverted": ("the poses are inverted: camera-to-world in place of world-to-camera, or the reverse",
                 "invert each pose", _invert),
    "w first": ("the quaternions have w first; the format has it last", "write them as the format has them",
                lambda T: reorder_quaternions(T, QuaternionOrder.WXYZ)),
    "w last": ("the quaternions have w last; the format has it first", "write them as the format has them",
               lambda T: reorder_quaternions(T, QuaternionOrder.XYZW)),
    "w first, inverse": ("the quaternions have w first; the format has it last",
                         "write them as the format has them",
                         _of_inverse(lambda T: reorder_quaternions(T, QuaternionOrder.WXYZ))),
    "w last, inverse": ("the quaternions have w last; the format has it first",
                        "write them as the format has them",
                        _of_inverse(lambda T: reorder_quaternions(T, QuaternionOrder.XYZW))),
    "transposed": ("the rotations are transposed (conjugate quaternions) next to right translations",
                   "transpose each rotation, and keep the translation", transpose_rotations),
    "transposed, inverse": ("the rotations are transposed (conjugate quaternions) next to right positions",
                            "transpose each rotation, and keep the position", _of_inverse(transpose_rotations)),
    "position": ("the translations of world-to-camera poses are positions of the camera",
                 "write t = -R c", turn_translations),
    "translation": ("the positions of camera-to-world poses are translations of world-to-camera",
                    "write c = -R^T t", _of_inverse(turn_translations)),
}  # fmt: skip
"""Mistakes in poses by name: what the file has, the fix, and the function that undoes the mistake in (N, 4, 4)
world-to-camera poses.
"""


CAMERA_CHANGES: Mapping[str, tuple[str, str, Callable[[Array, Array], Array]]] = {
    "given": ("", "", lambda K, sizes: K),
    "size": ("K belongs to images of another size", "scale K to the size of the images", scale_K_to_images),
    "center": ("the principal point differs from the images'", "put it in the middle of the image", center_K),
    "swapped": ("K has width and height swapped", "swap fx with fy and cx with cy",
                lambda K, sizes: swap_sides_of_K(K)),
    "normalized": ("K is in units of the image size", "multiply it by width and height", multiply_K_by_sizes),
}  # fmt: skip
"""Mistakes in K by name: what the file has, the fix, and the function of K (N, 3, 3) and image sizes (N, 2) that undoes
the mistake.
"""


@dataclass(frozen=True, slots=True)
class Convention:
    """A possible convention of a reconstruction; the defaults are the format's own.

    poses: name in POSE_CHANGES.
    axes: (9,) the signed rotation from the axes of the file's camera to x right, y down, z forward, row by row, in
        addition to the format's. A determinant of -1 is a mirrored image.
    order: "given", "reversed", "by name" (image names sorted as text), or "shifted".
    shift: delay of the poses in images ("shifted").
    offset_s: delay of the times of poses, seconds.
    camera: name in CAMERA_CHANGES.
    size_factor: factor on all of K, which belongs to images of another size.
    focal_factor: factor of the focal length alone.
    """

    poses: str = "given"
    axes: tuple[float, ...] = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    order: str = "given"
    shift: int = 0
    offset_s: float = 0.0
    camera: str = "given"
    size_factor: float = 1.0
    focal_factor: float = 1.0

    @property
    def R(self) -> Array:
        """Return `axes` as a matrix (3, 3)."""
        return np.array(self.axes, np.float64).reshape(3, 3)

    @property
    def is_mirrored(self) -> bool:
        """Return whether images are mirrored."""
        return bool(np.linalg.det(self.R) < 0)

    @property
    def changes_camera(self) -> bool:
        """Return whether K differs."""
        return _name_camera(self)[:3] != _name_camera(GIVEN)[:3]

    def count_changes(self) -> float:
        """Return how many things differ from the format's own convention; rare ones count more."""
        is_turned = not np.array_equal(self.R, np.eye(3)) and not np.array_equal(self.R, MIRROR)
        rare = is_turned and not any(np.array_equal(self.R, known) for known in _NAMED_AXES)
        return (
            (self.poses != "given")
            + 0.1 * (self.poses not in ("given", "inverted"))
            + is_turned
            + 0.5 * rare
            + self.is_mirrored
            + (self.order != "given")
            + 0.001 * abs(self.shift)
            + (self.offset_s != 0)
            + (self.camera != "given")
            + (self.size_factor != 1)
            + 1.2 * (self.focal_factor != 1)
        )


GIVEN = Convention()
_NAMED_AXES = [R for axes in MISTAKEN_AXES for R in (axes.R_axes_camera, axes.R_camera_axes)]


@dataclass(frozen=True, slots=True)
class ExplainedConvention:
    """A convention that explains the matches.

    convention: the convention.
    what: what the file has.
    fix: what to do.
    fits_given: share of matches that fit as given, 0 to 1.
    fits: share of matches that fit with this convention.
    others: what the file may have instead, because the images cannot distinguish these conventions.
    """

    convention: Convention
    what: str
    fix: str
    fits_given: float
    fits: float
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ConventionSearch:
    """The result of `search_conventions`.

    fits_given: share of the matches that fit the reconstruction as given, 0 to 1; NaN if too few matches can be scored.
    pairs: number of scored pairs of images.
    found: the convention that explains the matches; None if the reconstruction as given is as good, or none explains.
    undecided: what the file may have, since conventions explain the matches as well as the reconstruction as given.
    focal_factors: factor of the focal length with which most matches fit, and the smallest and the largest one with
        which nearly as many do; in addition to `found`.
    fits_focal: share of the matches that fit with the first of these factors.
    """

    fits_given: float
    pairs: int
    found: ExplainedConvention | None
    undecided: tuple[str, ...]
    focal_factors: tuple[float, float, float]
    fits_focal: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """P pairs of at most M matches each: ends (P, 2) as rows of posed images, pixels (P, M, 2), and which are real."""

    ends: NDArray[np.intp]
    first: Array
    second: Array
    is_real: NDArray[np.bool_]


class _Scorer:
    """Scores conventions on a sample of matches."""

    def __init__(self, reconstruction: Reconstruction, matches: ImageMatches) -> None:
        self.reconstruction = reconstruction
        self.matches = matches
        self.posed = pose_images(reconstruction, matches)
        self.native = OPENGL.R_axes_camera if reconstruction.format in OPENGL_FORMATS else np.eye(3)
        self.sizes = self.posed.sizes.astype(np.float64)
        self.sample = choose_sample(self.posed.images, matches)
        self._rays: dict[tuple[Any, ...], tuple[Array, Array, Array]] = {}
        self._moved: dict[float, tuple[Array, NDArray[np.bool_]]] = {}

    def view(self, convention: Convention) -> tuple[Array, Array, Array]:
        """Return rays (P, 3, M) of both ends of matches, and the pixels (P,) of one unit, by a convention's camera."""
        key = _name_camera(convention)
        if key not in self._rays:
            K = change_camera(self.posed.K, self.sizes, convention)
            rays = []
            for end, xy in ((0, self.sample.first), (1, self.sample.second)):
                rows = np.repeat(self.sample.ends[:, end], xy.shape[1])
                flat = normalize_points(xy.reshape(-1, 2), K[rows], self.posed.distortion[rows])
                rays.append(np.concatenate((flat, np.ones((len(flat), 1))), 1).reshape(*xy.shape[:2], 3).swapaxes(1, 2))
            unit = np.sqrt(K[:, 0, 0] * K[:, 1, 1]) * PIXELS / self.sizes.max(1)
            self._rays[key] = rays[0], rays[1], unit[self.sample.ends].mean(1)
        return self._rays[key]

    def poses(self, convention: Convention) -> tuple[Array, NDArray[np.bool_]]:
        """Return world-to-camera poses (F, 4, 4) of the posed images without `axes`, and which images have one."""
        T, is_known = self._order(convention)
        native = np.eye(4)
        native[:3, :3] = self.native
        changed = POSE_CHANGES[convention.poses][2](native @ T)
        return native @ changed, is_known

    def _order(self, convention: Convention) -> tuple[Array, NDArray[np.bool_]]:
        posed, offset_s = self.posed, convention.offset_s
        if offset_s:
            if offset_s not in self._moved:
                moved = pose_images(self.reconstruction, self.matches, offset_s)
                at = np.searchsorted(moved.images, posed.images).clip(0, len(moved.images) - 1)
                self._moved[offset_s] = moved.T_camera_world[at], moved.images[at] == posed.images
            return self._moved[offset_s]
        rows = order_rows(len(posed.images), convention, [self.matches.names[i] for i in posed.images])
        return posed.T_camera_world[rows.clip(0)], rows >= 0

    def score(self, conventions: Sequence[Convention], soft_px: float = SOFT_PX, every: int = 1) -> Array:
        """Return (H, P), for each convention and pair the share of matches that fit; NaN for a pair without poses.

        conventions: H conventions.
        soft_px: distance from the epipolar line at which a match counts half, pixels of an image of PIXELS.
        every: only each so many-th match is scored.
        """
        shares = np.full((len(conventions), len(self.sample.ends)), np.nan)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, convention in enumerate(conventions):
            key = _name_camera(convention)
            groups.setdefault(key, []).append(number)
        poses: dict[tuple[Any, ...], tuple[Array, Array, NDArray[np.bool_]]] = {}
        size = max(_BATCH * every // max(self.sample.is_real.size, 1), 1)
        for members in groups.values():
            first, second, unit = self.view(conventions[members[0]])
            for start in range(0, len(members), size):
                batch = members[start : start + size]
                motions = [self._motion(conventions[number], poses) for number in batch]
                R, t = np.stack([motion[0] for motion in motions]), np.stack([motion[1] for motion in motions])
                fits = score_matches(R, t, first[..., ::every], second[..., ::every], unit[:, None] / soft_px)
                is_real = self.sample.is_real[:, ::every]
                found = (fits * is_real).sum(2) / is_real.sum(1)
                shares[batch] = np.where(np.stack([motion[2] for motion in motions]), found, np.nan)
        return shares

    def _motion(
        self, convention: Convention, cached: dict[tuple[Any, ...], tuple[Array, Array, NDArray[np.bool_]]]
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return rotations (P, 3, 3) and translations (P, 3) from first to second images, and which are known."""
        key = (convention.poses, convention.order, convention.shift, convention.offset_s)
        if key not in cached:
            T, is_known = self.poses(convention)
            first, second = T[self.sample.ends[:, 0]], T[self.sample.ends[:, 1]]
            R = second[:, :3, :3] @ first[:, :3, :3].transpose(0, 2, 1)
            t = second[:, :3, 3] - np.einsum("pij,pj->pi", R, first[:, :3, 3])
            cached[key] = R, t, np.asarray(is_known[self.sample.ends].all(1))
        R, t, known = cached[key]
        turn = convention.R
        return turn @ R @ turn.T, t @ turn.T, known


def _name_camera(convention: Convention) -> tuple[Any, ...]:
    return convention.camera, convention.size_factor, convention.focal_factor, convention.is_mirrored


def order_rows(count: int, convention: Convention, names: Sequence[str]) -> NDArray[np.intp]:
    """Return for each of `count` images the row of its pose by the convention's order; -1 without one.

    count: number of images.
    convention: the convention.
    names: their names in natural order.

    Examples:
        >>> order_rows(3, Convention(order="shifted", shift=1), "abc").tolist()
        [1, 2, -1]
    """
    rows = np.arange(count)
    match convention.order:
        case "reversed":
            return rows[::-1].copy()
        case "by name":
            return np.argsort(np.argsort(np.array(names), kind="stable"), kind="stable")
        case "shifted":
            moved = rows + convention.shift
            return np.where((moved >= 0) & (moved < count), moved, -1)
    return rows


def change_camera(K: Array, sizes: Array, convention: Convention) -> Array:
    """Return intrinsics (N, 3, 3) as a convention has them.

    K: (N, 3, 3) as given, in pixels of the images as they are.
    sizes: (N, 2) width and height of the images.
    convention: the convention.
    """
    changed = CAMERA_CHANGES[convention.camera][2](K, sizes).copy()
    if convention.size_factor != 1:
        changed = scale_intrinsics(changed, np.full(sizes.shape, convention.size_factor))
    changed[:, (0, 1), (0, 1)] *= convention.focal_factor
    if convention.is_mirrored:
        changed[:, 0, 2] = sizes[:, 0] - 1 - changed[:, 0, 2]
    return changed


def choose_sample(images: NDArray[np.intp], matches: ImageMatches) -> _Sample:
    """Choose pairs of posed images whose matches move enough, and some matches of each.

    images: (F,) indices of the posed images, rising.
    matches: matches between images.
    """
    known = set(images.tolist())
    usable = [
        pair
        for pair in matches.pairs
        if pair.first in known and pair.second in known and len(pair.is_held) >= MIN_MATCHES
    ]
    moving = [pair for pair in usable if _measure_motion(pair) >= MIN_MOTION * matches.sizes[pair.first].max()]
    chosen = (
        [moving[row] for row in np.unique(np.linspace(0, len(moving) - 1, MAX_PAIRS).astype(int))] if moving else []
    )
    first, second = np.zeros((2, len(chosen), MAX_MATCHES, 2))
    is_real = np.zeros((len(chosen), MAX_MATCHES), bool)
    for row, pair in enumerate(chosen):
        kept = np.unique(np.linspace(0, len(pair.is_held) - 1, MAX_MATCHES).astype(int))
        first[row, : len(kept)], second[row, : len(kept)] = pair.xy_first[kept], pair.xy_second[kept]
        is_real[row, : len(kept)] = True
    ends = np.searchsorted(images, [(pair.first, pair.second) for pair in chosen]).reshape(-1, 2)
    return _Sample(ends, first, second, is_real)


def _measure_motion(pair: FramePair) -> float:
    return float(np.median(np.linalg.norm(pair.xy_second - pair.xy_first, axis=1)))


def score_matches(R: Array, t: Array, first: Array, second: Array, unit: Array) -> NDArray[np.float32]:
    """Return how well matches fit relative poses: 1 on the epipolar line and in front of both cameras, 0 far off.

    R: (H, P, 3, 3) rotations from the first to the second image of each pair.
    t: (H, P, 3) translations.
    first, second: (P, 3, M) rays of the matches.
    unit: (P, 1) softness: distance in rays at which a match counts half is 1 / unit.

    Returns (H, P, M).
    """
    x, y, z = (t / np.maximum(np.linalg.norm(t, axis=-1, keepdims=True), 1e-12)).astype(np.float32).transpose(2, 0, 1)
    zero = np.zeros_like(x)
    hat = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    R, first, second = R.astype(np.float32), first.astype(np.float32), second.astype(np.float32)
    turned = R @ first
    lines = hat @ turned
    side = hat @ second
    back = -(R.swapaxes(-1, -2) @ side)[..., :2, :]
    slope = lines[..., 0, :] ** 2 + lines[..., 1, :] ** 2 + back[..., 0, :] ** 2 + back[..., 1, :] ** 2
    distance = (second * lines).sum(-2) ** 2 / np.maximum(slope, 1e-18)
    closeness = 1 / (1 + distance * unit.astype(np.float32) ** 2)
    normal = np.empty_like(turned)  # turned times second; turned * a + t = second * b
    for axis in range(3):
        after, last = (axis + 1) % 3, (axis + 2) % 3
        normal[..., axis, :] = turned[..., after, :] * second[:, last] - turned[..., last, :] * second[:, after]
    ahead_first, ahead_second = -(side * normal).sum(-2), -(lines * normal).sum(-2)
    lengths = (turned**2).sum(-2) * (second**2).sum(-2)
    is_far = (normal**2).sum(-2) * (unit.astype(np.float32) * NEAR) ** 2 < lengths
    return np.asarray(closeness * (is_far | ((ahead_first > 0) & (ahead_second > 0))), np.float32)


def list_flat_axes() -> list[tuple[float, ...]]:
    """Return the 48 signed permutations of three axes, row by row, the identity first; half of them mirror."""
    return [tuple(R.ravel().tolist()) for R in list_axes()]


def list_singles(scorer: _Scorer) -> list[Convention]:
    """List the conventions of one change, or of poses and axes together."""
    found = [Convention(poses=poses, axes=axes) for poses in POSE_CHANGES for axes in list_flat_axes()]
    found += list_orders(scorer)
    return found + list_cameras(scorer)


def list_cameras(scorer: _Scorer) -> list[Convention]:
    """List the conventions that change only K, without a change of the focal length alone."""
    found = [Convention(camera=camera) for camera in CAMERA_CHANGES if camera != "given"]
    implied = np.median(scorer.sizes / np.maximum(2 * scorer.posed.K[:, :2, 2] + 1, 1e-3), axis=0)
    middle = float(np.sqrt(implied.prod()))
    factors = {1 / 4, 1 / 3, 3 / 8, 2 / 5, 1 / 2, 5 / 8, 2 / 3, 3 / 4, 4 / 5, float(implied[0]), float(implied[1])}
    factors |= {1 / factor for factor in factors}
    near = [
        factor for factor in factors if abs(np.log(factor / middle)) < MAX_OFF_CENTER and abs(np.log(factor)) > 0.05
    ]
    return found + [Convention(size_factor=factor) for factor in sorted(near)]


def list_orders(scorer: _Scorer) -> list[Convention]:
    """List the conventions that change only the order or the times of poses."""
    posed = scorer.posed
    found = [Convention(order="reversed")]
    if posed.how == "time":
        times_s = find_image_times(scorer.matches)
        gap = float(np.median(np.diff(times_s))) if times_s is not None else 0.1
        most = min(MAX_OFFSET_S, len(posed.images) * gap / 2)
        steps = np.linspace(-most, most, 2 * OFFSET_STEPS + 1)
        found += [Convention(offset_s=round(float(step), 4)) for step in steps if abs(step) > 1e-9]
    else:
        most = min(MAX_LIST_SHIFT, len(posed.images) // 2)
        found += [Convention(order="shifted", shift=shift) for shift in range(-most, most + 1) if shift]
    names = [scorer.matches.names[index] for index in posed.images]
    if not np.array_equal(order_rows(len(names), Convention(order="by name"), names), np.arange(len(names))):
        found.append(Convention(order="by name"))
    return found


def list_doubles(scorer: _Scorer) -> list[Convention]:
    """List the conventions of two changes: poses and axes with another camera, or with another order."""
    turned = [Convention(poses=poses, axes=axes) for poses in POSE_CHANGES for axes in list_flat_axes()]
    found = [
        replace(base, camera=other.camera, size_factor=other.size_factor)
        for base in turned
        for other in list_cameras(scorer)
    ]
    known = [np.eye(3), MIRROR, *_NAMED_AXES]
    few = [base for base in turned if any(np.array_equal(base.R, axes) for axes in known)]
    for order in list_orders(scorer):
        found += [replace(order, poses=base.poses, axes=base.axes) for base in few if base != GIVEN]
    return found


def search_conventions(reconstruction: Reconstruction, matches: ImageMatches) -> ConventionSearch:
    """Search the convention that explains the matches, if the reconstruction as given does not.

    A convention is named only if it explains at least MIN_EXPLAINED of the matches, and the reconstruction as given
    explains at most MAX_GIVEN of these. The difference must also exceed the scatter over pairs of images.

    reconstruction: cameras and poses as read.
    matches: matches between the images.

    Raises DataError if fewer than 3 images have a pose, or the camera is unknown.
    """
    scorer = _Scorer(reconstruction, matches)
    pairs = len(scorer.sample.ends)
    if pairs < MIN_PAIRS:
        return ConventionSearch(float("nan"), pairs, None, (), (1.0, 1.0, 1.0), float("nan"))
    shares = _Shares(scorer)
    shares.add(list_singles(scorer))
    if shares.find_best()[1] < ENOUGH:
        shares.add_by_sample(list_doubles(scorer))
    wrong = FOCAL_FACTORS[np.abs(np.log(FOCAL_FACTORS)) > MIN_FOCAL_FAULT].tolist()
    shares.add([replace(base, focal_factor=factor) for base in shares.list_best(4) for factor in wrong])
    found, others, given, best = shares.choose()
    factors, fits_focal = find_focal(scorer, found)
    explained = None
    if found != GIVEN:
        what, fix = describe_convention(found, reconstruction, scorer.posed)
        explained = ExplainedConvention(found, what, fix, given, best, others)
    return ConventionSearch(given, pairs, explained, () if explained else others, factors, fits_focal)


def find_focal(scorer: _Scorer, convention: Convention) -> tuple[tuple[float, float, float], float]:
    """Return the factor of the focal length that fits most matches, the smallest and the largest factor that fit nearly
    as many, and the share of matches that fit the first.
    """
    factors = convention.focal_factor * np.exp(np.linspace(-np.log(FOCAL_RANGE), np.log(FOCAL_RANGE), FOCAL_STEPS))
    mean = _average(scorer.score([replace(convention, focal_factor=float(factor)) for factor in factors]))
    row = int(mean.argmax())
    near = np.flatnonzero(mean >= mean[row] - 0.5 * TIE)
    relative = factors / convention.focal_factor
    return (float(relative[row]), float(relative[near[0]]), float(relative[near[-1]])), float(mean[row])


class _Shares:
    """The shares of fitting matches of all conventions that were tried."""

    def __init__(self, scorer: _Scorer) -> None:
        self.scorer = scorer
        self.means: dict[Convention, float] = {}

    def add(self, conventions: Sequence[Convention]) -> None:
        new = [convention for convention in dict.fromkeys(conventions) if convention not in self.means]
        if new:
            self.means.update(zip(new, _average(self.scorer.score(new)).tolist(), strict=True))

    def add_by_sample(self, conventions: Sequence[Convention]) -> None:
        """Score part of the matches, and add those conventions that fit most of them."""
        mean = _average(self.scorer.score(conventions, every=SCORED_EVERY))
        self.add([conventions[row] for row in np.argsort(-mean, kind="stable")[:KEPT]])

    def list_best(self, count: int) -> list[Convention]:
        """Return the conventions that fit most matches, the reconstruction as given among them."""
        ranked = sorted(self.means, key=lambda convention: -self.means[convention])
        return list(dict.fromkeys([GIVEN, *ranked[:count]]))

    def find_best(self) -> tuple[Convention, float]:
        return max(self.means.items(), key=lambda entry: entry[1])

    def choose(self) -> tuple[Convention, tuple[str, ...], float, float]:
        """Return the convention, what the file may have instead, and the shares that fit as given and with it.

        Distances are compared at the softness at which the best convention still fits most matches.
        """
        scorer, best = self.scorer, self.find_best()[1]
        listed = [convention for convention in self.list_best(KEPT) if self.means[convention] >= best - NEARLY]
        listed = list(dict.fromkeys([GIVEN, *listed]))
        shares, mean = scorer.score(listed), np.zeros(0)
        for soft_px in SOFTNESSES_PX:
            shares = scorer.score(listed, soft_px)
            mean = _average(shares) - [FOCAL_COST * (convention.focal_factor != 1) for convention in listed]
            if mean.max() >= MIN_SHARP:
                break
        tied = [row for row in range(len(listed)) if mean[row] >= mean.max() - TIE]
        chosen = min(tied, key=lambda row: (listed[row].count_changes(), -mean[row]))
        gain = shares[chosen] - shares[0]
        gain = gain[np.isfinite(gain)]
        deviation = float(gain.std() / np.sqrt(max(len(gain) / CORRELATED, 1))) if len(gain) else np.inf
        coarse = self.means[listed[chosen]], self.means[GIVEN]
        is_clear = (
            coarse[0] >= MIN_EXPLAINED
            and mean[0] <= _find_limit(listed[chosen]) * mean[chosen]
            and gain.mean() > MIN_SIGMA * deviation
        )
        if not is_clear:
            chosen = 0
        others = [
            describe_convention(listed[row], scorer.reconstruction, scorer.posed)[0]
            for row in tied
            if row != chosen and self._is_other(listed[row], listed[chosen])
        ]
        return listed[chosen], tuple(dict.fromkeys(others)), coarse[1], self.means[listed[chosen]]

    def _is_other(self, convention: Convention, chosen: Convention) -> bool:
        """Return whether a convention is as simple as the chosen one, but moves the camera otherwise."""
        if convention.count_changes() > max(chosen.count_changes(), 1) + 0.5 or convention == GIVEN:
            return False
        if _name_camera(convention)[:3] != _name_camera(chosen)[:3]:
            return False  # another camera, whose focal length has a line of its own
        if abs(convention.shift - chosen.shift) + abs(convention.offset_s - chosen.offset_s) > 0:
            return False  # neighbors in time
        R, t, known = self.scorer._motion(convention, {})
        R_chosen, t_chosen, known_chosen = self.scorer._motion(chosen, {})
        both = known & known_chosen
        turn = np.degrees(np.arccos(np.clip((np.einsum("pij,pij->p", R, R_chosen) - 1) / 2, -1, 1)))[both]
        product_of_t = (t * t_chosen).sum(1) / np.maximum(
            np.linalg.norm(t, axis=1) * np.linalg.norm(t_chosen, axis=1), 1e-12
        )
        return bool(
            np.median(turn) > SAME_DEG
            or np.median(np.degrees(np.arccos(np.clip(product_of_t[both], -1, 1)))) > SAME_DEG
        )


def _average(shares: Array) -> Array:
    """Return the mean (H,) over pairs; 0 for a convention that gives poses to too few pairs."""
    known = np.isfinite(shares)
    mean = np.where(known, shares, 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.where(known.mean(1) >= MIN_KNOWN, mean, 0.0)


def _find_limit(convention: Convention) -> float:
    return MAX_GIVEN if convention.count_changes() < 1.15 and convention.focal_factor == 1 else MAX_GIVEN_OF_RARE


def describe_convention(convention: Convention, reconstruction: Reconstruction, posed: PosedImages) -> tuple[str, str]:
    """Return what the file has according to a convention, and the fix.

    convention: the convention.
    reconstruction: cameras and poses as read.
    posed: its images.
    """
    parts = list[tuple[str, str]]()
    if convention.poses != "given":
        parts.append(POSE_CHANGES[convention.poses][:2])
    if convention.is_mirrored:
        fix = "mirror the images back, or the poses and K: M T M with M = diag(-1, 1, 1)"
        parts.append(("the images are mirrored, or the world is left-handed", fix))
    turn = convention.R @ MIRROR if convention.is_mirrored else convention.R
    if not np.array_equal(turn, np.eye(3)):
        parts.append(_describe_axes(turn, reconstruction))
    match convention.order:
        case "reversed":
            parts.append(("the list of poses is in reverse order", "reverse it"))
        case "by name":
            parts.append(("poses are in the order of image names as text (10 before 2)", "sort them by number"))
        case "shifted":
            late = "late" if convention.shift > 0 else "early"
            what = f"the list of poses is shifted: poses are {abs(convention.shift)} images {late}"
            parts.append((what, f"give image k the pose of image k {convention.shift:+d}"))
    if convention.offset_s:
        late = "late" if convention.offset_s > 0 else "early"
        what = f"the clocks differ: poses are {abs(convention.offset_s):.2f} s {late}"
        parts.append((what, f"add {-convention.offset_s:+.2f} s to the times of the poses"))
    if convention.camera != "given":
        parts.append(_describe_camera(convention, posed))
    if convention.size_factor != 1:
        width, height = (round(float(side / convention.size_factor)) for side in np.median(posed.sizes, axis=0))
        parts.append((f"{CAMERA_CHANGES['size'][0]}: {width}x{height}", CAMERA_CHANGES["size"][1]))
    if convention.focal_factor != 1:
        focal_px = float(np.median(posed.K[:, 0, 0])) * convention.focal_factor
        what = f"the focal length is wrong: {np.median(posed.K[:, 0, 0]):.0f} px"
        parts.append((what, f"use about {focal_px:.0f} px, or calibrate the camera"))
    return "; ".join(part[0] for part in parts), "; then ".join(part[1] for part in parts)


def _describe_axes(turn: Array, reconstruction: Reconstruction) -> tuple[str, str]:
    native = OPENGL.R_axes_camera if reconstruction.format in OPENGL_FORMATS else np.eye(3)
    file_axes = turn @ native
    rows = "; ".join(" ".join(f"{value:.0f}" for value in row + 0.0) for row in turn)
    fix = f"turn the camera axes: multiply world-to-camera matrices from the left by [{rows}]"
    if np.array_equal(file_axes, np.eye(3)):
        return "the poses have the camera axes of OpenCV (x right, y down, z forward), not the axes of the format", fix
    for axes in MISTAKEN_AXES:
        if np.array_equal(file_axes, axes.R_camera_axes):
            return f"the poses have {axes.description}", fix
        if np.array_equal(file_axes, axes.R_axes_camera):
            return f"the poses have axes turned the wrong way: the inverse of {axes.description}", fix
    return f"the camera axes are turned by the rotation [{rows}]", fix


def _describe_camera(convention: Convention, posed: PosedImages) -> tuple[str, str]:
    what, fix, _ = CAMERA_CHANGES[convention.camera]
    x, y = posed.K[0, :2, 2]
    if convention.camera == "size":
        return f"{what}: about {round(2 * x + 1)}x{round(2 * y + 1)}", fix
    return (f"{what}: ({x:.0f}, {y:.0f})" if convention.camera == "center" else what), fix


def apply_convention(reconstruction: Reconstruction, matches: ImageMatches, convention: Convention) -> Reconstruction:
    """Return the reconstruction with a convention's mistakes undone, in the conventions of its format.

    reconstruction: cameras and poses as read.
    matches: the images.
    convention: what the file has.
    """
    posed = pose_images(reconstruction, matches)
    changed = reconstruction
    if convention.order != "given":
        names = [matches.names[index] for index in posed.images]
        rows = order_rows(len(posed.images), convention, names)
        kept = np.flatnonzero(rows >= 0)
        changed = reconstruction.rows(posed.rows[kept])
        changed = replace(changed, T_camera_world=reconstruction.T_camera_world[posed.rows[rows[kept]]])
        if not any(reconstruction.names):
            changed = replace(changed, names=tuple(matches.names[index] for index in posed.images[kept]))
    if convention.offset_s and changed.times_s is not None:
        changed = replace(changed, times_s=changed.times_s - convention.offset_s)
    native, turn = np.eye(4), np.eye(4)
    native[:3, :3] = OPENGL.R_axes_camera if reconstruction.format in OPENGL_FORMATS else np.eye(3)
    turn[:3, :3] = convention.R
    T = turn @ native @ POSE_CHANGES[convention.poses][2](native @ changed.T_camera_world)
    if convention.is_mirrored:
        T[:, :3, :3] = T[:, :3, :3] @ MIRROR
    changed = replace(changed, T_camera_world=T)
    if _name_camera(convention) != _name_camera(GIVEN):
        sizes = np.tile(np.median(matches.sizes, axis=0).astype(np.int64), (len(changed), 1))
        known = np.where(changed.sizes > 0, changed.sizes, sizes)
        K = change_camera(scale_intrinsics(changed.K, sizes / known), sizes.astype(np.float64), convention)
        changed = replace(changed, K=K, sizes=sizes)
    return changed
