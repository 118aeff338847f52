"""What must be true of a training before its first step: its batch, its optimizer, and what its networks say at first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stadia.core.types import Claim, is_temporal
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.contract.bounds import BESIDE, ENOUGH_SAMPLES, ENOUGH_VALUES, LEAST_FOCAL
from stadia.diagnostics.contract.reach import pair_is_in_reach
from stadia.diagnostics.contract.start import SaysMotion, Start
from stadia.diagnostics.finding import Finding, Severity
from stadia.geometry.se3 import rotation_angle_deg
from stadia.training import optim

FARTHEST_X, BEYOND, AT_BOUND, OUTSIDE = 5.0, 0.05, 0.5, 0.5
"""Start depth over true depth; shares of labels beyond the range, of answers at one bound, of pixels that no source
sees.
"""

LEAST_PX, WIDEST = 0.3, 1 / 3
"""Pixels, and share of the width, that a pair's images are apart at the depth of the start."""

MOTION, TURN_DEG, EXPOSURE = 0.3, 5.0, 1e-3
"""Of the start: motion over depth, degrees, and how far gain and offset are from (1, 0)."""

SMOOTH, SAME = 0.3, 1e-3
"""Smoothness over the photometric term; a relative difference of depth."""


def images_are_images(start: Start) -> Iterator[Finding]:
    """D40, D41: colors in [0, 1], and not one image all over the batch."""
    image = getattr(start.batch.inputs, "image", None)
    if image is None:
        return
    least, most = float(image.min()), float(image.max())
    if not (math.isfinite(least) and math.isfinite(most)) or least < -0.01 or most > 1.01 or 0 < most < 0.02:
        yield finding("D40", Severity.STOP, measured=f"images from {least:.3g} to {most:.3g}", expected="RGB in [0, 1]")
    if len(image) > 1 and bool((image == image[:1]).all()):
        measured = f"all {len(image)} images of the first batch are the same one"
        yield finding("D41", Severity.STOP, measured=measured, expected="an image for each sample")


def sources_are_others(start: Start) -> Iterator[Finding]:
    """D42: a source is not the target itself."""
    targets = start.batch.targets
    if not start.batch.source_names or not hasattr(targets, "sources"):
        return
    for index, name in enumerate(start.batch.source_names):
        if bool((targets.sources[:, index] == targets.image).all()):
            measured = f"source '{name}' is the target itself, in each of {start.batch.size} samples"
            yield finding("D42", Severity.STOP, measured=measured, expected="another image")


def camera_fits(start: Start) -> Iterator[Finding]:
    """K20: K is of images of the batch's size, or of ones that they can be a part of: crops and zooms move the
    principal point.
    """
    camera = getattr(start.batch.inputs, "camera", None)
    if camera is None:
        return
    x, y = float((camera.cx / camera.width).median()), float((camera.cy / camera.height).median())
    focal = float((camera.fx / _whole(camera.cx, camera.width)).median())
    height, width = start.batch.inputs.image.shape[-2:]
    if (height, width) != (camera.height, camera.width):
        measured = f"a camera of {camera.width}x{camera.height} for images of {width}x{height}"
    elif not (-BESIDE <= x <= 1 + BESIDE and -BESIDE <= y <= 1 + BESIDE):
        measured = f"a principal point at {x:.2f} of the width and {y:.2f} of the height, outside of the image"
    elif focal < LEAST_FOCAL:
        measured = (
            f"a principal point at {x:.2f} of the width and {y:.2f} of the height, and a focal length of {focal:.2g}"
            " widths at most"
        )
    else:
        return
    yield finding(
        "K20", Severity.STOP, measured=measured, expected=f"K of these images, {LEAST_FOCAL:g} widths at least"
    )


def _whole(middle: Tensor, size: int) -> Tensor:
    """(B,) the least size of an image whose middle this is, and of which this one is a part."""
    return 2 * torch.maximum(middle, size - middle)


def optimizer_holds_all(start: Start) -> Iterator[Finding]:
    """T20, T21, T22: every trainable parameter once, and something to train."""
    task = start.task
    names = {id(p): name for name, p in task.named_parameters()}
    trainable = {id(p) for p in task.parameters() if p.requires_grad}
    groups = task.parameter_groups()
    held = Counter(id(p) for group in groups for p in (group["params"] if isinstance(group, dict) else [group]))
    missing = [names[key] for key in names if key in trainable and key not in held]
    if missing:
        yield finding(
            "T20",
            Severity.STOP,
            measured=_named(missing, "in no group of the optimizer"),
            expected="every parameter in one",
        )
    twice = [names.get(key, "a parameter of no network") for key, count in held.items() if count > 1]
    if twice:
        yield finding(
            "T21",
            Severity.STOP,
            measured=_named(twice, "more than once in the optimizer"),
            expected="every parameter in one",
        )
    frozen = [name for name, p in task.named_parameters() if not p.requires_grad]
    if len(frozen) == len(names):
        yield finding(
            "T22",
            Severity.STOP,
            measured=f"none of {len(names)} parameters is trainable",
            expected="parameters that train",
        )
    if not missing and not twice:
        optim.build(task, task.config.optimizer, groups)  # raises where it cannot be had


def every_parameter_learns(start: Start) -> Iterator[Finding]:
    """T23: the first backward pass reaches every trainable parameter."""
    assert start.report is not None
    without = [name for name, p in start.task.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        expected = "a gradient for each; processes that train together (DDP) stop without"
        yield finding(
            "T23", Severity.WARN, measured=_named(without, "without a gradient in the first step"), expected=expected
        )


def depth_starts_well(start: Start) -> Iterator[Finding]:
    """M01, M02, M03: depth at the start is in the data's reach and not at a bound; labels are within what it can be."""
    true_m = getattr(start.batch.targets, "depth_m", None)
    known = None if true_m is None else true_m[true_m > 0]
    if start.depth_range_m is not None and known is not None and len(known):
        nearest, farthest = start.depth_range_m
        outside = float(((known < nearest) | (known > farthest)).float().mean())
        if outside > BEYOND:
            measured = (
                f"{outside:.0%} of the labeled pixels are outside of {nearest:g} to {farthest:g} m, which the depth"
                " can be"
            )
            yield finding("M03", Severity.WARN, measured=measured, expected=f"at most {BEYOND:.0%}")
    said = start.inverse_depth
    if said is None:
        return
    ends = float(torch.maximum((said == said.max()).float().mean(), (said == said.min()).float().mean()))
    if ends > AT_BOUND and said.numel() > 1:
        measured = f"{ends:.0%} of the pixels have one and the same depth, {1 / float(said.flatten()[0]):.4g}"
        yield finding(
            "M02",
            Severity.WARN,
            measured=measured,
            expected=f"at most {AT_BOUND:.0%}: a sigmoid or clamp at its end has no slope",
        )
    claim = getattr(start.task, "claim", None)
    if claim is Claim.METRES and known is not None and len(known):
        ratio = float(1 / said.median()) / float(known.median())
        if not 1 / FARTHEST_X < ratio < FARTHEST_X:
            measured = (
                f"the median depth at the start is {ratio:.3g} times the true one ({float(known.median()):.3g} m)"
            )
            yield finding("M01", Severity.WARN, measured=measured, expected=f"1/{FARTHEST_X:g} to {FARTHEST_X:g} times")
    yield from _pair_apart(start, said)


def _pair_apart(start: Start, said: Tensor) -> Iterator[Finding]:
    """M01 by a rig: its images are as many pixels apart as can be matched."""
    rig = getattr(start.batch.inputs, "T_source_target_rig", None)
    if rig is None or not (moved := rig[..., :3, 3].norm(dim=-1)).isfinite().any():
        return
    camera = start.batch.inputs.camera
    apart = float(moved[moved.isfinite()].median() * camera.fx.median() * said.median())
    if not LEAST_PX < apart < WIDEST * camera.width:
        measured = (
            f"at the depth of the start ({float(1 / said.median()):.3g}) the pair's images are {apart:.3g} pixels apart"
        )
        yield finding(
            "M01", Severity.WARN, measured=measured, expected=f"{LEAST_PX:g} to a third of the width ({camera.width})"
        )


def motion_starts_small(start: Start) -> Iterator[Finding]:
    """P02: motion at the start is small beside depth, and turns are small."""
    names = [index for index, name in enumerate(start.batch.source_names) if is_temporal(name)]
    if not names or not isinstance(start.task, SaysMotion) or start.inverse_depth is None:
        return
    with torch.no_grad():
        T = start.task.T_next_now(start.batch.inputs.image, start.batch.inputs.sources[:, names[0]])
    if T is None:
        return
    moved = float(T[:, :3, 3].norm(dim=-1).median() * start.inverse_depth.median())
    turned = float(rotation_angle_deg(T[:, :3, :3]).median())
    if moved > MOTION or turned > TURN_DEG:
        measured = f"at the start a step of {moved:.2g} times the depth, and a turn of {turned:.2g} degrees"
        yield finding(
            "P02", Severity.WARN, measured=measured, expected=f"at most {MOTION:g} times, and {TURN_DEG:g} degrees"
        )


def exposures_start_unchanged(start: Start) -> Iterator[Finding]:
    """B02: brightness starts at gain 1 and offset 0."""
    said = {name: float(value) for name, value in start.report.seen.items() if name.startswith(("gain/", "offset/"))}
    if not said:
        return
    away = {name: value for name, value in said.items() if abs(value - name.startswith("gain/")) > EXPOSURE}
    if away:
        told = ", ".join(f"{name} {value:.3g}" for name, value in away.items())
        yield finding("B02", Severity.WARN, measured=f"at the start {told}", expected="gain 1 and offset 0")


def sources_are_in_sight(start: Start) -> Iterator[Finding]:
    """S01: at the start's depth and motion the sources see most of the image."""
    winner = start.report.maps.get("winner")
    if winner is None:
        return
    outside = float((winner < 0).float().mean())
    if outside > OUTSIDE:
        measured = f"{outside:.0%} of the pixels are seen by no source at the depth and motion of the start"
        yield finding("S01", Severity.WARN, measured=measured, expected=f"at most {OUTSIDE:.0%}")


def smoothness_is_small(start: Start) -> Iterator[Finding]:
    """R01: smoothness is a small part of the loss at the start."""
    by_name = {name.rpartition("/")[2]: float(value) for name, value in start.report.terms.items()}
    if not by_name.keys() >= {"smoothness", "photometric"} or by_name["photometric"] <= 0:
        return
    share = by_name["smoothness"] / by_name["photometric"]
    if share > SMOOTH:
        yield finding(
            "R01",
            Severity.WARN,
            measured=f"smoothness is {share:.2g} times the photometric term",
            expected=f"at most {SMOOTH:g}",
        )


def images_stand_alone(start: Start) -> Iterator[Finding]:
    """T28: in evaluation an image's depth does not depend on the others of its batch."""
    said = start.inverse_depth
    if said is None or len(said) < 2:
        return
    alone = start.inverse_depth_of(start.batch.inputs.image[:1])
    change = float((alone / said[:1] - 1).abs().median())
    if change > SAME:
        measured = f"depth of an image alone differs by {change:.1%} from that in a batch of {len(said)}"
        yield finding("T28", Severity.WARN, measured=measured, expected=f"at most {SAME:.1%}")


def statistics_have_samples(start: Start) -> Iterator[Finding]:
    """T33: batch statistics are of several images, or of so many pixels that few will do."""
    if start.batch_size >= ENOUGH_SAMPLES:
        return
    layers = [name for name, one in start.task.named_modules() if isinstance(one, _BatchNorm) and one.training]
    if start.batch_size > 1:  # of one image no number of pixels is enough
        layers = [name for name, values in start.values_of_statistics(layers).items() if values < ENOUGH_VALUES]
    if layers:
        measured = f"{_named(layers, 'normalize by the batch')}, and batches are of {start.batch_size}"
        expected = f"{ENOUGH_SAMPLES} samples, or 2 with {ENOUGH_VALUES} pixels in each of their maps"
        yield finding("T33", Severity.WARN, measured=measured, expected=expected)


def _named(names: list[str], what: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {what}"


LOOKS = (
    images_are_images,
    sources_are_others,
    camera_fits,
    optimizer_holds_all,
    statistics_have_samples,
    depth_starts_well,
    pair_is_in_reach,
    motion_starts_small,
    images_stand_alone,
    every_parameter_learns,
    exposures_start_unchanged,
    sources_are_in_sight,
    smoothness_is_small,
)
"""What is looked at: first what needs no network, then what its networks say, last what needs a step. What has no say
in it is silent.
"""
