"""Monitors of validation scores."""

import math
import re
import statistics
from collections import defaultdict
from itertools import pairwise

from stadia.diagnostics.finding import Finding
from stadia.diagnostics.monitors.persistence import (
    IMPROVES,
    Monitor,
    PersistenceCounter,
    Reading,
    Row,
    Rule,
    ValidationMonitor,
    limit,
    warn_at,
)

MAX_RMSE_GAP = 0.01  # between val/rmse and the root of val/mse, over the root
MIN_FROZEN_SCORES = 3  # equal scores in two validations

FRACTIONS = ("d1", "d2", "d3", "mask_iou", "mask_dice", "mask_boundary_f", "recall", "precision")
ERRORS = (
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "mse", "mae", "log10", "residual", "residual_unwarped"),
    *("mask_mae", "mask_bce"),
)
ROUNDING = 1e-6  # rounding by which a score may leave its range

MAIN_ERRORS = ("residual", "depth_and_mask_error", "rotation_error_deg_of_all", "abs_rel", "rmse")
"""Errors that judge a validation; the first available one counts."""

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
         "Sigma is larger where the residual is smaller, with a rank correlation of {:.2f}", "above 0"),
    Rule("U06", "residual_over_sigma", lambda value: not 1 / MAX_SIGMA_BIAS <= value <= MAX_SIGMA_BIAS,
         "residuals are {:.2g} times Sigma, on average", f"within a factor of {MAX_SIGMA_BIAS:g} of 1"),
)  # fmt: skip
"""See `ValidationRule`."""

MAX_FORGETTING = 1.1  # residual of a data set over its minimum in the run
MAX_SCALE_SPREAD = 1.25  # largest over smallest factor from predicted to true motion
MAX_TRAINED_RESIDUAL = 0.8  # residual over the unwarped one: above it the scale has no meaning yet


class RmseMonitor(Monitor):
    """C11: compares `val/rmse` with the root of `val/mse`."""

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
    """C12: compares the scores of consecutive validations."""

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
    """T12: fractions outside [0, 1], errors below 0, and accuracies that fall with a wider tolerance."""

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
    """Pairs each validation with the median of a training value since the validation before."""

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
    """T13: the validation error rises repeatedly while the training loss falls."""

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
    """O20: the angle between predicted and true rotations rises while the rotation loss falls."""

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
    """O21: validations with objects but without detections."""

    min_rows = EMPTY_VALIDATIONS

    def read(self, row: Row) -> Reading | None:
        objects, detected = row.get("val/objects"), row.get("val/found")
        if objects is None or detected is None:
            return None
        measured, expected = f"0 of {objects:.0f} objects are detected", "masks that overlap with objects by half"
        return Reading("O21", objects > 0 and detected == 0, measured, expected, {"objects": objects})


class NanScoreMonitor(Monitor):
    """T17: scores that are not finite in EMPTY_VALIDATIONS validations, or in one after they were finite."""

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
    """H19: metric depth has the correct shape but the wrong scale, and does not improve."""

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
    """T04: compares the `val/NAME/residual` of each data set with its minimum."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}

    def on_row(self, step: int, row: Row) -> Finding | None:
        residuals = scores_by_data_set(row, "residual")
        worse = {name: value / self.least[name] for name, value in residuals.items() if self.least.get(name, 0.0) > 0}
        self.least |= {name: min(value, self.least.get(name, value)) for name, value in residuals.items()}
        name = max(worse, key=worse.__getitem__, default="")
        if not name or worse[name] <= MAX_FORGETTING:
            return None
        measured = f"the residual of data set {name} is {worse[name]:.2f} times its minimum in this run"
        expected = f"at most {MAX_FORGETTING:g} times"
        return warn_at(step, "T04", measured, expected, where=[name], times=worse[name], residual=residuals[name])


class DataSetScaleMonitor(Monitor):
    """T05: compares the `val/NAME/motion_scale` of trained data sets, over two validations."""

    def __init__(self) -> None:
        self.before = 1.0

    def on_row(self, step: int, row: Row) -> Finding | None:
        residuals, unwarped = scores_by_data_set(row, "residual"), scores_by_data_set(row, "residual_unwarped")
        if not residuals:
            return None  # no validation
        both = residuals.keys() & unwarped.keys()
        trained = {name for name in both if residuals[name] < MAX_TRAINED_RESIDUAL * unwarped[name]}
        scales = scores_by_data_set(row, "motion_scale")
        scales = {name: scale for name, scale in scales.items() if name in trained and scale > 0}
        spread = max(scales.values()) / min(scales.values()) if len(scales) > 1 else 1.0
        persistent, self.before = min(spread, self.before), spread
        if persistent <= MAX_SCALE_SPREAD:
            return None
        factors = ", ".join(f"{name} {scale:.3g}" for name, scale in scales.items())
        measured = f"the scale from predicted to true motion differs between data sets: {factors}"
        expected = f"factors within {MAX_SCALE_SPREAD:g} times each other"
        return warn_at(step, "T05", measured, expected, where=list(scales), apart=spread, **scales)


def scores_by_data_set(row: Row, score: str) -> dict[str, float]:
    """Return `val/NAME/score` by the name of the data set."""
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
"""One instance of each per run."""
