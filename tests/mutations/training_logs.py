"""Logged rows of trainings that learn and of trainings with one failure each, for all monitors together.

Rows that were measured are marked; the others follow from the failure.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from tests.mutations.mutation import MutationCase

from stadia.differentiable.batch import Prediction
from stadia.judge.finding import Finding, OnStop, Stage, read_valid_findings
from stadia.networks.depth.unet import bound_log_uncertainty
from stadia.overlay.config import OverlayLossConfig
from stadia.overlay.losses import OverlayLoss
from stadia.training.loop.run_folder import Run
from stadia.training.monitors.persistence import FROM_STEP
from stadia.training.monitors.training_monitor import TrainingMonitor, check_drift, check_epoch
from stadia.training.recipes.base.self_supervised import brightness_and_uncertainty_stats
from stadia.training.recipes.metric import camera_heights
from stadia.training.recipes.metric.config import CameraHeightsConfig

LogRows = Sequence[tuple[int, Mapping[str, float]]]
"""Steps and their rows."""


def run_monitors(
    folder: Path, course: LogRows = (), losses: Iterable[float] = (), base_recipe: str = ""
) -> list[Finding]:
    """Return the findings of all monitors for these rows, and for losses of batches from step 1 on.

    base_recipe: that of the recipe that logs the rows.
    """
    loop: Any = SimpleNamespace(recipe=SimpleNamespace(base_recipe=base_recipe))
    run = Run.create(folder, "course", {}, recipe="selfsup", seed=0)
    monitor = TrainingMonitor(run, Console(file=io.StringIO()), OnStop.WARN)
    for step, loss in enumerate(losses, start=1):
        monitor._notify("on_batch", step, loss, ("drive 7",))
    for step, row in course:
        monitor.on_row(loop, step, row)
    path = run.folder / "findings.jsonl"
    return read_valid_findings(path)[0] if path.exists() else []


def each(rows: Iterable[Mapping[str, float]], first: int = 1, every: int = 1) -> LogRows:
    return [(first + every * number, row) for number, row in enumerate(rows)]


def persistent_value(name: str, value: float, rows: int = 40) -> LogRows:
    """Return rows with a nearly constant value after the start."""
    return each([{name: value * (1 + number / 1e4)} for number in range(rows)], first=FROM_STEP, every=10)


# -- uncertainty

SigmaRow = tuple[
    float, float, float, float
]  # warped over unwarped; log Sigma of which 10, 50 and 90 % of the pixels are below
START: list[SigmaRow] = [
    (0.792, -0.006, -0.004, -0.002),
    (0.755, -0.096, -0.089, -0.081),
    (0.678, -0.528, -0.528, -0.528),
]
DIED = [
    *START,
    (0.752, -1.363, -1.363, -1.363),
    *[(0.737, -2.551, -2.551, -2.551), (0.776, -2.166, -2.166, -2.166)] * 16,
]
"""D3VO's ablation on RoadWorld, third seed of "full", one row for ten steps; and its first seed, which learnt."""
LEARNT = [(0.801, -0.009, -0.006, -0.004), (0.765, -0.11, -0.1, -0.07), (0.7, -1.4, -1.1, -0.6)]
LEARNT += [(0.83, -2.988, -2.681, -2.439), (0.539, -3.087, -2.555, -2.203), (0.408, -3.129, -2.883, -2.57)] * 3
LEARNT += [(0.352, -4.322, -3.478, -2.628), (0.424, -4.786, -3.46, -2.243)] * 12
ALONE = [LEARNT[0], LEARNT[1], LEARNT[2], *[(0.76, -3.5, -2.5, -1.5)] * 40]
"""Made so: Sigma varies and falls, and the geometry fits no better than at the start."""


def sigma_rows(outputs: Sequence[SigmaRow]) -> LogRows:
    def row(fit: float, *tenths: float) -> dict[str, float]:
        percents = zip((10, 50, 90), tenths, strict=True)
        return {
            "train/warped_over_unwarped": fit,
            **{f"train/log_uncertainty/p{percent}": value for percent, value in percents},
        }

    return each([row(*output) for output in outputs], first=10, every=10)


def saturated(logit: float) -> list[SigmaRow]:
    """What the recipe logs of a network whose head gives this logit in the lower half, and 0 above; of a geometry that
    fits.
    """
    logits = torch.zeros(1, 1, 32, 64)
    logits[:, :, 16:] = logit
    bounded = bound_log_uncertainty(logits)
    seen = brightness_and_uncertainty_stats(
        Prediction((bounded,), torch.eye(4)[None, None], log_uncertainty=(bounded,)), ("+1",)
    )
    low, middle, high = (float(seen[f"log_uncertainty/p{percent}"]) for percent in (10, 50, 90))
    return [(0.4, low, middle, high)] * 32


# -- composed images


def overlay_terms(*, steps: int = 40, **config: float) -> LogRows:
    """Rows of the loss of composed images, errors falling, with factors that are balanced anew at each step."""
    loss, generator = OverlayLoss(OverlayLossConfig(balance=True, **config)), torch.Generator().manual_seed(0)
    true = 2 + 30 * torch.rand(2, 1, 16, 16, generator=generator)
    rows = []
    for step in range(steps):
        size = 0.3 * math.exp(-step / 15)
        output = true.log() + size * torch.randn(true.shape, generator=generator) + size / 3
        logits = torch.randn(true.shape, generator=generator) + (true > 9) * step
        terms = {name: float(value) for name, value in loss.terms(output, logits, true, true > 9).items()}
        factors = {name: 1 + 0.5 * math.sin(step + number) for number, name in enumerate(terms)}
        rows.append(
            {f"train/weight/{n}": factors[n] for n in terms}
            | {f"train/term/{n}": factors[n] * v for n, v in terms.items()}
        )
    return each(rows)


ALL_TERMS = dict.fromkeys(
    ("depth_l1", "depth_mse", "depth_smooth_l1", "depth_ssim", "depth_gradient", "mask_bce", "mask_mse"), 1.0
)
SCORES = {"val/rmse": 4.0, "val/mse": 16.0, "val/mask_iou": 0.5}
MOVED = [SCORES | {"val/mask_iou": 0.5 + number / 100} for number in range(4)]


# -- several data sets


def validated(residuals: Iterable[tuple[float, float]], scales: tuple[float, float] = (1.0, 1.0)) -> LogRows:
    """Validations of data sets a and b: their residuals, of .2 unwarped, and the scales of their motion."""
    return each(
        {
            f"val/{name}/{key}": value
            for name, residual, scale in zip("ab", both, scales, strict=True)
            for key, value in (("residual", residual), ("residual_unwarped", 0.2), ("motion_scale", scale))
        }
        for both in residuals
    )


LEARNING = [(0.1, 0.1), (0.09, 0.1), (0.09, 0.09)]

# -- numbers of a step

HEALTHY_UPDATES = {1: 0.0089, 2: 0.0064, 3: 0.0051, 5: 0.0038, 10: 0.0023, 20: 0.0009}
"""dpt-tiny at a rate of 1e-3: its loss falls. At 1e-2 it goes up, and stays there."""
DIVERGED_UPDATES = {1: 0.0888, 2: 0.0591, 3: 0.0451, 5: 0.0302, 10: 0.0139, 20: 0.0030}
OVERLAY_UPDATES = {60: 0.0100, 80: 0.0114, 90: 0.0146, 110: 0.0177, 130: 0.0101}
"""`overlay` at 3e-3: its loss has fallen to .3 of the first."""
FALLING = [10 * math.exp(-step / 30) for step in range(200)]
TIMES = {"time/step_s": 0.1, "time/forward_s": 0.06, "time/rest_s": 0.041}


def updates(ratios: Mapping[int, float], *, to: float = 1.0) -> LogRows:
    """Rows of a loss that goes from 1 to `to`."""
    steps = [0, *ratios]
    return [(n, {"train/update_ratio": ratios.get(n, 0.0), "train/loss": 1 + (to - 1) * n / steps[-1]}) for n in steps]


def _case(name: str, code: str, broken: LogRows, correct: LogRows) -> MutationCase:
    return MutationCase(
        name,
        (code,),
        Stage.TRAINING,
        lambda folder: run_monitors(folder, broken),
        lambda folder: run_monitors(folder, correct),
    )


def _persistent_case(name: str, code: str, key: str, bad: float, good: float) -> MutationCase:
    return _case(name, code, persistent_value(f"train/{key}", bad), persistent_value(f"train/{key}", good))


AT_WORK = [{"train/loss": 0.3 - n / 1000, "train/lr": 1e-3, "train/gradient_norm": 0.2} for n in range(30)]


def gradients(by_depth: float, by_motion: float) -> LogRows:
    row = {"gradient/inverse_depth/0": by_depth, "gradient/translation": by_motion / 17, "gradient/rotation": by_motion}
    return each([row] * 40, first=FROM_STEP, every=10)


def without(name: str, course: LogRows) -> LogRows:
    return [(step, {key: value for key, value in row.items() if key != name}) for step, row in course]


def terms(smoothness: float, photometric: float) -> LogRows:
    return each(
        [{"train/term/smoothness": smoothness, "train/term/photometric": photometric}] * 40, first=FROM_STEP, every=10
    )


def residuals(warped: float) -> LogRows:
    """The auto-masked residual is half of the unwarped one all the time, as where depth collapsed."""
    masked = {"val/residual": 0.1, "val/residual_unwarped": 0.2}
    rows = (masked | {"val/residual": 0.1 + n / 1e4, "val/warped_over_unwarped": warped + n / 1e4} for n in range(3))
    return each(rows, first=FROM_STEP, every=100)


def moving(along: float, residual: float) -> LogRows:
    rows = ({"val/motion_along": along + n / 1e3, "val/warped_over_unwarped": residual + n / 1e4} for n in range(3))
    return each(rows, first=FROM_STEP, every=100)


RISING = [1.65 * 1.02**epoch for epoch in range(6)]


def tested_absolutely(known_m: float) -> list[Finding]:
    """Forty frames of five cars each, every fifth of twice the height that is known of it, held against a camera height
    known before.
    """
    rng, count = np.random.default_rng(0), 200
    outputs = 1.65 * np.exp(rng.normal(0, 0.05, count)) * np.where(np.arange(count) % 5 == 0, 2, 1)
    frame = np.arange(count) // 5
    roads = np.full(40, 1.65), np.zeros(40)
    epoch = camera_heights.HeightObservations(
        np.zeros(40, np.int64), np.full(40, "drive"), *roads, frame, outputs, 0.97 * outputs
    )
    found = camera_heights.estimate_epoch_height(epoch, 3, CameraHeightsConfig(test="absolute"), known_m)
    return check_epoch(3, {"roof": found}, first_epoch=1)


ROWS = (
    _case("Sigma died: one value for all pixels", "U01", sigma_rows(DIED), sigma_rows(LEARNT)),
    _case("Sigma alone lets the loss fall", "U02", sigma_rows(ALONE), sigma_rows(LEARNT)),
    _case("Sigma at its upper bound", "U03", sigma_rows(LEARNT[:3] + saturated(40.0)), sigma_rows(LEARNT)),
    _case("Sigma at its lower bound", "U03", sigma_rows(LEARNT[:3] + saturated(-40.0)), sigma_rows(LEARNT)),
    MutationCase("the camera's height rises by 2 % an epoch", ("H08",), Stage.TRAINING,
        lambda folder: check_drift({"roof": RISING}),
        lambda folder: check_drift({"roof": [1.65, 1.7, 1.66, 1.75, 1.8, 1.85]})),
    MutationCase("objects are held against a height that is twice as high", ("H17",), Stage.TRAINING,
        lambda folder: tested_absolutely(3.3), lambda folder: tested_absolutely(1.65)),
    _persistent_case("depth keeps a scale of its own", "H09", "metric/off_camera_height", 0.5, 0.1),
    _persistent_case("depth is one value all over", "H10", "metric/depth_spread", 0.01, 0.3),
    _persistent_case("objects and road say different scales", "H11", "metric/objects_over_road", -0.25, 0.15),
    _persistent_case("objects are flat", "H12", "metric/object_extent", 0.01, 0.05),
    _persistent_case("the road is in disorder", "H13", "metric/rows_out_of_order", 0.2, 0.05),
    _persistent_case("the auto-mask takes the road", "H14", "metric/road_masked", 0.6, 0.4),
    _persistent_case("objects at the largest depth", "H15", "metric/objects_at_limit", 0.1, 0.01),
    _persistent_case("the auto-mask takes nearly all", "T07", "auto_masked", 0.8, 0.6),
    _case("smooth L1 is half of MSE", "C10",
        overlay_terms(depth_mse=1.0, depth_smooth_l1=1.0, depth_l1=0.0, mask_bce=1.0, smooth_l1_beta=1.0),
        overlay_terms(**ALL_TERMS)),
    _case("RMSE is a mean of roots", "C11", each([SCORES | {"val/rmse": 3.5}]), each([SCORES])),
    _case("a validation says the same again", "C12", each([SCORES] * 2), each(MOVED)),
    MutationCase("wrong labels in a batch", ("T01",), Stage.TRAINING,
        lambda folder: run_monitors(folder, losses=[*FALLING, 50 * FALLING[-1]]),
        lambda folder: run_monitors(folder, losses=FALLING)),
    _case("a learning rate ten times too high", "T02", updates(DIVERGED_UPDATES, to=1.2), updates(HEALTHY_UPDATES)),
    _case("updates that are large and teach nothing", "T02", updates(OVERLAY_UPDATES),
        updates(OVERLAY_UPDATES, to=0.3)),
    _case("a schedule that has ended", "T09", each([AT_WORK[n] | {"train/lr": 0.0} for n in range(5)]), each(AT_WORK)),
    _case("a loss of detached answers", "T10", each([AT_WORK[n] | {"train/gradient_norm": 0.0} for n in range(5)]),
        each(AT_WORK)),
    _case("one batch time and again", "T11", each([AT_WORK[0]] * 30), each(AT_WORK)),
    _case("an IoU summed over batches", "T12", each([{"val/mask_iou": 1.4}]), each([{"val/mask_iou": 1.0}])),
    _case("a share within less that is larger", "T12", each([{"val/d1": 0.9, "val/d2": 0.8}]),
        each([{"val/d1": 0.8, "val/d2": 0.9}])),
    _case("an error below nothing", "T12", each([{"val/abs_rel": -0.1}]), each([{"val/abs_rel": 0.1}])),
    _persistent_case("K by the image's size, used on pixels", "S20", "warped_over_unwarped", 1.0, 0.9),
    _case("unseen images are not explained", "S21", residuals(0.98), residuals(0.5)),
    _case("a factor of 1e-4 on the pose", "L20", gradients(1.6, 4e-4), gradients(1.6, 4.0)),
    _case("depth is detached", "L20", without("gradient/inverse_depth/0", gradients(0.0, 4.0)), gradients(0.3, 4.0)),
    _persistent_case("a gain that makes images constant", "B20", "gain/+1", 0.016, 0.75),
    _persistent_case("an offset of half the range", "B20", "offset/stereo", 0.5, 0.16),
    _persistent_case("a mask of one channel for all", "B21", "saturated", 0.4, 0.2),
    _persistent_case("a source that is its target", "U04", "loss", -7.0, -1.7),
    _case("poses in the other direction", "P20", moving(-0.9, 0.1), moving(0.9, 0.1)),
    _case("a sum for a mean in the smoothness", "R20", terms(162.0, 0.2), terms(0.0004, 0.2)),
    _case("answers at the floor", "T03", persistent_value("train/at_floor", 0.9),
        persistent_value("train/at_floor", 0.4)),
    _case("a data set is forgotten after the switch", "T04", validated([(0.1, 0.19), (0.15, 0.1)]),
        validated([(0.1, 0.19), (0.1, 0.1)])),
    _case("data sets in units of their own", "T05", validated(LEARNING, (1.0, 2.0)), validated(LEARNING, (1.0, 1.2))),
    _case("a phase that is not counted", "T06", each([TIMES | {"time/forward_s": 0.01}] * 5), each([TIMES] * 5)),
    _case("a phase of less than nothing", "T06", each([TIMES | {"time/forward_s": -0.06, "time/rest_s": 0.161}] * 5),
        each([TIMES] * 5)),
)  # fmt: skip
