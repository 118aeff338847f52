"""Decide which of two networks is kept, by depth errors at points of a map and with matches."""

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stadia.core.progress import TrackProgress, no_progress
from stadia.core.terminal import announce_step
from stadia.core.types import DepthScale, Predictor
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.data.frame_selection import spread_indices
from stadia.data.video.video_map import find_map_geometry
from stadia.geometry.align import fit_scale_and_shift
from stadia.geometry.scale_fit import count_independent
from stadia.io.input_files import expand_home
from stadia.judge.depth import SampledFrame, TrainingRecord, measure_frames
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.depth_network import ADAPTER_PREFIX, build_depth_network
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.predict_frames import predict_inverse_depth
from stadia.predict.verdict import PredictionGate, observe_frames
from stadia.scale.sources import match_pair_depth
from stadia.training.loop.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.prediction.validation import observe_training_data
from stadia.training.recipes.base.build_recipe import load_recipe
from stadia.training.recipes.base.depth_predictor import adapt_predictor
from stadia.training.recipes.base.depth_recipe import DepthRecipe
from stadia.training.recipes.base.video_data import VideoData

MEASURES: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "abs_rel": ("AbsRel to ground truth", fmean),
    "stereo_difference": ("median relative difference from stereo matches", fmean),
    "point_error": ("mean relative error at the points of the map", median),
    "match_error": ("distance of matches, relative to constant depth", median),
}
"""The first known error decides; each has a title and an average over frames."""


@dataclass(frozen=True)
class DepthErrors:
    """Errors of a network's depth, a value for each frame; NaN if it cannot be measured.

    abs_rel: mean relative error to the recording's depth.
    stereo_difference: median relative difference from semi-global matching.
    point_error: mean relative error, each at most 1, at points of the video's map that trained nothing, aligned.
    match_error: distance of matches from their predicted places (S30), over the same for constant depth.
    outputs: thinned inverse depth (h, w) of each frame; empty if it is up to a shift.
    """

    abs_rel: tuple[float, ...] = ()
    stereo_difference: tuple[float, ...] = ()
    point_error: tuple[float, ...] = ()
    match_error: tuple[float, ...] = ()
    outputs: tuple[NDArray[np.floating], ...] = field(default=(), repr=False, compare=False)

    def averages(self) -> dict[str, float | None]:
        """Return the average of each error over its frames; None if no frame has it."""
        known = {name: [value for value in getattr(self, name) if math.isfinite(value)] for name in MEASURES}
        return {name: average(known[name]) if known[name] else None for name, (_, average) in MEASURES.items()}


@dataclass(frozen=True)
class ErrorChange:
    """The change of an error from one network to the next, on the frames that both have.

    before, after: its geometric means over the frames.
    change: logarithm of after over before; negative is better.
    scatter: standard error of the change, as neighboring frames resemble each other; infinite with a single frame.
    """

    name: str
    before: float
    after: float
    change: float
    scatter: float

    @property
    def is_better(self) -> bool:
        """Return whether the error falls by more than its scatter."""
        return self.change < -self.scatter

    @property
    def is_worse(self) -> bool:
        """Return whether the error rises by more than its scatter."""
        return self.change > self.scatter


@dataclass(frozen=True)
class Decision:
    """The network to keep.

    changes: changes of each error that both networks have, the deciding one first.
    shift: mean difference of the logarithm of depth between both networks, after the median of each image.
    """

    kept: Literal["before", "after"]
    changes: tuple[ErrorChange, ...] = field(default_factory=tuple)
    shift: float = 0.0


MAX_SHIFT = 0.5
"""Four clips that became better have up to .32; one whose traffic fills half of the image .66, and a worse depth."""


def choose_network(before: DepthErrors, after: DepthErrors) -> Decision:
    """Keep the new network only if the deciding error falls, and no other error rises, by more than its scatter.

    Points and matches do not measure traffic and other places without them. So a network that shifts depth by more than
    MAX_SHIFT is not kept either, unless ground truth decides.
    """
    compared = (compare_error(name, getattr(before, name), getattr(after, name)) for name in MEASURES)
    changes = tuple(change for change in compared if change is not None)
    improves = bool(changes) and changes[0].is_better and not any(change.is_worse for change in changes)
    shift = measure_shift(before, after)
    improves &= shift <= MAX_SHIFT or bool(changes and changes[0].name == "abs_rel")
    return Decision("after" if improves else "before", changes, shift)


def measure_shift(before: DepthErrors, after: DepthErrors) -> float:
    """Return the mean absolute difference of the logarithms of depth, after the median of each image; 0 if unknown."""
    shifts = list[float]()
    for old, new in zip(before.outputs, after.outputs, strict=False):
        ratio = np.log(np.maximum(new, 1e-6) / np.maximum(old, 1e-6))
        shifts.append(float(np.abs(ratio - np.median(ratio)).mean()))
    return fmean(shifts) if shifts else 0.0


def compare_error(name: str, before: Sequence[float], after: Sequence[float]) -> ErrorChange | None:
    """Return the change of an error over the frames that both networks have; None without such a frame."""
    pairs = [(max(old, 1e-9), max(new, 1e-9)) for old, new in zip(before, after, strict=False)]
    logs = np.log([pair for pair in pairs if all(map(math.isfinite, pair))])
    if not len(logs):
        return None
    old, new = logs.mean(0)
    changes = logs[:, 1] - logs[:, 0]
    scatter = changes.std(ddof=1) / math.sqrt(count_independent(changes)) if len(changes) > 1 else math.inf
    return ErrorChange(name, math.exp(old), math.exp(new), float(new - old), float(scatter))


def keep_better_start(config: Any, recipe: AnyRecipe, data: Any, run: Run, console: Console) -> bool:
    """Keep the weights of the start as the best checkpoint if no measurement finds the trained ones better.

    It applies to depth of one camera without truth. Returns whether it replaced the best checkpoint.

    config: configuration of a training that started from published weights in metres (`workflow.starts_from_depth`).
    """
    best = Checkpoint.open(run.folder)
    is_scored = "val/abs_rel" in best.header.metrics  # whether ground truth scored the checkpoint
    if is_scored or not isinstance(recipe, DepthRecipe) or not run.writes:
        return False
    trained = find_trained(run)
    if trained is None:
        return False
    if trained.path != best.path:
        recipe = load_recipe(trained, type(recipe))
        assert isinstance(recipe, DepthRecipe)
    start, network = copy.deepcopy(recipe), build_depth_network(config.model)
    network.finish_training()
    assert start.depth_network is not None
    start.depth_network.load_state_dict(network.state_dict())
    with announce_step(console, "comparing depth before and after the training"):
        decision = choose_network(_measure_errors(start, data), _measure_errors(recipe, data))
    change = next(iter(decision.changes), None)
    why = "The video has neither points of a map nor matches to measure its depth by"
    if change is not None:
        why = f"{MEASURES[change.name][0]}: {change.before:.3g} before the training, {change.after:.3g} after"
        why += "".join(f"; {MEASURES[other.name][0]} rises" for other in decision.changes[1:] if other.is_worse)
    if decision.shift > MAX_SHIFT:
        why += f"; depth differs by a factor of {math.exp(decision.shift):.1f} on average"
    gain = None if change is None or decision.kept == "before" else 1 - change.after / change.before
    run.update_facts(lambda facts: replace(facts, depth_gain=gain))
    is_replaced = apply_decision(decision, run, trained, config.model)
    line = why
    if gain is None:
        fix = "film more motion" + ", or map the video" * (getattr(config, "motion", "") != "map")
        line = f"note: the depth of the start is kept as best. {why}. Fix: {fix}"
    elif is_replaced:
        line += ". The last weights are kept as best, although the residual of the start is smaller"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return is_replaced


def find_trained(run: Run) -> Checkpoint | None:
    """Return the best checkpoint of a run, or its last one if the best is the start, or None."""
    best, last = Checkpoint.open(run.folder), run.checkpoints / "last.safetensors"
    if best.header.step > 0:
        return best
    trained = Checkpoint.open(last) if last.is_file() else best
    return trained if trained.header.step > 0 else None


def apply_decision(decision: Decision, run: Run, trained: Checkpoint, model: DepthModelConfig) -> bool:
    """Make the kept network the best checkpoint of a run; return whether it replaced another one.

    trained: checkpoint of the run whose depth was measured.
    model: configuration of the depth network at the start.
    """
    best = run.checkpoints / "best.safetensors"
    if decision.kept == "after":
        if trained.path == best:
            return False
        write_checkpoint(best, _make_weights_header(trained), {"state_dict": trained.weights()})
        return True
    header = _make_weights_header(trained).model_copy(update={"step": 0, "epoch": 0, "metrics": {}})
    write_checkpoint(best, header, {"state_dict": trained.weights() | _read_start(model)})
    return True


def choose_weights(
    before: DepthErrors,
    run: Run,
    trained: Checkpoint,
    model: DepthModelConfig,
    measure: Callable[[Checkpoint, str], DepthErrors],
) -> tuple[DepthErrors, Decision, Checkpoint]:
    """Make the best of three networks the run's best checkpoint: the trained one, the mean of both, the start.

    The mean is measured only if the trained one is better by the deciding error, and worse by another error.

    measure: from a checkpoint and what to call it to its errors.

    Returns the errors of the network that was compared last, the decision, and the compared checkpoint.
    """
    after = measure(trained, "the adapted network")
    decision = choose_network(before, after)
    is_near = decision.shift <= MAX_SHIFT
    if decision.kept == "before" and is_near and decision.changes and decision.changes[0].is_better:
        halfway = write_halfway(run, trained, model)
        apply_decision(decision, run, trained, model)  # an interruption leaves the start
        errors = measure(halfway, "the mean of both networks")
        if (second := choose_network(before, errors)).kept == "after":
            after, decision, trained = errors, second, halfway
    apply_decision(decision, run, trained, model)
    return after, decision, trained


def write_halfway(run: Run, trained: Checkpoint, model: DepthModelConfig) -> Checkpoint:
    """Write `halfway.safetensors`, the mean of the depth network's weights before and after the training.

    It often keeps what the start does well and has most of the gain (WiSE-FT, arXiv 2109.01903).

    trained, model: as in `apply_decision`.
    """
    weights, path, start = trained.weights(), run.checkpoints / "halfway.safetensors", _read_start(model)
    is_random = f"{ADAPTER_PREFIX}A"  # A starts random and B starts at 0; the adapter is their product.
    start = {name: value for name, value in start.items() if value.is_floating_point() and is_random not in name}
    weights |= {name: torch.lerp(value, weights[name].to(value.dtype), 0.5) for name, value in start.items()}
    write_checkpoint(path, _make_weights_header(trained), {"state_dict": weights})
    return Checkpoint.open(path)


def _make_weights_header(trained: Checkpoint) -> CheckpointHeader:
    return trained.header.model_copy(update={"kind": "weights"})


def _read_start(model: DepthModelConfig) -> dict[str, Tensor]:
    """Return the weights of the depth network before the training, by their names in a checkpoint."""
    return {f"model.depth.{name}": value for name, value in build_depth_network(model).state_dict().items()}


def _measure_errors(recipe: AnyRecipe, data: VideoData) -> DepthErrors:
    predictor = adapt_predictor(recipe.predictor())
    assert predictor is not None
    gate = observe_training_data(predictor, data, TrainingRecord(is_published=True))
    points, matches = measure_samples(gate.samples, predictor.depth_scale)
    return DepthErrors((), (), points, matches, _thin_outputs(gate.samples, predictor.depth_scale))


MAX_FRAMES = 100
"""Depth is measured on at most this many frames."""

MAX_MATCHED_FRAMES = 20
"""Depth of this many frames is compared with stereo matches or ground truth."""

MIN_DEPTH = 0.5
"""Smallest depth that is compared, metres."""

MAX_DEPTH = 50.0
"""Largest depth that is compared, metres."""

MIN_PIXELS = 100
"""Fewest pixels with known depth of a frame that is compared."""

MIN_POINTS = 10
"""Fewest points of a map in a frame that is compared."""


def measure_video(
    predictor: Predictor,
    video: Path,
    options: Mapping[str, Any],
    track: TrackProgress = no_progress,
    *,
    max_frames: int = MAX_FRAMES,
) -> DepthErrors:
    """Return the errors of a predictor on the first recording of a video.

    options: options that `open_inputs` takes.
    max_frames: frames of a longer video are left out, evenly.
    """
    count = open_inputs(video, **options)[0].count
    given = open_inputs(video, every=-(-count // max_frames) if count else 1, **options)[0]
    mapped = find_map_geometry(expand_home(video), skip_damaged=True)
    mapped = None if mapped is None else mapped.select_points(is_held_out=True)
    gate = PredictionGate(predictor.depth_scale, TrainingRecord(), mapped=mapped)
    deque(track(observe_frames(gate, predictor, given.frames), given.count, "frames measured"), maxlen=0)
    points, matches = measure_samples(gate.samples, predictor.depth_scale)
    stereo, truth = _compare_depth(predictor, given)
    return DepthErrors(truth, stereo, points, matches, _thin_outputs(gate.samples, predictor.depth_scale))


def _thin_outputs(samples: Sequence[SampledFrame], depth_scale: DepthScale) -> tuple[NDArray[np.floating], ...]:
    return () if depth_scale.is_affine else tuple(sample.inverse_depth[::8, ::8].copy() for sample in samples)


def measure_samples(
    samples: Sequence[SampledFrame], depth_scale: DepthScale
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the error of each predicted frame at the points of a map, and of its matches; NaN if unknown."""
    points = tuple(_measure_points(sample, depth_scale) for sample in samples)
    measured = (measure_frames([sample], has_ratios=not depth_scale.is_affine).match_error for sample in samples)
    return points, tuple(math.nan if error is None else error for error in measured)


def _measure_points(sample: SampledFrame, depth_scale: DepthScale) -> float:
    if sample.points is None:
        return math.nan
    (height, width), (rows, columns) = sample.image.shape[:2], sample.inverse_depth.shape
    column, row = np.floor((sample.points.xy + 0.5) * (columns / width, rows / height)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
    if inside.sum() < MIN_POINTS:
        return math.nan
    z = sample.points.z[inside]
    output = sample.inverse_depth[row[inside], column[inside]].astype(np.float64)
    errors = np.abs(align_output(output, z, depth_scale) / z - 1)
    return float(np.minimum(errors, 1).mean())  # its scatter is half of the median's: frames have few such points


def align_output(
    output: NDArray[np.floating], z: NDArray[np.floating], depth_scale: DepthScale
) -> NDArray[np.floating]:
    """Return depth (N,) of outputs (N,), aligned with known depths z (N,) of any unit.

    Outputs up to scale and shift are fitted twice, the second time to the nearer three quarters.
    """
    if not depth_scale.is_affine:
        return np.median(z * output) / output
    is_depth = depth_scale is DepthScale.AFFINE_DEPTH
    target, kept = torch.from_numpy(np.asarray(-z if is_depth else 1 / z, np.float64)), torch.ones(len(z)).bool()
    values = torch.from_numpy(np.asarray(output, np.float64))
    for _ in range(2):
        scale, shift = fit_scale_and_shift(values, target, kept)
        fitted = scale * values + shift
        residual = (fitted - target).abs()
        kept = residual <= residual.quantile(0.75)
    depth = -fitted if is_depth else 1 / fitted.clamp(min=1 / (100 * float(z.max())))
    return depth.clamp(min=0).numpy()


def _compare_depth(predictor: Predictor, given: PredictionInput) -> tuple[tuple[float, ...], tuple[float, ...]]:
    recording = given.recording
    if recording is None:
        return (), ()
    by_stereo, by_truth = list[float](), list[float]()
    chosen = spread_indices(len(given.indices), MAX_MATCHED_FRAMES)
    for index in (given.indices[number] for number in chosen):
        shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [index])))
        output = predict_inverse_depth(predictor, shown)
        depth = shown.predicted(DepthScale.AFFINE_INVERSE, output, None).depth_at_image()
        true_m = recording.depth_m(index)
        errors = None if true_m is None else _relative_errors(depth, true_m, predictor.depth_scale)
        by_truth.append(math.nan if errors is None else float(errors.mean()))
        if recording.T_right_left is not None:
            matched = match_pair_depth(
                recording.image(index), recording.image(index, "right"), recording.K(index), recording.T_right_left
            )
            errors = _relative_errors(depth, matched, predictor.depth_scale)
            by_stereo.append(math.nan if errors is None else float(np.median(errors)))
    return tuple(by_stereo), tuple(by_truth)


def _relative_errors(
    depth: NDArray[np.floating], true_m: NDArray[np.floating], depth_scale: DepthScale
) -> NDArray[np.floating] | None:
    """Return |z - truth| / truth (N,), aligned unless depth is in metres; None for too few pixels.

    depth: (H, W).
    """
    known = (true_m > MIN_DEPTH) & (true_m < MAX_DEPTH) & np.isfinite(depth) & (depth != 0)
    known &= depth_scale.is_affine | (depth > 0)
    if known.sum() < MIN_PIXELS:
        return None
    found, true = depth[known], true_m[known]
    found = found if depth_scale is DepthScale.METRES else align_output(1 / found, true, depth_scale)
    return np.abs(found - true) / true
