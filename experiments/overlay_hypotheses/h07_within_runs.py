"""Test H7 within one run: whether the mask converges before depth. Reads runs that validated often, and trains
nothing.

    stadia ablate experiments/overlay_hypotheses/h07.yaml
    python experiments/overlay_hypotheses/h07_within_runs.py studies/h07

For each run: the step after which an error (the mask's mean error; AbsRel of depth) stays within a tenth of its total
decrease from its last value. The two steps are compared seed by seed, by the test of `stadia ablate`.
"""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stadia.metrics.statistics import judge_changes
from stadia.report.run_files import Series, read_run
from stadia.training.studies.config import BASE
from stadia.training.studies.study_folder import StudyFolder

LEFT = 0.1


def arrived(steps: list[int], errors: list[float]) -> int:
    """Return the step after which no error is further above the last one than LEFT of the first one's distance
    to it.
    """
    values = np.asarray(errors)
    away = np.flatnonzero(values - values[-1] > LEFT * (values[0] - values[-1]))
    return steps[away[-1] + 1] if len(away) else steps[0]


def main(root: Path) -> None:
    """Print a line per change of the study."""
    folder = StudyFolder(root)
    for change in (BASE, *folder.study.changes):
        mask, depth = {}, {}
        for seed in folder.study.seeds:
            run = folder.find(f"{change}-seed{seed}")
            if run is None:
                sys.exit(f"{root} has no run {change}-seed{seed}: train it with stadia ablate first")
            series: dict[str, Series] = {one.name: one for one in read_run(run).series}
            mae, abs_rel = series["val/mask_mae"], series["val/abs_rel"]
            mask[seed] = float(arrived(mae.steps, mae.values))
            depth[seed] = float(arrived(abs_rel.steps, abs_rel.values))
        (verdict,) = judge_changes(mask, {"depth": depth}, better="lower", expected={"depth": "worse"})
        found = verdict.difference
        assert found is not None, "a study has three seeds at least"
        print(
            f"{change}: mask after {verdict.base:.0f} steps ({', '.join(f'{x:.0f}' for x in mask.values())}), depth"
            f" after {verdict.changed:.0f} ({', '.join(f'{x:.0f}' for x in depth.values())}): depth {found.mean:+.0f}"
            f" steps, 95 % interval [{found.low:.0f}, {found.high:.0f}], n = {found.n}, p = {found.p:.2g}. H7, the mask"
            f" converges first: {verdict.decision}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
