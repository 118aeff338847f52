"""Check a training before its first step: the batch, the optimizer, and the initial outputs."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stadia.core.types import DepthScale
from stadia.differentiable.batch import is_temporal
from stadia.geometry.image_features import detect_features, match_features
from stadia.geometry.poses import rotation_angle_deg
from stadia.geometry.two_views import epipolar_distance_px, triangulate_inverse_depth
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.depth.training_rules import MAX_OUT_OF_VIEW
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.recording_survey import Array
from stadia.training.loop.recipe import build_optimizer
from stadia.training.loss_checks.training_start import PredictsMotion, TrainingStart
from stadia.training.monitors.training_monitor import MAX_SMOOTHNESS_SHARE

MAX_COLOR_EXCESS = 0.01  # largest distance of interpolated colors from [0, 1]
MIN_BRIGHTEST = 0.02  # brightest color of a batch: below, images were divided by 255 twice
MAX_PRINCIPAL_POINT_OUTSIDE = 0.1  # share of the image
MIN_FOCAL_WIDTHS = 0.3  # fx over the width of the smallest centered image that contains this one
MIN_BATCH_SAMPLES = 4  # images for batch statistics
MIN_BATCH_VALUES = 256  # values per channel in two or three images: the variance is then accurate to 9 %
MAX_MATCHED_PAIRS = 4  # stereo pairs that are matched
MIN_PAIR_MATCHES = 30  # matches of these pairs
MAX_PAIR_EPIPOLAR_PX = 1.0  # distance of a match from its epipolar line
MIN_OUT_OF_REACH_PX = 1.0  # disparity by which a match is outside the depth range
MAX_OUT_OF_REACH = 0.25  # share of matches outside: right ranges have .02, wrong ones .38
MIN_START_RATIO = 1 / 3  # the inverse of MAX_START_RATIO
MAX_START_RATIO = 3.0  # initial depth over the median depth of matches; starts within it need fewer steps
MAX_DEPTH_RATIO = 5.0  # initial median depth over the labels', or the inverse
MAX_BEYOND_RANGE = 0.05  # share of the labels beyond the depth range
MAX_AT_BOUND = 0.5  # share of pixels with one extreme depth
MIN_INITIAL_DISPARITY_PX = 0.3  # below, depth does not move the image
MAX_INITIAL_DISPARITY = 1 / 3  # share of the width: above, most of the image is out of view
MAX_INITIAL_MOTION = 0.3  # initial translation over the depth; stadia's recipes have 1e-3
MAX_INITIAL_ROTATION_DEG = 5.0  # stadia's recipes have .1
MAX_EXPOSURE_OFFSET = 1e-3  # difference of the initial gain and offset from (1, 0)
MAX_BATCH_DEPENDENCE = 1e-3  # relative change of an image's depth by its batch


def check_image_range(start: TrainingStart) -> Iterator[Finding]:
    """Yield a stop if the values of images are outside [0, 1] (D40), or all images of the batch are the same (D41).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    image = getattr(start.batch.inputs, "image", None)
    if image is None:
        return
    least, most = float(image.min()), float(image.max())
    is_outside = least < -MAX_COLOR_EXCESS or most > 1 + MAX_COLOR_EXCESS
    if not (math.isfinite(least) and math.isfinite(most)) or is_outside or 0 < most < MIN_BRIGHTEST:
        yield make_finding("D40", Severity.STOP, f"images from {least:.3g} to {most:.3g}", "RGB in [0, 1]")
    if len(image) > 1 and bool((image == image[:1]).all()):
        measured = f"all {len(image)} images of the first batch are the same one"
        yield make_finding("D41", Severity.STOP, measured, "an image for each sample")


def check_sources_differ(start: TrainingStart) -> Iterator[Finding]:
    """Yield a stop if a source image equals the target image in every sample (D42).

    Then warping one into the other teaches nothing.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    targets = start.batch.targets
    if not start.batch.source_names or not hasattr(targets, "sources"):
        return
    for index, name in enumerate(start.batch.source_names):
        if bool((targets.sources[:, index] == targets.image).all()):
            measured = f"source '{name}' is the target itself, in each of {start.batch.size} samples"
            yield make_finding("D42", Severity.STOP, measured, "another image")


def check_camera(start: TrainingStart) -> Iterator[Finding]:
    """Yield a stop if K does not match the size of the batch's images (K20).

    K of larger images is accepted, because the images may be a crop of them.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    camera = getattr(start.batch.inputs, "camera", None)
    if camera is None:
        return
    x, y = float((camera.cx / camera.width).median()), float((camera.cy / camera.height).median())
    min_centered_width = 2 * torch.maximum(camera.cx, camera.width - camera.cx)
    focal = float((camera.fx / min_centered_width).median())
    height, width = start.batch.inputs.image.shape[-2:]
    measured = f"a principal point at {x:.2f} of the width and {y:.2f} of the height, "
    if (height, width) != (camera.height, camera.width):
        measured = f"a camera of {camera.width}x{camera.height} for images of {width}x{height}"
    elif not all(-MAX_PRINCIPAL_POINT_OUTSIDE <= share <= 1 + MAX_PRINCIPAL_POINT_OUTSIDE for share in (x, y)):
        measured += "outside the image"
    elif focal < MIN_FOCAL_WIDTHS:
        measured += f"and a focal length of at most {focal:.2g} widths"
    else:
        return
    yield make_finding("K20", Severity.STOP, measured, f"K of these images, at least {MIN_FOCAL_WIDTHS:g} widths")


def check_optimizer(start: TrainingStart) -> Iterator[Finding]:
    """Yield a stop if trainable parameters are not in the optimizer (T20), are in it twice (T21), or none exist (T22).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    recipe = start.recipe
    names = {id(p): name for name, p in recipe.named_parameters()}
    trainable = {id(p) for p in recipe.parameters() if p.requires_grad}
    groups = recipe.parameter_groups()
    held = Counter(id(p) for group in groups for p in (group["params"] if isinstance(group, dict) else [group]))
    missing = [names[key] for key in names if key in trainable and key not in held]
    twice = [names.get(key, "a parameter of no network") for key, count in held.items() if count > 1]
    for code, listed, what in (
        ("T20", missing, "in no group of the optimizer"),
        ("T21", twice, "more than once in the optimizer"),
    ):
        if listed:
            yield make_finding(code, Severity.STOP, _list_names(listed, what), "every parameter in one")
    if not trainable:
        measured = f"0 of {len(names)} parameters are trainable"
        yield make_finding("T22", Severity.STOP, measured, "parameters that train")
    if not missing and not twice:
        build_optimizer(recipe, recipe.config.optimizer, groups)  # raises if it is impossible


def check_parameter_gradients(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if trainable parameters get no gradient in the first backward pass (T23).

    A depth network that the recipe holds while the motion is learned first (`holds_depth`) needs none.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    assert start.report is not None
    held = "model.depth." if getattr(start.recipe, "holds_depth", False) else "\0"
    named = [(name, p) for name, p in start.recipe.named_parameters() if not name.startswith(held)]
    without = [name for name, p in named if p.requires_grad and p.grad is None]
    if without:
        expected = "a gradient for each; otherwise several processes (DDP) stop"
        yield make_finding("T23", Severity.WARN, _list_names(without, "without a gradient in the first step"), expected)


def check_initial_depth(start: TrainingStart) -> Iterator[Finding]:
    """Yield findings if the initial depth is off the data (M01) or at a bound (M02), or labels are out of range (M03).

    Labels are out of range (M03) if true depth is outside the range that the network can predict.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    true_m = getattr(start.batch.targets, "depth_m", None)
    known = torch.zeros(0) if true_m is None else true_m[true_m > 0]
    if start.depth_range_m is not None and len(known):
        nearest, farthest = start.depth_range_m
        outside = float(((known < nearest) | (known > farthest)).float().mean())
        if outside > MAX_BEYOND_RANGE:
            measured = f"{outside:.0%} of the labeled pixels are outside the depth range {nearest:g} to {farthest:g} m"
            yield make_finding("M03", Severity.WARN, measured, f"at most {MAX_BEYOND_RANGE:.0%}")
    initial = start.inverse_depth
    if initial is None:
        return
    ends = float(torch.maximum((initial == initial.max()).float().mean(), (initial == initial.min()).float().mean()))
    if ends > MAX_AT_BOUND and initial.numel() > 1:
        measured = f"{ends:.0%} of the pixels have the same depth, {1 / float(initial.flatten()[0]):.4g}"
        expected = f"at most {MAX_AT_BOUND:.0%}: a saturated sigmoid or clamp has no gradient"
        yield make_finding("M02", Severity.WARN, measured, expected)
    if getattr(start.recipe, "depth_scale", None) is DepthScale.METRES and len(known):
        ratio = float(1 / initial.median()) / float(known.median())
        if not 1 / MAX_DEPTH_RATIO < ratio < MAX_DEPTH_RATIO:
            measured = f"the median depth at the start is {ratio:.3g} "
            measured += f"times the true one ({float(known.median()):.3g} m)"
            yield make_finding("M01", Severity.WARN, measured, f"1/{MAX_DEPTH_RATIO:g} to {MAX_DEPTH_RATIO:g} times")
    yield from _check_initial_disparity(start, initial)


def _check_initial_disparity(start: TrainingStart, initial: Tensor) -> Iterator[Finding]:
    rig = getattr(start.batch.inputs, "T_source_target_rig", None)
    if rig is None or not (moved := rig[..., :3, 3].norm(dim=-1)).isfinite().any():
        return
    camera = start.batch.inputs.camera
    apart = float(moved[moved.isfinite()].median() * camera.fx.median() * initial.median())
    if not MIN_INITIAL_DISPARITY_PX < apart < MAX_INITIAL_DISPARITY * camera.width:
        measured = f"the disparity at the initial depth ({float(1 / initial.median()):.3g}) is {apart:.3g} pixels"
        expected = f"{MIN_INITIAL_DISPARITY_PX:g} to a third of the width ({camera.width})"
        yield make_finding("M01", Severity.WARN, measured, expected)


def check_stereo_depth_range(start: TrainingStart) -> Iterator[Finding]:
    """Yield warnings if stereo matches are far from the initial depth (M01) or outside the model's depth range (M03).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    pairs = find_unlabeled_pairs(start)
    if not pairs or start.depth_range_m is None:
        return
    matches = match_unlabeled_pairs(start)
    if len(matches) < MIN_PAIR_MATCHES:
        between = f"{len(matches)} matches between the images of {len(pairs)} pairs"
        raise NotChecked(f"{between}, and {MIN_PAIR_MATCHES} are needed")
    initial, matched = start.inverse_depth, float(np.median(matches[:, 1]))
    if initial is not None and matched > 0 and not list(_check_initial_disparity(start, initial)):
        ratio = matched / float(initial.median())
        if not MIN_START_RATIO < ratio < MAX_START_RATIO:
            measured = f"the initial median depth is {ratio:.3g} times the median of {len(matches)} matches "
            measured += f"({1 / matched:.3g} m)"
            yield make_finding("M01", Severity.WARN, measured, f"{MIN_START_RATIO:.2g} to {MAX_START_RATIO:g} times")
    beyond = measure_range_excess_px(matches, start.depth_range_m)
    too_near, too_far = (beyond > MIN_OUT_OF_REACH_PX).sum(0)
    if (outside := (too_near + too_far) / len(beyond)) > MAX_OUT_OF_REACH:
        nearest, farthest = start.depth_range_m
        measured = f"{outside:.0%} of {len(beyond)} matches of the pair are outside the model's {nearest:g} to "
        measured += f"{farthest:g} m: {too_near} are nearer, {too_far} farther"
        evidence = {"matches": len(beyond), "nearer": int(too_near), "farther": int(too_far)}
        yield make_finding("M03", Severity.WARN, measured, f"at most {MAX_OUT_OF_REACH:.0%}", evidence=evidence)


def find_unlabeled_pairs(start: TrainingStart) -> list[tuple[int, int]]:
    """Return the indices (sample, source) of image pairs with a known camera motion and without labels of depth.

    At most MAX_MATCHED_PAIRS pairs are returned, the first ones of the batch.

    start: state of the training with its first batch.
    """
    rig = getattr(start.batch.inputs, "T_source_target_rig", None)
    if rig is None:
        return []
    labels = getattr(start.batch.targets, "depth_m", None)
    known = torch.zeros(len(rig), dtype=torch.bool) if labels is None else (labels > 0).flatten(1).any(1).cpu()
    chosen = rig.isfinite().all(-1).all(-1).cpu() & ~known[:, None]
    return [(sample, source) for sample, source in chosen.nonzero()[:MAX_MATCHED_PAIRS].tolist()]


def match_unlabeled_pairs(start: TrainingStart) -> Array:
    """Match points between the images of unlabeled pairs, and triangulate them; return an array (M, 2).

    Each row has the pixels of disparity that the pair has at a depth of 1 m, and the inverse depth of the point in
    1/m.

    start: state of the training with its first batch.
    """
    targets = start.batch.targets
    matched = [np.zeros((0, 2))]
    for sample, source in find_unlabeled_pairs(start):
        images = targets.image[sample], targets.sources[sample, source]
        matches = match_features(*(detect_features(_to_uint8(image)) for image in images))
        K, K_source = _to_numpy(targets.camera.K[sample]), _to_numpy(targets.source_camera.K[sample, source])
        geometry = K, K_source, _to_numpy(start.batch.inputs.T_source_target_rig[sample, source])
        distance_px = epipolar_distance_px(matches.first_px, matches.second_px, *geometry)
        matches = matches.select(distance_px < MAX_PAIR_EPIPOLAR_PX)
        px_metres = K_source[0, 0] * np.linalg.norm(geometry[2][:3, 3])
        inverse_depth = triangulate_inverse_depth(matches.first_px, matches.second_px, *geometry)
        matched.append(np.column_stack([np.full(len(matches), px_metres), inverse_depth]))
    return np.concatenate(matched)


def measure_range_excess_px(matches: Array, depth_range_m: tuple[float, float]) -> Array:
    """Return by how many pixels of disparity points are nearer or farther than the depth range of the network, (M, 2).

    The first column is for the near end of the range, the second one for the far end. Negative values are within the
    range.

    matches: (M, 2) points from `match_unlabeled_pairs`.
    depth_range_m: nearest and farthest depth that the network can predict, in metres.
    """
    px_metres, inverse_depth = matches.T
    nearest, farthest = depth_range_m
    return np.column_stack([px_metres * (inverse_depth - 1 / nearest), px_metres * (1 / farthest - inverse_depth)])


def _to_uint8(image: Tensor) -> NDArray[np.uint8]:
    return np.asarray((255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy())


def _to_numpy(matrix: Tensor) -> Array:
    return np.asarray(matrix.double().cpu().numpy())


def check_initial_motion(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if the initial camera motion is large relative to depth, or its rotation is large (P02).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    names = [index for index, name in enumerate(start.batch.source_names) if is_temporal(name)]
    if not names or not isinstance(start.recipe, PredictsMotion) or start.inverse_depth is None:
        return
    with torch.no_grad():
        T = start.recipe.T_next_now(start.batch.inputs.image, start.batch.inputs.sources[:, names[0]])
    if T is None:
        return
    moved = float(T[:, :3, 3].norm(dim=-1).median() * start.inverse_depth.median())
    turned = float(rotation_angle_deg(T[:, :3, :3]).median())
    if moved > MAX_INITIAL_MOTION or turned > MAX_INITIAL_ROTATION_DEG:
        measured = f"an initial translation of {moved:.2g} times the depth, and rotation of {turned:.2g} degrees"
        expected = f"at most {MAX_INITIAL_MOTION:g} times, and {MAX_INITIAL_ROTATION_DEG:g} degrees"
        yield make_finding("P02", Severity.WARN, measured, expected)


def check_initial_exposure(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if the correction of brightness does not start with gain 1 and offset 0 (B02).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    identity = {"gain": 1.0, "offset": 0.0}
    quantities = {name: name.rpartition("/")[0].rpartition("/")[2] for name in start.report.logged}
    initial = {name: float(start.report.logged[name]) for name, quantity in quantities.items() if quantity in identity}
    away = {
        name: value for name, value in initial.items() if abs(value - identity[quantities[name]]) > MAX_EXPOSURE_OFFSET
    }
    if away:
        listed = ", ".join(f"{name} {value:.3g}" for name, value in away.items())
        yield make_finding("B02", Severity.WARN, f"initially {listed}", "gain 1 and offset 0")


def check_visibility(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if most pixels project outside of all source images at the initial depth and motion (S01).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    winner = start.report.maps.get("winner")
    if winner is not None and (outside := float((winner < 0).float().mean())) > MAX_OUT_OF_VIEW:
        measured = f"{outside:.0%} of the pixels project into no source at the initial depth and motion"
        yield make_finding("S01", Severity.WARN, measured, f"at most {MAX_OUT_OF_VIEW:.0%}")


def check_smoothness(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if the smoothness term is large relative to the photometric term of the initial loss (R01).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    by_name = {name.rpartition("/")[2]: float(value) for name, value in start.report.terms.items()}
    if not by_name.keys() >= {"smoothness", "photometric"} or by_name["photometric"] <= 0:
        return
    if (share := by_name["smoothness"] / by_name["photometric"]) > MAX_SMOOTHNESS_SHARE:
        measured = f"smoothness is {share:.2g} times the photometric term"
        yield make_finding("R01", Severity.WARN, measured, f"at most {MAX_SMOOTHNESS_SHARE:g}")


def check_batch_independence(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if the predicted depth of an image depends on the other images of its batch (T28).

    Depth is predicted in evaluation mode.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    initial = start.inverse_depth
    if initial is None or len(initial) < 2:
        return
    alone = start.predict_inverse_depth(start.batch.inputs.image[:1])
    change = float((alone / initial[:1] - 1).abs().median())
    if change > MAX_BATCH_DEPENDENCE:
        measured = f"depth of an image alone and in a batch of {len(initial)} differs by {change:.1%}"
        yield make_finding("T28", Severity.WARN, measured, f"at most {MAX_BATCH_DEPENDENCE:.1%}")


def check_batch_norm(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if batch normalization computes its statistics over too few images and pixels (T33).

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    if start.batch_size >= MIN_BATCH_SAMPLES:
        return
    modules = start.recipe.named_modules()
    layers = [name for name, module in modules if isinstance(module, _BatchNorm) and module.training]
    if start.batch_size > 1:
        layers = [name for name, values in start.count_statistics_values(layers).items() if values < MIN_BATCH_VALUES]
    if layers:
        measured = f"{_list_names(layers, 'normalize by the batch')}, and batches have {start.batch_size}"
        expected = f"{MIN_BATCH_SAMPLES} samples, or 2 with {MIN_BATCH_VALUES} pixels in each map"
        yield make_finding("T33", Severity.WARN, measured, expected)


def _list_names(names: list[str], what: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {what}"


INIT_CHECKS = (  # checks without a network first
    check_image_range,
    check_sources_differ,
    check_camera,
    check_optimizer,
    check_batch_norm,
    check_initial_depth,
    check_stereo_depth_range,
    check_initial_motion,
    check_batch_independence,
    check_parameter_gradients,
    check_initial_exposure,
    check_visibility,
    check_smoothness,
)
