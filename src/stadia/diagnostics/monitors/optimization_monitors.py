"""Monitors of the optimization: loss and its terms, gradients, updates, learning rate, timing."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from stadia.core.errors import NotFiniteError
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.monitors.persistence import (
    ROWS,
    Monitor,
    PersistenceCounter,
    PersistentMonitor,
    Reading,
    Row,
    get_logged_parts,
    limit,
    warn_at,
)

MAX_SPIKE = 10.0  # loss over the running median; learning at most 1.3
SPIKE_BATCHES = 50  # batches in the running median of the loss
MIN_SPIKE_BATCHES = 10  # batches for a median
MIN_SPIKE_DEVIATIONS = 10.0  # above the median: a loss with a logarithm crosses 0, where ratios are large
MAX_UPDATE_RATIO = 0.012  # |update| / |weight|; learning at most .0086, diverging .030
FIRST_UPDATE_STEP = 5  # Adam's first steps have full size at any gradient
STALLED_ROWS = 3  # consecutive rows with a learning rate or gradient of 0
MIN_LR_SHARE = 1e-3  # learning rate over the run's highest, below which nothing is learned
MAX_LOW_LR_SHARE = 0.1  # share of rows with such a rate; a cosine to 0 has .02
ACTIVE_LR_SHARE = 0.01  # learning rate over the run's highest, from which weights must change
MIN_UPDATE_RATIO = 1e-7  # |update| / |weight|; learning 1e-4 to 1e-2
MAX_LOADING_SHARE = 0.5  # share of a step that waits for the next batch; with a cache .02 to .05

STEP_TIME = "time/step_s"
MAX_TIME_GAP = 0.1  # between the sum of the parts and the step, over the step
MAX_TIME_GAP_S = 0.002  # the same in seconds, for short steps
TIMING_ROWS = 3  # consecutive rows, since two clocks are read at two moments
MAX_SUM_GAP = 0.01  # between the loss and the sum of its terms, over the sizes of the terms
SUM_ROWS = 3  # consecutive rows with such a difference
MIN_TERM_RANGE = 1.5  # of a term in ROWS rows: below it, its ratio to another term has no meaning
MAX_RATIO_SPREAD = 0.03  # largest over smallest ratio of two proportional terms, less 1
MIN_GRADIENT_SHARE = 0.01  # share of a term in the gradient

TERM_RULES = (
    limit("L22", "gradient_share", "the share of the gradient is {:.1%}", at_least=MIN_GRADIENT_SHARE,
          note=" of each term"),
)  # fmt: skip
"""See `PersistentPartRule`."""


class LossSpikeMonitor:
    """T01: compares the loss of each batch with the median of the batches before."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=SPIKE_BATCHES)

    def ratio_to_median(self, loss: float) -> float:
        """Return loss / running median, and add the loss to the median; 0 without a spike or median."""
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
        """Return T01 for a loss many times its median."""
        times = self.ratio_to_median(loss)
        if times <= MAX_SPIKE:
            return None
        measured = f"the loss is {loss:.4g}, {times:.3g} times the median of the batches before"
        return warn_at(step, "T01", measured, f"at most {MAX_SPIKE:g} times", where=samples, loss=loss, times=times)


class UpdateRatioMonitor(Monitor):
    """T02: checks `train/update_ratio` of each logged step, and `train/loss` of the next one."""

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
    """Return T08, the error that ended the training."""
    measured, evidence = f"{error.where}: {error.found}", {"step": step}
    return make_finding("T08", Severity.STOP, measured, error.expected, fix=error.fix, evidence=evidence)


class StallMonitor(Monitor):
    """T09, T10, T11: checks `train/lr`, `train/gradient_norm` and `train/loss` of logged steps."""

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
    """T14: checks `train/lr` of logged steps."""

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
    """T15: checks `train/update_ratio` while the learning rate is not small."""

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
    """T16: compares `time/loading_s` with `time/step_s` of logged steps."""

    def read(self, row: Row) -> Reading | None:
        loading_s, step_s = row.get("time/loading_s"), row.get(STEP_TIME)
        if loading_s is None or not step_s:
            return None
        measured = f"a step waits for the next batch {loading_s / step_s:.0%} of its time"
        evidence = {"time/loading_s": loading_s, STEP_TIME: step_s}
        is_bad = loading_s > MAX_LOADING_SHARE * step_s
        return Reading("T16", is_bad, measured, f"at most {MAX_LOADING_SHARE:.0%}", evidence)


class TimingMonitor(Monitor):
    """T06: `time/...` are inconsistent: parts by the device clock, the step by the host clock."""

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
    """L21: a `train/term/NAME` is constant and not 0 while the loss is not."""

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
    """L23: compares `train/loss` with the sum of its `train/term/NAME`."""

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
    """C10: compares the unweighted terms of logged steps pairwise."""

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
"""One instance of each per run."""
