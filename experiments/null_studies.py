"""Simulate studies: how often an ablation reports an effect where there is none, and how often it detects a real one.

    python experiments/null_studies.py
    python experiments/null_studies.py --studies 2000 --changes 1 --seeds 3 5 10
    python experiments/null_studies.py --until 0.01 --effects 0 0.03 --sd 0.01

No network is trained. The metric of every run is drawn at random, and the function of `stadia ablate` evaluates it
(`stadia.metrics.statistics.judge_changes`). Noise of a run is one of
- normal;
- heavy-tailed: Student's t with 2 degrees of freedom, infinite variance;
- skewed: log-normal, an occasional bad run;
- two values: a metric that counts;
- "shared": normal, beside an effect of the seed on the base and all changes alike, five times as large.

Each study has several changes against one base. It is wrong if any of them is called better or worse, which may happen
in 5 % of the studies. Of N studies with exactly that rate, at most the tolerance is wrong in 99 of 100 cases
(binomial). The exact interval of the rate (Clopper-Pearson) stands beside the count. Power is that of one change,
whose effect is --effect standard deviations of a run's own noise, while the others have none.

With --until, seeds are added as `stadia ablate --until` does, and each row counts the studies that decide rightly: that
report the right direction of the effect, or an interval narrower than --until that contains it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stadia.metrics.statistics import FIRST_LOOK, compute_power, judge_changes

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
NOISES: dict[str, Draw] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "heavy tails": lambda random, shape: random.standard_t(2, shape),
    "skewed": lambda random, shape: random.lognormal(0, 1, shape),
    "two values": lambda random, shape: random.integers(0, 2, shape).astype(float),
    "shared": lambda random, shape: (
        5 * random.standard_normal((1, shape[1])) + random.standard_normal(shape)
    ),  # own draws, not normal's
}
"""(changes and base, seeds) of metrics, all of one distribution."""


def called(noise: Draw, effect: float, *, studies: int, changes: int, seeds: int, start: int = 0) -> tuple[int, int]:
    """Return over simulated studies: how many call any change without effect one, and how many detect the first
    change's effect.

    effect: added to the metric of every run of the first change; 0 for none.
    """
    wrong = found = 0
    for study in range(studies):
        values = noise(np.random.default_rng([start, study]), (changes + 1, seeds))
        values[1] += effect
        base, *changed = (dict(enumerate(map(float, row))) for row in values)
        verdicts = judge_changes(base, {f"change {k}": row for k, row in enumerate(changed)})
        wrong += any(one.decision == "confirmed" for one in verdicts[1 if effect else 0 :])
        found += effect != 0 and verdicts[0].shown == "worse"
    return wrong, found


def decide(effect: float, sd: float, *, studies: int, until: float = 0.01, max_seeds: int = 30) -> tuple[int, float]:
    """Return how many sequential studies decide rightly, and the mean number of seeds.

    effect: true mean of the differences between change and base.
    sd: standard deviation of these differences, which are normal.
    until: half-width of an interval that is narrow enough.
    """
    right, seeds = 0, list[int]()
    for study in range(studies):
        differences = np.random.default_rng([2, study]).normal(effect, sd, max_seeds)
        for number in range(FIRST_LOOK, max_seeds + 1):
            base, changed = dict.fromkeys(range(number), 0.0), dict(enumerate(map(float, differences[:number])))
            (verdict,) = judge_changes(base, {"change": changed}, until=until, max_seeds=max_seeds)
            if not verdict.is_open:
                break
        seeds.append(number)
        found = verdict.difference
        assert found is not None
        if verdict.shown:
            right += effect != 0 and verdict.shown == ("worse" if effect > 0 else "better")
        else:
            right += verdict.is_narrow and found.low <= effect <= found.high
    return right, float(np.mean(seeds))


def tolerance(studies: int, rate: float = 0.05, sure: float = 0.99) -> int:
    """Return the largest number of wrong studies that is no sign of a rate above `rate`."""
    return int(stats.binom.ppf(sure, studies, rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--changes", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--effect", type=float, default=2.0, help="in standard deviations of a run's own noise")
    parser.add_argument("--until", type=float, help="add seeds until the interval is narrower, or excludes 0")
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.01, 0.02, 0.03])
    parser.add_argument("--sd", type=float, default=0.01, help="of the differences, with --until")
    arguments = parser.parse_args()
    if arguments.until is not None:
        for effect in arguments.effects:
            right, seeds = decide(effect, arguments.sd, studies=arguments.studies, until=arguments.until)
            share = f"{right} of {arguments.studies} = {right / arguments.studies:.1%}"
            print(f"effect {effect:g}, sd {arguments.sd:g}: decided rightly {share}, {seeds:.1f} seeds")
        return
    sizes = {"studies": arguments.studies, "changes": arguments.changes}
    most = tolerance(arguments.studies)
    print(
        f"{arguments.studies} studies of {arguments.changes} changes a row;"
        f" up to {most} wrong ones are within 5 % (binomial, 99 %)"
    )
    print(
        f"{'noise':12} {'seeds':>5} {'called an effect, of none':>27} {'':8}"
        f" {'found, of ' + format(arguments.effect, 'g') + ' sd':>18}"
    )
    for name, noise in NOISES.items():
        for seeds in arguments.seeds:
            wrong, _ = called(noise, 0.0, seeds=seeds, **sizes)
            _, found = called(noise, arguments.effect, seeds=seeds, start=1, **sizes)
            interval = stats.binomtest(wrong, arguments.studies).proportion_ci()
            rate = f"{wrong:4} = {wrong / arguments.studies:5.1%} [{interval.low:.1%}, {interval.high:.1%}]"
            verdict = "within" if wrong <= most else "TOO MANY"
            print(f"{name:12} {seeds:5} {rate:>27} {verdict:8} {found:6} = {found / arguments.studies:6.1%}")
    print()
    for seeds in arguments.seeds:  # two runs' noises make up a difference's
        expected = compute_power(arguments.effect, 2**0.5, seeds, alpha=0.05 / arguments.changes)
        print(f"power by theory (noncentral t), normal noise, {seeds} seeds, Holm's first step: {expected:.1%}")


if __name__ == "__main__":
    main()
