"""Run all monitors during training, write their findings, and stop if needed."""

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from stadia.core.errors import NotFiniteError, RunError
from stadia.core.progress import SHOWN_PROGRESS
from stadia.io.metrics_table import read_rows
from stadia.judge.catalog import make_finding
from stadia.judge.depth.training_rules import (
    GEOMETRY_RULES,
    HEIGHT_RULES,
    MAX_WARP_RATIO,
    SOURCE_RULES,
    Row,
    rename_base_values,
    warn_at,
)
from stadia.judge.finding import TRAIN_ANYWAY, Finding, OnStop, Severity, Stage, append_finding, read_valid_findings
from stadia.training.loop.loop import Callback, TrainingLoop
from stadia.training.loop.run_folder import Run
from stadia.training.monitors.optimization_monitors import (
    OPTIMIZATION_MONITORS,
    SCORE_MONITORS,
    TERM_RULES,
    VALIDATION_RULES,
    report_not_finite,
)
from stadia.training.monitors.persistence import (
    IMPROVES,
    ROWS,
    VALIDATIONS,
    Monitor,
    PersistenceCounter,
    PersistentMonitor,
    PersistentPartRule,
    PersistentRule,
    Reading,
    StartFilter,
    ValidationMonitor,
    ValidationRule,
)

MAX_GAIN = 1.6  # predicted gain or its inverse; simulated exposures .75 to 1.22
MAX_OFFSET = 0.3  # larger offsets of brightness replace the image by a constant
MAX_GRADIENT_RATIO = 1000.0  # largest ratio of the gradients of depth and motion, either way; learning .2 to 7
MAX_SMOOTHNESS_SHARE = 0.3  # smoothness over the photometric term; learning .002, first step 1e-4 to 1e-2
MIN_MOTION_ALONG = -0.5  # predicted over true translation: 1 is right, 0 nothing, -1 inverted
MAX_DEPTH_DRIFT = 6.0  # median depth over its start, which may be off by a factor of 5 (M01)
MAX_MOTION_SCALE = 1.4  # predicted over true motion along z, both in metres, or the inverse
MIN_MOTION_CORRELATION = 0.9  # correlation of predicted and true motion along z: below, their ratio has no meaning
MIN_TRAINED_LOG_SIGMA = 1.0  # |log Sigma|, which starts at 0: from here on it is trained
MIN_SIGMA_SPREAD = 0.1  # difference between the outer tenths of log Sigma; learning .34, dead .000
MAX_FIT_CHANGE = 0.9  # warped over unwarped residual, relative to its value before Sigma moved; learning .81, dead 1.00
MIN_UNTRAINED_FIT = 0.6  # residual over the unwarped one: below, the warp was learned
FIRST_FIT_ROWS = 3  # first logged rows, before Sigma moves
LOG_SIGMA_BOUNDS = (-6.0, 2.0)  # range of log Sigma (`log_uncertainty_range` of a network)
BOUND_MARGIN = 0.1  # distance of log Sigma from its bounds; learning has -5.2 and -1.7
PERCENTILES = tuple(f"log_uncertainty/p{percent}" for percent in (10, 50, 90))  # as logged

MAX_HEIGHT_ERROR = 0.2  # |ln(predicted / known camera height)|
MAX_DRIFT = 0.01  # change of the camera height per epoch
DRIFT_EPOCHS = 5  # consecutive epochs that change the camera height in one direction


class ExposureMonitor(PersistentMonitor):
    """Warn of implausible brightness gains or offsets that a network predicts between images (finding B20).

    It reads the means over a batch `train/gain/SOURCE` and `train/offset/SOURCE`.
    """

    def read(self, row: Row) -> Reading | None:
        logged = {name: value for name, value in row.items() if "/gain/" in name or "/offset/" in name}
        if not logged:
            return None
        gains, offsets = ({name: v for name, v in logged.items() if f"/{what}/" in name} for what in ("gain", "offset"))
        bad = {name: value for name, value in gains.items() if not 1 / MAX_GAIN < value < MAX_GAIN}
        bad |= {name: value for name, value in offsets.items() if abs(value) > MAX_OFFSET}
        measured = ", ".join(f"{name.rpartition('train/')[2]} {value:.2f}" for name, value in bad.items())
        expected = f"gains of {1 / MAX_GAIN:.2f} to {MAX_GAIN:g}, offsets within {MAX_OFFSET:g}"
        return Reading("B20", bool(bad), measured, expected, bad)


class GradientBalanceMonitor(PersistentMonitor):
    """Warn if depth or motion gets a negligible gradient compared with the other one (finding L20).

    It compares `gradient/inverse_depth/0` with the larger of `gradient/translation` and `gradient/rotation`.
    """

    def read(self, row: Row) -> Reading | None:
        motion = max(row.get("gradient/translation", math.nan), row.get("gradient/rotation", math.nan))
        if math.isnan(motion):  # A stereo pair alone teaches no motion.
            return None
        depth = row.get("gradient/inverse_depth/0", 0.0)  # Detached depth is not logged.
        is_bad = not motion / MAX_GRADIENT_RATIO <= depth <= motion * MAX_GRADIENT_RATIO
        measured = f"the gradient of the loss is {depth:.2g} for inverse depth and {motion:.2g} for motion"
        expected = f"within a factor of {MAX_GRADIENT_RATIO:g} of each other"
        return Reading("L20", is_bad, measured, expected, {"by_inverse_depth": depth, "by_motion": motion})


class SmoothnessMonitor(PersistentMonitor):
    """Warn if the smoothness term is too large relative to the photometric term of the loss (finding R20).

    It compares `train/term/smoothness` with `train/term/photometric`.
    """

    def read(self, row: Row) -> Reading | None:
        smooth, photometric = row.get("train/term/smoothness"), row.get("train/term/photometric")
        if smooth is None or photometric is None:
            return None
        share = smooth / abs(photometric) if photometric else math.inf
        measured = f"the smoothness term is {share:.2g} times the photometric one"
        expected = f"at most {MAX_SMOOTHNESS_SHARE:g}"
        evidence = {"smoothness": smooth, "photometric": photometric}
        return Reading("R20", share > MAX_SMOOTHNESS_SHARE, measured, expected, evidence)


class ValidationWarpMonitor(Monitor):
    """Warn if warping does not reduce the validation error (S21), or predicted motion has the wrong sign (P20).

    It reads `val/warped_over_unwarped`, the residual of source images warped by depth and motion, divided by the
    residual of unwarped ones. If warping helps, it also reads `val/motion_along`, the length of predicted translations
    along the true ones, as a share of the true length.
    """

    def __init__(self) -> None:
        self.no_warp_gain, self.backwards = PersistenceCounter(VALIDATIONS), PersistenceCounter(VALIDATIONS)
        self.along_before = math.nan

    def on_row(self, step: int, row: Row) -> Finding | None:
        along, ratio = row.get("val/motion_along"), row.get("val/warped_over_unwarped")
        if ratio is None:
            return None
        finding = self._check_residual(step, row, ratio)
        return finding if finding is not None or along is None else self._check_motion(step, row, along, ratio)

    def _check_residual(self, step: int, row: Row, ratio: float) -> Finding | None:
        if not self.no_warp_gain(step, row, ratio >= MAX_WARP_RATIO):
            return None
        measured = f"the validation residual is {ratio:.2f} times the unwarped one, "
        measured += f"as in {self.no_warp_gain.rows} validations"
        return warn_at(step, "S21", measured, f"at most {MAX_WARP_RATIO:g}", warped_over_unwarped=ratio)

    def _check_motion(self, step: int, row: Row, along: float, ratio: float) -> Finding | None:
        # A better length is not a better direction.
        before, self.along_before = self.along_before, max(along, -1.0)
        is_bad = ratio < MAX_WARP_RATIO and along < MIN_MOTION_ALONG and not along > IMPROVES * before
        if not self.backwards(step, row, is_bad):
            return None
        measured = f"the median predicted motion along the true one is {along:.2f} times its length, "
        measured += f"as in {self.backwards.rows} validations"
        return warn_at(step, "P20", measured, "1 if it is correct, 0 if nothing is learned yet", along=along)


class DepthScaleMonitor(Monitor):
    """Warn if the median of predicted depth drifts during the training (finding M23).

    It compares `depth/median` in the last ROWS logged steps with its value soon after the start.
    """

    def __init__(self) -> None:
        self.is_past_start = StartFilter()
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Row) -> Finding | None:
        median = row.get("train/depth/median")
        if median is None or not self.is_past_start(step, row):
            return None
        if len(self.first) < ROWS:
            self.first.append(median)
            return None
        self.last.append(median)
        if len(self.last) < ROWS:
            return None
        first, last = statistics.median(self.first), statistics.median(self.last)
        if 1 / MAX_DEPTH_DRIFT <= last / first <= MAX_DEPTH_DRIFT:
            return None
        measured = f"the median depth is {last:.3g}, and was {first:.3g} early in training"
        expected = f"within a factor of {MAX_DEPTH_DRIFT:g}"
        return warn_at(step, "M23", measured, expected, median_depth=last, at_the_start=first)


class MotionScaleMonitor(ValidationMonitor):
    """Warn if depth and motion have different units (finding P25).

    Predicted motion along z then follows the true motion at a wrong scale, which does not improve between
    validations.
    """

    before = math.nan

    def read(self, row: Row) -> Reading | None:
        slope, correlation = row.get("val/motion_slope/tz"), row.get("val/motion_correlation/tz")
        if slope is None or correlation is None:
            return None
        off = abs(math.log(slope)) if slope > 0 else math.inf
        before, self.before = self.before, off
        is_off = correlation > MIN_MOTION_CORRELATION and off > math.log(MAX_MOTION_SCALE)
        measured = f"predicted motion along z is {slope:.2f} times the true one, "
        measured += f"with a correlation of {correlation:.2f}"
        expected, evidence = f"within a factor of {MAX_MOTION_SCALE:g}", {"slope": slope, "correlation": correlation}
        return Reading("P25", is_off and not off < IMPROVES * before, measured, expected, evidence)


class ConstantUncertaintyMonitor(PersistentMonitor):
    """Warn if the predicted uncertainty Sigma is almost equal for all pixels (finding U01).

    It reads percentiles of log Sigma, once they have moved from their initial value 0.
    """

    def read(self, row: Row) -> Reading | None:
        low, middle, high = (row.get(f"train/{name}") for name in PERCENTILES)
        if low is None or middle is None or high is None:  # a row of a validation, or a network without uncertainty
            return None
        is_bad = abs(middle) > MIN_TRAINED_LOG_SIGMA and high - low < MIN_SIGMA_SPREAD
        measured = f"log Sigma is {middle:.2f} everywhere, with outer tenths {high - low:.3f} apart"
        expected = f"tenths at least {MIN_SIGMA_SPREAD:g} apart"
        return Reading("U01", is_bad, measured, expected, {"p10": low, "p50": middle, "p90": high})


class UncertaintyOnlyMonitor(Monitor):
    """Warn if the loss falls by a smaller uncertainty Sigma only, while depth and motion do not improve (finding U02).

    It divides the residual of warped images by the residual of unwarped ones, and compares the ratio with its value
    before Sigma moved.
    """

    def __init__(self) -> None:
        self.start: list[float] = []
        self.last: deque[float] = deque(maxlen=ROWS)
        self.persists = PersistenceCounter(1)  # The monitor passes it the medians over rows.

    def on_row(self, step: int, row: Row) -> Finding | None:
        middle, fit = row.get(f"train/{PERCENTILES[1]}"), row.get("train/warped_over_unwarped")
        if middle is None or fit is None:
            return None
        if middle > -MIN_TRAINED_LOG_SIGMA:
            if len(self.start) < FIRST_FIT_ROWS:
                self.start.append(fit)
            return None
        self.last.append(fit)
        if not self.start or len(self.last) < ROWS:
            return None
        start, now = statistics.median(self.start), statistics.median(self.last)
        if not self.persists(step, row, now > MIN_UNTRAINED_FIT and now > MAX_FIT_CHANGE * start):
            return None
        measured = f"log Sigma has fallen to {middle:.2f}, and the residual is {now:.2f} times the unwarped one "
        measured += f"({start:.2f} at the start)"
        evidence = {"log_uncertainty": middle, "warped_over_unwarped": now, "at_the_start": start}
        return warn_at(step, "U02", measured, f"at most {MAX_FIT_CHANGE:g} times the value at the start", **evidence)


class UncertaintyBoundsMonitor(PersistentMonitor):
    """Warn if a tenth of the pixels has the smallest or the largest uncertainty that can be predicted (finding U03)."""

    def read(self, row: Row) -> Reading | None:
        low, middle, high = (row.get(f"train/{name}") for name in PERCENTILES)
        if low is None or middle is None or high is None:
            return None
        is_bad = low < LOG_SIGMA_BOUNDS[0] + BOUND_MARGIN or high > LOG_SIGMA_BOUNDS[1] - BOUND_MARGIN
        measured = f"a tenth of the pixels has log Sigma below {low:.2f} and one above {high:.2f}"
        expected = f"between {LOG_SIGMA_BOUNDS[0]:g} and {LOG_SIGMA_BOUNDS[1]:g}"
        return Reading("U03", is_bad, measured, expected, {"p10": low, "p50": middle, "p90": high})


class CameraHeightMonitor(PersistentMonitor):
    """Warn if depth gives a camera height above the ground that is far from the known one (finding H09).

    It reads `train/metric/off_camera_height`, ln(predicted height / known height).
    """

    def read(self, row: Row) -> Reading | None:
        off = row.get("train/metric/off_camera_height")
        if off is None:
            return None
        is_bad, times = math.isfinite(off) and abs(off) > MAX_HEIGHT_ERROR, math.exp(off)
        measured = f"the predicted camera height is {times:.2f} times the known one"
        return Reading("H09", is_bad, measured, f"within {MAX_HEIGHT_ERROR:.0%} of it", {"times": times})


class HeightEstimateResult(Protocol):
    """Describe the camera height above the ground that was estimated for a group of cameras in an epoch."""

    @property
    def refused(self) -> str:
        """Return why the estimated height of this epoch is not used, as text; "" if it is used."""

    @property
    def apart(self) -> str:
        """Return why the cameras of the group cannot all have one height, as text; "" if they can."""

    @property
    def locked_height(self) -> str:
        """The height that only the absolute test confirms; empty without one."""


def check_epoch(
    epoch: int,
    estimates: Mapping[str, HeightEstimateResult],
    *,
    first_epoch: int,
    known_m: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Return findings about the camera heights above the ground that were estimated in an epoch.

    They report a group of cameras that cannot have one height (H07), an object filter that is locked to a wrong
    height (H17), and an epoch that gives no height (H06).

    epoch: number of the epoch.
    estimates: estimated height by the name of the group of cameras.
    first_epoch: last epoch without a report of a missing height.
    known_m: heights in metres that were known before, by group. A group with one keeps it if the epoch gives none.
    """
    findings = []
    for group, estimate in estimates.items():
        cameras = f" of the cameras '{group}'" if group else ""
        if estimate.apart:
            measured = f"epoch {epoch}{cameras}: {estimate.refused}; depth is not in metres"
            expected = "one height of one group of cameras"
            findings.append(make_finding("H07", Severity.WARN, measured, expected, where=[group]))
            continue
        if estimate.locked_height:
            measured, expected = f"epoch {epoch}{cameras}: {estimate.locked_height}", "a test that fits all objects"
            findings.append(make_finding("H17", Severity.WARN, measured, expected, where=[group]))
        if estimate.refused and epoch > first_epoch:
            severity, height_m = Severity.WARN, (known_m or {}).get(group, math.nan)
            measured = f"epoch {epoch} gives no camera height{cameras}: {estimate.refused}"
            if math.isfinite(height_m):  # another height is used
                severity, measured = Severity.NOTE, f"{measured}; {height_m:.2f} m, known before, is used"
            findings.append(make_finding("H06", severity, measured, "frames that agree on a height", where=[group]))
    return findings


def check_drift(heights_m: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Return a warning (finding H08) for each group of cameras whose estimated height drifts in one direction.

    heights_m: height in metres after each epoch, by the name of the group of cameras.
    """
    findings = []
    for group, heights in heights_m.items():
        logs = [math.log(height) for height in heights if math.isfinite(height)][-DRIFT_EPOCHS - 1 :]
        steps = [after - before for before, after in pairwise(logs)]
        has_one_direction = len(steps) == DRIFT_EPOCHS and (min(steps) > 0 or max(steps) < 0)
        if not has_one_direction or abs(logs[-1] - logs[0]) <= MAX_DRIFT * DRIFT_EPOCHS:
            continue
        measured = f"the camera's height went from {math.exp(logs[0]):.2f} m to {math.exp(logs[-1]):.2f} m, "
        measured += f"{math.expm1((logs[-1] - logs[0]) / DRIFT_EPOCHS):+.1%} an epoch"
        expected, evidence = f"less than {MAX_DRIFT:.0%} an epoch", {"camera_height_m": list(heights)}
        findings.append(make_finding("H08", Severity.WARN, measured, expected, where=[group], evidence=evidence))
    return findings


PREDICTION_MONITORS: tuple[type, ...] = (
    ExposureMonitor,
    GradientBalanceMonitor,
    SmoothnessMonitor,
    ValidationWarpMonitor,
    DepthScaleMonitor,
    MotionScaleMonitor,
    ConstantUncertaintyMonitor,
    UncertaintyOnlyMonitor,
    UncertaintyBoundsMonitor,
    CameraHeightMonitor,
)
"""Classes of the monitors of predictions. Each training creates one monitor of each class."""


class TrainingMonitor(Callback):
    """Pass logged values to all monitors, and write their findings to findings.jsonl, each code once per run.

    A monitor has a method `on_batch(step, loss, samples)` or `on_row(step, row)`, which returns a finding or None. A
    severe finding stops the training, unless the user chose to continue.
    """

    def __init__(self, run: Run, console: Console, on_stop: OnStop = OnStop.HALT) -> None:
        self.run, self.console, self.on_stop = run, console, on_stop
        classes = (*OPTIMIZATION_MONITORS, *PREDICTION_MONITORS, *SCORE_MONITORS)
        self.monitors = (
            *(monitor() for monitor in classes),
            *map(PersistentRule, (*GEOMETRY_RULES, *HEIGHT_RULES)),
            *map(PersistentPartRule, (*TERM_RULES, *SOURCE_RULES)),
            *map(ValidationRule, VALIDATION_RULES),
        )
        self.reported = {finding.code for finding in read_training_findings(run.folder)}

    def on_train_start(self, loop: TrainingLoop) -> None:
        """Pass the rows that a resumed run has already logged to the monitors, so that they continue from their last
        state.

        loop: training loop.
        """
        log = self.run.metrics_csv
        for cells in read_rows(log) if loop.step and log.exists() else ():
            row = {name: float(cell) for name, cell in cells.items() if cell}
            for monitor in self.monitors:
                if hasattr(monitor, "on_row"):
                    monitor.on_row(int(row["step"]), rename_base_values(row, loop.recipe.base_recipe))

    def on_batch_end(self, loop: TrainingLoop) -> None:
        findings, loop.recipe.found = loop.recipe.found, []
        for finding in findings:
            self._report(finding)

    def on_step_end(self, loop: TrainingLoop) -> None:
        for loss, value in zip(loop.losses, loop.batch_losses, strict=True):
            self._notify("on_batch", loop.step, value, loss.samples)

    def on_row(self, loop: TrainingLoop, step: int, row: Row) -> None:
        """Pass a logged row to the monitors."""
        self._notify("on_row", step, rename_base_values(row, loop.recipe.base_recipe))

    def _notify(self, when: str, *values: Any) -> None:
        for monitor in self.monitors:
            finding = getattr(monitor, when)(*values) if hasattr(monitor, when) else None
            if finding is not None:
                self._report(finding)

    def on_exception(self, loop: TrainingLoop, error: BaseException) -> None:
        if isinstance(error, NotFiniteError):  # The error itself ends the training.
            self._report(report_not_finite(loop.step + 1, error), halts=False)

    def _report(self, finding: Finding, *, halts: bool = True) -> None:
        if finding.code in self.reported:
            return
        self.reported.add(finding.code)
        if self.run.writes:
            line = f"{finding.severity}: {finding.code} {finding.measured}; {finding.fix}"
            self.console.print(line, markup=False, soft_wrap=True)
            SHOWN_PROGRESS.finding = f"{finding.severity} {finding.code}"
            append_finding(self.run.folder / "findings.jsonl", finding)
        if halts and finding.severity is Severity.STOP and self.on_stop is OnStop.HALT:
            fix = f"{finding.fix}; or train anyway {TRAIN_ANYWAY}"
            what = f"{finding.code}, while training"
            raise RunError(what, found=finding.measured, expected=finding.expected, fix=fix)


def read_kept_findings(folder: Path) -> list[Finding]:
    """Return the earlier findings of a run that stay valid when it is resumed: all but those about the data.

    Findings about the data are made again when training resumes.

    folder: folder of the run.
    """
    path = folder / "findings.jsonl"
    findings = read_valid_findings(path)[0] if path.exists() else []
    return [finding for finding in findings if finding.stage is not Stage.DATA]


def read_training_findings(folder: Path) -> list[Finding]:
    """Return the findings that monitors have written during the training of a run.

    folder: folder of the run.
    """
    return [finding for finding in read_kept_findings(folder) if finding.stage is Stage.TRAINING]
