"""Monitors of the optimization (loss and its terms, gradients, updates, learning rate, timing) and of scores."""

import math
import re
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, pairwise

from stadia.core.errors import NotFiniteError
from stadia.judge.catalog import make_finding
from stadia.judge.depth.training_rules import MAX_UPDATE_RATIO, Row, Rule, limit, warn_at
from stadia.judge.finding import Finding, Severity
from stadia.training.monitors.persistence import (
    IMPROVES,
    ROWS,
    Monitor,
    PersistenceCounter,
    PersistentMonitor,
    Reading,
    ValidationMonitor,
    get_logged_parts,
)

MAX_SPIKE = 10.0  # loss over the running median; learning at most 1.3
SPIKE_BATCHES = 50  # batches in the running median of the loss
MIN_SPIKE_BATCHES = 10  # batches for a median
MIN_SPIKE_DEVIATIONS = 10.0  # deviations above the median; ratios fail, because a loss with a logarithm crosses 0
FIRST_UPDATE_STEP = 5  # Adam's first steps have full size at any gradient
STALLED_ROWS = 3  # consecutive rows with a learning rate or gradient of 0
MIN_LR_SHARE = 1e-3  # learning rate over the run's highest, below which nothing is learned
MAX_LOW_LR_SHARE = 0.1  # share of rows with such a rate; a cosine to 0 has .02
ACTIVE_LR_SHARE = 0.01  # learning rate over the run's highest, from which weights must change
MIN_UPDATE_RATIO = 1e-7  # |update| / |weight|; learning 1e-4 to 1e-2
MAX_LOADING_SHARE = 0.5  # share of a step that waits for the next batch; with a cache .02 to .05

STEP_TIME = "time/step_s"
MAX_TIME_GAP = 0.1  # difference of the sum of the parts from the step's time, over the step's time
MAX_TIME_GAP_S = 0.002  # the same in seconds, for short steps
TIMING_ROWS = 3  # consecutive rows, since two clocks are read at two moments
MAX_SUM_GAP = 0.01  # difference of the loss from the sum of its terms, over the sizes of the terms
SUM_ROWS = 3  # consecutive rows with such a difference
MIN_TERM_RANGE = 1.5  # largest over smallest value of a term: below, its ratio to another term has no meaning
MAX_RATIO_SPREAD = 0.03  # largest over smallest ratio of two proportional terms, less 1
MIN_GRADIENT_SHARE = 0.01  # share of a term in the gradient

TERM_RULES = (
    limit("L22", "gradient_share", "the share of the gradient is {:.1%}", at_least=MIN_GRADIENT_SHARE,
          note=" of each term"),
)  # fmt: skip
"""Limits of values that are logged for each term of the loss; `PersistentPartRule` applies them to each term."""


class LossSpikeMonitor:
    """Warn of a batch whose loss is many times the median of the losses of the batches before (finding T01)."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=SPIKE_BATCHES)

    def ratio_to_median(self, loss: float) -> float:
        """Return the loss of a batch divided by the median loss of the batches before, and remember the loss.

        The result is 0 if the loss is within the usual spread of losses, or if there are too few batches for a
        median.

        loss: loss of the batch.
        """
        before = list(self.losses)
        self.losses.append(loss)
        median = statistics.median(before) if len(before) >= MIN_SPIKE_BATCHES else 0.0
        if median <= 0:
            return 0.0
        deviation = statistics.median(abs(value - median) for value in before)
        if loss - median <= MIN_SPIKE_DEVIATIONS * deviation:
            return 0.0
        return loss / median

    def on_batch(self, step: int, loss: float, samples: tuple[str, ...]) -> Finding | None:
        """Return a warning (T01) if the loss of a batch is more than MAX_SPIKE times the median before; otherwise None.

        step: number of the training step.
        loss: loss of the batch.
        samples: names of the batch's samples; the warning lists them.
        """
        times = self.ratio_to_median(loss)
        if times <= MAX_SPIKE:
            return None
        measured = f"the loss is {loss:.4g}, {times:.3g} times the median of the batches before"
        return warn_at(step, "T01", measured, f"at most {MAX_SPIKE:g} times", where=samples, loss=loss, times=times)


class UpdateRatioMonitor(Monitor):
    """Warn of an update that is large relative to the weights and after which the loss rises (finding T02).

    It reads `train/update_ratio` of each logged step, and `train/loss` of the next one.
    """

    def __init__(self) -> None:
        self.first_loss: float | None = None
        self.large: tuple[int, float] | None = None  # step and ratio of the row before, if it was large

    def on_row(self, step: int, row: Row) -> Finding | None:
        ratio, loss = row.get("train/update_ratio"), row.get("train/loss")
        if ratio is None or loss is None:  # rows of a validation have neither
            return None
        self.first_loss = first = loss if self.first_loss is None else self.first_loss
        is_large = ratio > MAX_UPDATE_RATIO and step >= FIRST_UPDATE_STEP
        large, self.large = self.large, (step, ratio) if is_large else None
        if large is None or loss < first:
            return None
        measured = f"the update of step {large[0]} changed the weights by {large[1]:.1%} of their size, "
        measured += f"and the loss of step {step} is {loss:.3g}, at first {first:.3g}"
        evidence = {"step": large[0], "update_ratio": large[1], "loss": loss, "first_loss": first}
        expected = f"at most {MAX_UPDATE_RATIO:.1%}, or a loss that falls"
        return make_finding("T02", Severity.WARN, measured, expected, evidence=evidence)


def report_not_finite(step: int, error: NotFiniteError) -> Finding:
    """Return the finding (T08) about a number that is not finite and that ended the training.

    step: number of the training step.
    error: the error, which names the place of the number.
    """
    measured, evidence = f"{error.where}: {error.found}", {"step": step}
    return make_finding("T08", Severity.STOP, measured, error.expected, fix=error.fix, evidence=evidence)


class StallMonitor(Monitor):
    """Warn of a training that stands still: learning rate 0 (T09), all gradients 0 (T10), or a constant loss (T11).

    It reads `train/lr`, `train/gradient_norm` and `train/loss` of logged steps.
    """

    def __init__(self) -> None:
        self.zero_rate_rows = self.zero_gradient_rows = self.constant_rows = 0
        self.loss = math.nan

    def on_row(self, step: int, row: Row) -> Finding | None:
        rate, norm, loss = (row.get(f"train/{name}") for name in ("lr", "gradient_norm", "loss"))
        if loss is None:
            return None
        self.zero_rate_rows = self.zero_rate_rows + 1 if rate == 0 else 0
        self.zero_gradient_rows = self.zero_gradient_rows + 1 if norm == 0 else 0
        self.constant_rows = self.constant_rows + 1 if loss == self.loss else 1
        self.loss = loss
        if self.zero_rate_rows == STALLED_ROWS:
            return warn_at(step, "T09", f"the learning rate is 0, as for {STALLED_ROWS} rows", "above 0", lr=0.0)
        if self.zero_gradient_rows == STALLED_ROWS:
            measured = f"the gradient of all weights is 0, as for {STALLED_ROWS} rows"
            finding = warn_at(step, "T10", measured, "above 0", gradient_norm=0.0)
            return replace(finding, severity=Severity.STOP)
        if self.constant_rows == ROWS:
            measured = f"the loss is {loss:.6g}, to the last digit, as for {ROWS} rows"
            return warn_at(step, "T11", measured, "a loss that changes with the batch", loss=loss)
        return None


class LearningRateMonitor(Monitor):
    """Warn if the learning rate is near 0 for a large part of the training (finding T14). It reads `train/lr`."""

    def __init__(self) -> None:
        self.highest = 0.0
        self.rows = self.low_rows = 0

    def on_row(self, step: int, row: Row) -> Finding | None:
        rate = row.get("train/lr")
        if rate is None:
            return None
        self.highest, self.rows = max(rate, self.highest), self.rows + 1
        self.low_rows = self.low_rows + 1 if 0 < rate < MIN_LR_SHARE * self.highest else 0
        if self.low_rows < max(ROWS, MAX_LOW_LR_SHARE * self.rows):
            return None
        measured = f"the learning rate is {rate:.2g}, its maximum was {self.highest:.2g}: "
        measured += f"nearly zero for {self.low_rows} of {self.rows} rows"
        expected = f"less than {MAX_LOW_LR_SHARE:.0%} of a training below {MIN_LR_SHARE:g} of the maximum"
        return warn_at(step, "T14", measured, expected, lr=rate, highest=self.highest)


class WeightChangeMonitor(PersistentMonitor):
    """Warn if updates hardly change the weights although the learning rate is not small (finding T15).

    It reads `train/update_ratio`, the size of an update relative to the weights, and `train/lr`.
    """

    highest = 0.0

    def read(self, row: Row) -> Reading | None:
        rate, ratio = row.get("train/lr"), row.get("train/update_ratio")
        if rate is None or ratio is None:
            return None
        self.highest = max(rate, self.highest)
        is_bad = ratio < MIN_UPDATE_RATIO and rate > ACTIVE_LR_SHARE * self.highest
        measured = f"an update changes the weights by {ratio:.2g} of their size at a learning rate of {rate:.2g}"
        evidence = {"update_ratio": ratio, "lr": rate}
        return Reading("T15", is_bad, measured, f"at least {MIN_UPDATE_RATIO:g}", evidence)


class DataLoadingMonitor(PersistentMonitor):
    """Warn if training waits for data for a large part of each step (finding T16).

    It compares `time/loading_s` with `time/step_s`, both in seconds.
    """

    def read(self, row: Row) -> Reading | None:
        loading_s, step_s = row.get("time/loading_s"), row.get(STEP_TIME)
        if loading_s is None or not step_s:
            return None
        measured = f"a step waits for the next batch {loading_s / step_s:.0%} of its time"
        evidence = {"time/loading_s": loading_s, STEP_TIME: step_s}
        is_bad = loading_s > MAX_LOADING_SHARE * step_s
        return Reading("T16", is_bad, measured, f"at most {MAX_LOADING_SHARE:.0%}", evidence)


class TimingMonitor(Monitor):
    """Warn if the logged times of the parts of a step do not add up to the time of the step (finding T06).

    The parts are measured by the clock of the device, the step by the clock of the computer.
    """

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Row) -> Finding | None:
        whole = row.get(STEP_TIME)
        parts = {name: value for name, value in row.items() if name.startswith("time/") and name != STEP_TIME}
        if whole is None or not parts:
            return None
        total, negative = sum(parts.values()), min(parts.values()) < 0
        is_off = abs(total - whole) > max(MAX_TIME_GAP * whole, MAX_TIME_GAP_S) or negative
        self.rows = self.rows + 1 if is_off else 0
        if self.rows < TIMING_ROWS:
            return None
        measured = f"the parts of a step take {total:.3g} s, "
        measured += f"and the step takes {whole:.3g} s, as for {TIMING_ROWS} rows"
        return warn_at(step, "T06", measured, f"the same within {MAX_TIME_GAP:.0%}", **{STEP_TIME: whole, **parts})


class ConstantTermMonitor(Monitor):
    """Warn of a term of the loss that stays constant, and not 0, while the loss changes (finding L21).

    It reads the terms `train/term/NAME` and `train/loss`.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.persists: defaultdict[str, PersistenceCounter] = defaultdict(PersistenceCounter)
        self.loss = math.nan

    def on_row(self, step: int, row: Row) -> Finding | None:
        terms, loss = get_logged_parts(row, "term"), row.get("train/loss")
        if loss is None or len(terms) < 2:
            return None
        moved, self.loss = loss != self.loss, loss
        same = {name: value for name, value in terms.items() if value and moved and self.before.get(name) == value}
        self.before = terms
        constant = [name for name in terms if self.persists[name](step, row, name in same)]
        if not constant:
            return None
        name = constant[0]
        measured = f"the term '{name}' is {same[name]:.6g}, to the last digit, as for {self.persists[name].rows} rows"
        return warn_at(step, "L21", measured, "a term that changes with the batch", where=name, **{name: same[name]})


class TermSumMonitor(Monitor):
    """Warn if the logged loss is not the sum of its logged terms (finding L23).

    It compares `train/loss` with the sum of `train/term/NAME`.
    """

    def __init__(self) -> None:
        self.rows = 0

    def on_row(self, step: int, row: Row) -> Finding | None:
        terms, loss = get_logged_parts(row, "term"), row.get("train/loss")
        if not terms or loss is None or not math.isfinite(loss):
            return None
        total, size = sum(terms.values()), sum(map(abs, terms.values()))
        self.rows = self.rows + 1 if abs(total - loss) > MAX_SUM_GAP * max(size, abs(loss)) else 0
        if self.rows < SUM_ROWS:
            return None
        measured = f"the loss is {loss:.4g} and its terms sum to {total:.4g}, as for {SUM_ROWS} rows"
        return warn_at(step, "L23", measured, f"the same within {MAX_SUM_GAP:.0%}", loss=loss, sum=total, **terms)


class ProportionalTermsMonitor(Monitor):
    """Warn of two terms of the loss that are proportional to each other, so that one is superfluous (finding C10).

    It compares the terms without their weights.
    """

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=ROWS)

    def on_row(self, step: int, row: Row) -> Finding | None:
        terms = get_logged_parts(row, "term")
        if len(terms) < 2:
            return None
        weights = {name: row.get(f"train/weight/{name}", 1.0) for name in terms}
        self.rows.append({name: value / weights[name] for name, value in terms.items() if weights[name] > 0})
        if len(self.rows) < ROWS:
            return None
        for first, second in combinations(self.rows[-1], 2):
            values = [(row.get(first, 0.0), row.get(second, 0.0)) for row in self.rows]
            ratios = [a / b for a, b in values if a > 0 and b > 0]
            if len(ratios) < ROWS or _max_ratio(a for a, _ in values) <= MIN_TERM_RANGE:
                continue
            spread = _max_ratio(ratios) - 1
            if spread < MAX_RATIO_SPREAD:
                measured = f"'{first}' is {ratios[-1]:.4g} times '{second}' in the last {ROWS} rows, to {spread:.1%}"
                expected, names = "terms that are not proportional", [first, second]
                return warn_at(step, "C10", measured, expected, where=names, ratio=ratios[-1], spread=spread)
        return None


def _max_ratio(values: Iterable[float]) -> float:
    """Return the largest over the smallest value."""
    listed = list(values)
    return max(listed) / min(listed)


OPTIMIZATION_MONITORS: tuple[type, ...] = (
    LossSpikeMonitor,
    UpdateRatioMonitor,
    StallMonitor,
    TimingMonitor,
    LearningRateMonitor,
    WeightChangeMonitor,
    DataLoadingMonitor,
    ProportionalTermsMonitor,
    ConstantTermMonitor,
    TermSumMonitor,
)
"""Classes of the monitors of the optimization. Each training creates one monitor of each class."""


MAX_RMSE_GAP = 0.01  # relative difference of val/rmse from the root of val/mse
MIN_FROZEN_SCORES = 3  # equal scores in two validations

FRACTIONS = ("d1", "d2", "d3", "mask_iou", "mask_dice", "mask_boundary_f", "recall", "precision")
ERRORS = (
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "mse", "mae", "log10", "residual", "residual_unwarped"),
    *("mask_mae", "mask_bce"),
)
ROUNDING = 1e-6  # rounding by which a score may leave its range

MAIN_ERRORS = ("residual", "depth_and_mask_error", "rotation_error_deg_of_all", "abs_rel", "rmse")
"""Errors that judge a validation, in the order of preference: the first one that was computed counts."""

RISING_VALIDATIONS = 3  # consecutive validations in which an error rises while the loss falls
MIN_OVERFIT = 1.1  # error of the last validation over the run's minimum
EMPTY_VALIDATIONS = 3  # consecutive validations, since early ones may detect nothing

OF_FOUND_OBJECTS = {  # need a detected object
    *("precision", "iou_3d", "rotation_error_deg", "rotation_error_deg_median"),
    *("translation_error_cm", "translation_error_cm_median"),
}

OF_TRUE_OBJECTS = re.compile(r"mask_iou|rotation_error_deg_of_all|recall.*|ap_.*")  # need a labeled object
MAX_SCALE_RATIO = 2.0  # error of depth in metres over scaled depth's: beyond it the scale is wrong
MAX_ABS_REL = 0.3  # relative error of depth in metres
MAX_SIGMA_BIAS = 2.0  # residual over Sigma, or its inverse: 1 is calibrated, learning 1.2
MIN_MASK_IOU = 0.05  # learning .94
MIN_IOU_GAIN = 1.5  # overlap over the overlap before, from which masks are learned
MAX_MASK_ERROR = 0.5  # mean absolute error; learning .010

VALIDATION_RULES = (
    limit("C30", "mask_iou", "predicted and true masks overlap by {:.1%}", at_least=MIN_MASK_IOU,
          improves=lambda value, before: value > MIN_IOU_GAIN * before),
    limit("C30", "mask_mae", "{:.0%} of the mask is wrong", at_most=MAX_MASK_ERROR),
    Rule("U05", "residual_spearman", lambda value: value < 0,
         "Sigma rises as the residual falls, with a rank correlation of {:.2f}", "above 0"),
    Rule("U06", "residual_over_sigma", lambda value: not 1 / MAX_SIGMA_BIAS <= value <= MAX_SIGMA_BIAS,
         "residuals are {:.2g} times Sigma, on average", f"within a factor of {MAX_SIGMA_BIAS:g} of 1"),
)  # fmt: skip
"""Limits of validation scores, which `ValidationRule` applies."""

MAX_FORGETTING = 1.1  # residual of a dataset over its minimum in the run
MAX_SCALE_SPREAD = 1.25  # largest over smallest factor from predicted to true motion
MAX_TRAINED_RESIDUAL = 0.8  # residual over the unwarped one: above it the scale has no meaning yet


class RmseMonitor(Monitor):
    """Warn if `val/rmse` is not the root of `val/mse`, which means that one is averaged wrongly (finding C11)."""

    def on_row(self, step: int, row: Row) -> Finding | None:
        rmse, mse = row.get("val/rmse"), row.get("val/mse")
        if rmse is None or mse is None or not (math.isfinite(rmse) and math.isfinite(mse)):
            return None
        root = max(mse, 0.0) ** 0.5
        if abs(rmse - root) <= MAX_RMSE_GAP * root:
            return None
        measured = f"val/rmse is {rmse:.4g}, the root of val/mse {root:.4g}"
        return warn_at(step, "C11", measured, f"both within {MAX_RMSE_GAP:.0%}", rmse=rmse, root=root)


class FrozenScoresMonitor(Monitor):
    """Warn if consecutive validations give equal scores, so that scores do not follow the weights (finding C12)."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}

    def on_row(self, step: int, row: Row) -> Finding | None:
        scores = {name: value for name, value in row.items() if name.startswith("val/") and math.isfinite(value)}
        if not scores:
            return None
        before, self.before = self.before, scores
        is_perfect = all(value in (0.0, 1.0) for value in scores.values())
        if len(scores) < MIN_FROZEN_SCORES or scores != before or is_perfect:
            return None
        measured = f"all {len(scores)} scores equal the scores of the validation before"
        return warn_at(step, "C12", measured, "scores that follow the weights", **dict(list(scores.items())[:5]))


class ScoreRangeMonitor(Monitor):
    """Warn of impossible validation scores (finding T12).

    These are shares outside [0, 1], negative errors, and accuracies d1, d2, d3 that fall although their tolerance is
    wider.
    """

    def on_row(self, step: int, row: Row) -> Finding | None:
        values = {name: value for name, value in row.items() if name.startswith("val/") and not math.isnan(value)}
        scores = {name.rpartition("/")[2]: value for name, value in values.items()}
        fractions = {name: scores[name] for name in FRACTIONS if name in scores}
        errors = {name: scores[name] for name in ERRORS if name in scores}
        wrong = [f"{name} {v:.4g}" for name, v in fractions.items() if not -ROUNDING <= v <= 1 + ROUNDING]
        wrong += [f"{name} {v:.4g}" for name, v in errors.items() if v < -ROUNDING]
        for strict, loose in pairwise(name for name in ("d1", "d2", "d3") if name in scores):
            if scores[strict] > scores[loose] + ROUNDING:
                wrong.append(f"{strict} {scores[strict]:.4g} and {loose} {scores[loose]:.4g}")
        if not wrong:
            return None
        expected = "fractions in [0, 1], errors of 0 or more, d1 <= d2 <= d3"
        return warn_at(step, "T12", f"the validation has {'; '.join(wrong)}", expected, **fractions, **errors)


class TrainingCourse:
    """Collect pairs of a training value and a validation error, to see whether one falls while the other rises.

    The training value is the median since the validation before.
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self.pairs: list[tuple[float, float]] = []

    def add_validation(self, error: float) -> None:
        """Pair a validation error with the median training value since the validation before."""
        self.pairs.append((statistics.median(self.values), error))
        self.values = []

    @property
    def last(self) -> list[tuple[float, float]]:
        """The last pairs of training value and validation error."""
        return self.pairs[-RISING_VALIDATIONS - 1 :]

    @property
    def diverges(self) -> bool:
        """Whether the training value fell and the error rose in the last RISING_VALIDATIONS validations."""
        steps = list(pairwise(self.last))
        return len(steps) >= RISING_VALIDATIONS and all(b[0] < a[0] and b[1] > a[1] for a, b in steps)


class OverfittingMonitor(Monitor):
    """Warn if the validation error rises in several validations while the training loss falls (finding T13)."""

    def __init__(self) -> None:
        self.course = TrainingCourse()

    def on_row(self, step: int, row: Row) -> Finding | None:
        if math.isfinite(loss := row.get("train/loss", math.nan)):
            self.course.values.append(loss)
        name = next((name for name in MAIN_ERRORS if math.isfinite(row.get(f"val/{name}", math.nan))), None)
        if name is None or not self.course.values:
            return None
        error = row[f"val/{name}"]
        self.course.add_validation(error)
        least, last = min(error for _, error in self.course.pairs), self.course.last
        if error <= MIN_OVERFIT * least or not self.course.diverges:
            return None
        measured = f"val/{name} is {error:.4g}, {error / least:.2f} times its minimum; it rose in {RISING_VALIDATIONS} "
        measured += f"validations, while train/loss fell from {last[0][0]:.4g} to {last[-1][0]:.4g}"
        course = {"train/loss": [value for value, _ in last], f"val/{name}": [error for _, error in last]}
        return warn_at(step, "T13", measured, f"at most {MIN_OVERFIT:g} times", course=course)


class RotationMonitor(Monitor):
    """Warn if the angle between predicted and true rotations rises while the rotation loss falls (finding O20)."""

    def __init__(self) -> None:
        self.course = TrainingCourse()

    def on_row(self, step: int, row: Row) -> Finding | None:
        if (term := row.get("train/term/rotation")) is not None:
            self.course.values.append(term)
        angle = row.get("val/rotation_error_deg")
        if angle is None or not math.isfinite(angle) or not self.course.values:
            return None
        self.course.add_validation(angle)
        if not self.course.diverges:
            return None
        last = self.course.last
        measured = f"rotations of detected objects are {angle:.0f} degrees off, {last[0][1]:.0f} before, while "
        measured += f"the term 'rotation' fell from {last[0][0]:.3g} to {last[-1][0]:.3g}"
        course = {"term": [value for value, _ in last], "degrees": [angle for _, angle in last]}
        return warn_at(step, "O20", measured, "an angle that falls with the term", course=course)


class DetectionMonitor(ValidationMonitor):
    """Warn of validations that find no labeled object (finding O21)."""

    min_rows = EMPTY_VALIDATIONS

    def read(self, row: Row) -> Reading | None:
        objects, detected = row.get("val/objects"), row.get("val/found")
        if objects is None or detected is None:
            return None
        measured, expected = f"0 of {objects:.0f} objects are detected", "masks that overlap with objects by half"
        return Reading("O21", objects > 0 and detected == 0, measured, expected, {"objects": objects})


class NanScoreMonitor(Monitor):
    """Warn of validation scores that are NaN or infinite (finding T17).

    They must be so in EMPTY_VALIDATIONS validations, or in one validation after they were finite.
    """

    def __init__(self) -> None:
        self.persists: defaultdict[str, PersistenceCounter] = defaultdict(lambda: PersistenceCounter(EMPTY_VALIDATIONS))
        self.finite: set[str] = set()

    def on_row(self, step: int, row: Row) -> Finding | None:
        scores = {
            name: value for name, value in row.items() if name.startswith("val/") and not _lacks_objects(name, row)
        }
        bad = {name for name, value in scores.items() if not math.isfinite(value)}
        self.finite |= scores.keys() - bad
        persistent = {name for name in scores if self.persists[name](step, row, name in bad)}
        names = [name for name in scores if name in persistent or (name in bad and name in self.finite)]
        if not names:
            return None
        measured = ", ".join(f"{name} is {scores[name]:g}" for name in names)
        return warn_at(step, "T17", measured, "a finite score in each validation", where=names)


def _lacks_objects(name: str, row: Row) -> bool:
    """Return whether a score needs objects, and the validation has no such object."""
    score = name.removeprefix("val/")
    has_none = row.get("val/found") == 0 and score in OF_FOUND_OBJECTS
    return has_none or (row.get("val/objects") == 0 and OF_TRUE_OBJECTS.fullmatch(score) is not None)


class MetricScaleMonitor(ValidationMonitor):
    """Warn if predicted metric depth has the right shape but a wrong scale that does not improve (finding H19)."""

    before = math.nan

    def read(self, row: Row) -> Reading | None:
        metric, scaled = row.get("val/abs_rel"), row.get("val/abs_rel_scaled")
        if metric is None or scaled is None:
            return None
        before, self.before = self.before, metric
        is_off = metric > MAX_ABS_REL and metric > MAX_SCALE_RATIO * scaled
        measured = f"depth is {metric:.0%} off in metres, and {scaled:.0%} after scaling"
        expected = f"at most {MAX_SCALE_RATIO:g} times the scaled error, or {MAX_ABS_REL:.0%}"
        evidence = {"abs_rel": metric, "abs_rel_scaled": scaled}
        return Reading("H19", is_off and not metric < IMPROVES * before, measured, expected, evidence)


class ForgettingMonitor(Monitor):
    """Warn if the residual of a dataset rises above its minimum, as training on others makes it worse (finding T04).

    It reads `val/NAME/residual` of each dataset NAME.
    """

    def __init__(self) -> None:
        self.least: dict[str, float] = {}

    def on_row(self, step: int, row: Row) -> Finding | None:
        residuals = scores_by_data_set(row, "residual")
        worse = {name: value / self.least[name] for name, value in residuals.items() if self.least.get(name, 0.0) > 0}
        self.least |= {name: min(value, self.least.get(name, value)) for name, value in residuals.items()}
        name = max(worse, key=worse.__getitem__, default="")
        if not name or worse[name] <= MAX_FORGETTING:
            return None
        measured = f"the residual of dataset {name} is {worse[name]:.2f} times its minimum in this run"
        expected = f"at most {MAX_FORGETTING:g} times"
        return warn_at(step, "T04", measured, expected, where=[name], times=worse[name], residual=residuals[name])


class DataSetScaleMonitor(Monitor):
    """Warn if depth has a different scale for different datasets that are trained together (finding T05).

    It compares `val/NAME/motion_scale`, the factor from predicted to true translations of dataset NAME, in two
    validations.
    """

    def __init__(self) -> None:
        self.before = 1.0

    def on_row(self, step: int, row: Row) -> Finding | None:
        residuals, unwarped = scores_by_data_set(row, "residual"), scores_by_data_set(row, "residual_unwarped")
        if not residuals:
            return None  # The row has no validation.
        both = residuals.keys() & unwarped.keys()
        trained = {name for name in both if residuals[name] < MAX_TRAINED_RESIDUAL * unwarped[name]}
        scales = scores_by_data_set(row, "motion_scale")
        scales = {name: scale for name, scale in scales.items() if name in trained and scale > 0}
        spread = max(scales.values()) / min(scales.values()) if len(scales) > 1 else 1.0
        persistent, self.before = min(spread, self.before), spread
        if persistent <= MAX_SCALE_SPREAD:
            return None
        factors = ", ".join(f"{name} {scale:.3g}" for name, scale in scales.items())
        measured = f"the scale from predicted to true motion differs between datasets: {factors}"
        expected = f"factors within {MAX_SCALE_SPREAD:g} times each other"
        return warn_at(step, "T05", measured, expected, where=list(scales), apart=spread, **scales)


def scores_by_data_set(row: Row, score: str) -> dict[str, float]:
    """Return a validation score of each dataset, `val/NAME/SCORE`, by the name of the dataset.

    row: logged values by name.
    score: name of the score, such as "residual".
    """
    matches = ((re.fullmatch(f"val/([^/]+)/{score}", name), value) for name, value in row.items())
    return {match[1]: value for match, value in matches if match}


SCORE_MONITORS: tuple[type, ...] = (
    RmseMonitor,
    FrozenScoresMonitor,
    ScoreRangeMonitor,
    NanScoreMonitor,
    OverfittingMonitor,
    RotationMonitor,
    DetectionMonitor,
    MetricScaleMonitor,
    ForgettingMonitor,
    DataSetScaleMonitor,
)
"""Classes of the monitors of validation scores. Each training creates one monitor of each class."""
