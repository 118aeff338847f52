"""Simulate studies: how often an ablation reports an effect where there is none, and how often it detects a real one.

    python experiments/null_studies.py
    python experiments/null_studies.py --studies 2000 --changes 1 --seeds 3 5 10

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
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stadia.metrics.statistics import compute_power, judge_changes

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


def tolerance(studies: int, rate: float = 0.05, sure: float = 0.99) -> int:
    """Return the largest number of wrong studies that is no sign of a rate above `rate`."""
    return int(stats.binom.ppf(sure, studies, rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--changes", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--effect", type=float, default=2.0, help="in standard deviations of a run's own noise")
    arguments = parser.parse_args()
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
