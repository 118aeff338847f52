"""Demo from nothing: render a synthetic road world, learn depth and motion from its stereo video, score unseen worlds.

Data: 20 worlds of 25 stereo pairs for training, two for validation, four for the test, all different.
Hardware and time: two cores, no GPU, ten minutes. Expected and measured scores: docs/results.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stadia.core.errors import RunError
from stadia.core.files import write_json
from stadia.datasets.config import CacheConfig
from stadia.datasets.open_dataset import open_recordings
from stadia.evaluation.baselines import average_recordings
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.evaluation.recording_scores import RecordingScores
from stadia.recipes import configure
from stadia.recipes.base.build_recipe import load_predictor
from stadia.recipes.base.depth_commands import score_recordings
from stadia.recipes.base.dry_run import PeakMemory
from stadia.recipes.base.workflow import train
from stadia.synthetic.roadworld.config import DEMO
from stadia.synthetic.roadworld.roadworld_writer import DEMO_FRAMES, render_demo_worlds
from stadia.training.run_folder import Run


@dataclass(frozen=True)
class DemoResult:
    """run: the run.  result: content of result.json."""

    run: Run
    result: dict[str, Any]


def run_demo(out: Path, overrides: Sequence[str] = ()) -> DemoResult:
    """Render, train, score, and write result.json into the run's folder in `out`.

    overrides: `dotted.key=value` over the preset "demo".
    """
    started = time.monotonic()
    console = Console(stderr=True)
    with PeakMemory() as memory:
        worlds = render_worlds(console)
        config = configure("selfsup", overrides, preset="demo", data={"path": str(worlds)})
        trained = train(config, out=out)
        test = open_recordings(worlds, split="test")
        predictor = load_predictor(trained.folder)
        scores = score_recordings(predictor, test, trained, "test", Provenance.from_checkpoint(trained.folder), console)
        network = score_recordings(
            predictor, test, trained, "test-network", Provenance.from_checkpoint(trained.folder, "network"), console
        )
        mean = average_recordings(open_recordings(worlds, split="train"), DEMO.height, DEMO.width)
        provenance = Provenance(recipe="mean-depth", config_hash="")
        baseline = score_recordings(mean, test, trained, "test-mean-depth", provenance, console)
    if scores is None or scores.depth is None or network is None or baseline is None or baseline.depth is None:
        raise RunError(
            worlds,
            found="no ground truth",
            expected="depth and poses of every frame",
            fix="delete the folder and run again",
        )
    result = summarize_demo(scores, network, baseline, wall_s=time.monotonic() - started, peak_rss_mb=memory.mb)
    write_json(trained.folder / "result.json", result)
    return DemoResult(trained, result)


def render_worlds(console: Console) -> Path:
    """Return the folder of the demo worlds, rendered into the cache if missing. Other processes wait for the first."""
    columns = (
        TextColumn("rendering RoadWorld"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        console.print(f"rendering RoadWorld, {DEMO_FRAMES} frames, or reading them from the cache")
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=DEMO_FRAMES)
        return render_demo_worlds(CacheConfig(), lambda frames: progress.advance(bar, frames))


def summarize_demo(
    scores: RecordingScores, network: RecordingScores, baseline: RecordingScores, *, wall_s: float, peak_rss_mb: float
) -> dict[str, Any]:
    """Return the content of result.json.

    Odometry is of the test world with the largest ATE over path length, SE(3)-aligned. For each trajectory method the
    largest ATE over path length is given; None without a trajectory.

    Args:
        scores: of the trained recipe.
        network: the same, with the trajectory of the pose network.
        baseline: of the mean depth, with a trajectory aligned by it.
        wall_s: seconds since the start.
        peak_rss_mb: of all processes together.
    """
    assert scores.depth is not None
    assert baseline.depth is not None
    worst = max(scores.odometry, key=lambda name: _ate_over_path(scores, name) or 0.0, default="")
    path = scores.odometry[worst].summary() if worst else {}
    ways = {"": scores, "_network": network, "_mean_baseline": baseline}
    return {
        "depth_scale": str(scores.depth.depth_scale),
        "protocol": scores.depth.protocol,
        "depth": {
            **scores.depth.metrics,
            **{f"{name}_mean_baseline": value for name, value in baseline.depth.metrics.items()},
            "scale_ratio_median": scores.depth.scale_ratio_median,
            "scale_ratio_spread": scores.depth.scale_ratio_spread,
            "images": len(scores.depth.per_image),
        },
        "odometry": {
            "recording": worst or None,
            "ate_m": path.get("ate_rmse_m"),
            **{key: path.get(key) for key in ("path_m", "align", "rpe_trans_m", "rpe_rot_deg")},
            **{
                f"worst_ate_over_path{way}": _worst_ate_over_path(found, list(scores.odometry))
                for way, found in ways.items()
            },
        },
        "wall_s": round(wall_s, 1),
        "peak_rss_mb": round(peak_rss_mb, 1),
    }


def _ate_over_path(evaluation: RecordingScores, recording: str) -> float | None:
    """Return ATE over path length; None without a trajectory."""
    path = evaluation.odometry.get(recording)
    ate_m = path.metrics["ate_rmse_m"] if path else None
    return None if path is None or ate_m is None else ate_m / path.path_m


def _worst_ate_over_path(evaluation: RecordingScores, recordings: Sequence[str]) -> float | None:
    """Return the largest ratio over these recordings; None if one has no trajectory."""
    shares = [_ate_over_path(evaluation, recording) for recording in recordings]
    known = [share for share in shares if share is not None]
    return max(known) if known and len(known) == len(shares) else None
