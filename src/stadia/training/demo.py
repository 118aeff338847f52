"""Demos from nothing: train on videos of synthetic road worlds, and score unseen worlds.

`run_demo` learns depth and motion from stereo video, `run_metric_demo` metres from one camera.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stadia.core.errors import RunError
from stadia.core.memory import peak_memory_bytes
from stadia.core.terminal import Terminal
from stadia.core.types import DepthScale, Recording
from stadia.data.config import CacheConfig
from stadia.data.frame_preparation import frame_name
from stadia.data.mask_files import ROAD, resize_labels
from stadia.data.open_dataset import open_recordings
from stadia.evaluation.depth_score import DepthScore, collect_scores
from stadia.evaluation.image_score import ImageScore, score_image
from stadia.evaluation.plots.depth_comparison import draw_depth_comparison
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.protocols import PROTOCOLS
from stadia.evaluation.recording_scores import RecordingScores
from stadia.geometry.cameras import resize_camera
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.io.atomic_files import write_json
from stadia.io.image_io import write_image
from stadia.io.input_files import safe_join
from stadia.predict.mean_depth import average_recordings
from stadia.synthetic.config import ROADWORLD_DEMO
from stadia.synthetic.roadworld.roadworld_writer import DEMO_FRAMES, render_demo_worlds
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.prediction.validation import score_recordings
from stadia.training.recipes import CONFIGS, configure
from stadia.training.recipes.base.build_recipe import load_predictor, load_recipe
from stadia.training.recipes.base.video_data import report_progress
from stadia.training.recipes.metric.recipe import MetricRecipe
from stadia.training.workflow import train

MINUTES = "about 18 minutes on one core, less on two"
TRUE_CAMERA_M = ROADWORLD_DEMO.camera_height_m[0]
IMAGE = Path("predictions", "with-and-without-metres", "drawn", "unseen-worlds.png")
"""The report shows this image, which is in the second run's folder."""
MAX_ROWS = 3
"""Rows of the image: the middle frame of each world."""

PRESETS = {"selfsup": "metric-demo-start", "metric": "metric-demo"}
"""Presets of the two trainings of `run_metric_demo`, by recipe."""


@dataclass(frozen=True)
class DemoResult:
    """A run, and the content of its result.json."""

    run: Run
    result: dict[str, Any]


def run_demo(out: Path, overrides: Sequence[str] = ()) -> DemoResult:
    """Render, train, score, and write result.json into the run's folder in `out`.

    overrides: `dotted.key=value` over the preset "demo".
    """
    started = time.monotonic()
    console = Terminal(stderr=True)
    worlds = render_worlds(console)
    config = configure("selfsup", overrides, preset="demo", data={"path": str(worlds)})
    trained = train(config, out=out)
    test, predictor = open_recordings(worlds, split="test"), load_predictor(trained.folder, flip=True)
    aligned, network = (
        Provenance.from_checkpoint(open_checkpoint(trained.folder), motion).model_copy(update={"flip": True})
        for motion in ("aligned", "network")
    )
    scores = score_recordings(predictor, test, trained, "test", aligned, console)
    network_scores = score_recordings(predictor, test, trained, "test-network", network, console)
    baseline = _score_mean_depth(worlds, test, trained, console)
    assert scores is not None
    assert network_scores is not None
    wall_s, peak_rss_mb = time.monotonic() - started, peak_memory_bytes() / (1 << 20)
    result = summarize_demo(scores, network_scores, baseline, wall_s=wall_s, peak_rss_mb=peak_rss_mb)
    write_json(trained.folder / "result.json", result)
    return DemoResult(trained, result)


def render_worlds(console: Console) -> Path:
    """Return the folder of the demo worlds, rendered into the cache if missing."""
    what, done = f"rendering RoadWorld, {DEMO_FRAMES} frames, or reading them from the cache", 0
    with report_progress(console, log=True) as progress:
        progress(what, done, DEMO_FRAMES)

        def advance(frames: int) -> None:
            nonlocal done
            done += frames
            progress(what, done, DEMO_FRAMES)

        return render_demo_worlds(CacheConfig(), advance)


def _score_mean_depth(worlds: Path, test: Sequence[Recording], trained: Run, console: Console) -> RecordingScores:
    mean = average_recordings(open_recordings(worlds, split="train"), ROADWORLD_DEMO.height, ROADWORLD_DEMO.width)
    provenance = Provenance(recipe="mean-depth", config_hash="")
    scores = score_recordings(mean, test, trained, "test-mean-depth", provenance, console)
    if scores is None or scores.depth is None:
        expected, fix = "depth and poses of every frame", "delete the folder and run again"
        raise RunError(worlds, found="no ground truth", expected=expected, fix=fix)
    return scores


def summarize_demo(
    scores: RecordingScores, network: RecordingScores, baseline: RecordingScores, *, wall_s: float, peak_rss_mb: float
) -> dict[str, Any]:
    """Return the content of result.json.

    Odometry shows the test world with the largest ATE over path length, SE(3)-aligned. For each method the largest ATE
    over path length is given; None without a trajectory.

    scores: scores of the trained recipe.
    network: the same, with the trajectory of the pose network.
    baseline: scores of the mean depth.
    wall_s: seconds since the start.
    peak_rss_mb: peak memory of this process and its children (`peak_memory_bytes`).
    """
    assert scores.depth is not None
    assert baseline.depth is not None
    worst = max(scores.odometry, key=lambda name: _ate_over_path(scores, name) or 0.0, default="")
    path = scores.odometry[worst].summary() if worst else {}
    ways = {"": scores, "_network": network, "_mean_baseline": baseline}
    return {
        "depth_scale": str(scores.depth.depth_scale),
        "flip": True,
        "protocol": scores.depth.protocol,
        "depth": _score_numbers(scores.depth)
        | {f"{name}_mean_baseline": value for name, value in baseline.depth.metrics.items()},
        "odometry": {
            "recording": worst or None,
            "recordings": len(scores.odometry),
            "ate_m": path.get("ate_rmse_m"),
            **{key: path.get(key) for key in ("path_m", "align", "rpe_trans_m", "rpe_rot_deg")},
            **{
                f"worst_ate_over_path{way}": _worst_ate_over_path(evaluated, list(scores.odometry))
                for way, evaluated in ways.items()
            },
        },
        "wall_s": round(wall_s, 1),
        "peak_rss_mb": round(peak_rss_mb, 1),
    }


def _score_numbers(score: DepthScore) -> dict[str, Any]:
    ratio = {"scale_ratio_median": score.scale_ratio_median, "scale_ratio_spread": score.scale_ratio_spread}
    return {**score.metrics, **ratio, "images": len(score.per_image)}


def _ate_over_path(evaluation: RecordingScores, recording: str) -> float | None:
    path = evaluation.odometry.get(recording)
    ate_m = path.metrics["ate_rmse_m"] if path else None
    return None if path is None or ate_m is None else ate_m / path.path_m


def _worst_ate_over_path(evaluation: RecordingScores, recordings: Sequence[str]) -> float | None:
    shares = [_ate_over_path(evaluation, recording) for recording in recordings]
    known = [share for share in shares if share is not None]
    return max(known) if known and len(known) == len(shares) else None


# -- metres from one camera


@dataclass(frozen=True)
class ScoredDepth:
    """Scores of depth of unseen worlds.

    as_metres: scores of the depth taken as metres, for any depth scale.
    median_scaled: scores with each image scaled by the ratio of medians.
    camera_m: camera height in predicted depth, median over images; NaN without a road.
    """

    depth_scale: DepthScale
    as_metres: DepthScore
    median_scaled: DepthScore
    camera_m: float


def run_metric_demo(out: Path, overrides: Sequence[str] = ()) -> DemoResult:
    """Render, train twice, score, draw, and write result.json into the second run's folder in `out`.

    overrides: `dotted.key=value` over the presets.
    """
    started = time.monotonic()
    console = Terminal(stderr=True)
    console.print(f"two trainings, without and with metres: {MINUTES}", highlight=False, soft_wrap=True)
    worlds = render_worlds(console)
    plain = train(_make_config("selfsup", overrides, worlds), out=out)
    metres = train(_make_config("metric", (*overrides, f"start_from={plain.folder}"), worlds), out=out)
    test = open_recordings(worlds, split="test")
    of_plain, of_metres = (_predict_and_score(run, test, console) for run in (plain, metres))
    baseline = _score_mean_depth(worlds, test, metres, console)
    assert baseline.depth is not None
    recipe = load_recipe(metres.folder)
    assert isinstance(recipe, MetricRecipe)
    known = recipe.camera_height_m[recipe.camera_height_m.isfinite()]
    learnt_m = round(float(known.median()), 4) if len(known) else None
    wall_s, peak_rss_mb = time.monotonic() - started, peak_memory_bytes() / (1 << 20)
    result = summarize_metric_demo(
        of_plain, of_metres, baseline.depth, learnt_m=learnt_m, wall_s=wall_s, peak_rss_mb=peak_rss_mb
    )
    _write_comparison(plain, metres, test, of_plain, of_metres, learnt_m)
    write_json(metres.folder / "result.json", result)
    return DemoResult(metres, result)


def _make_config(recipe: str, overrides: Sequence[str], worlds: Path) -> Any:
    known = CONFIGS.load(recipe).model_fields
    every = {field for name in PRESETS for field in CONFIGS.load(name).model_fields}
    mine = [
        word for word in overrides if (key := word.partition("=")[0].partition(".")[0]) in known or key not in every
    ]
    return configure(recipe, mine, preset=PRESETS[recipe], data={"path": str(worlds)})


def _predict_and_score(trained: Run, test: Sequence[Recording], console: Console) -> ScoredDepth:
    score_recordings(
        load_predictor(trained.folder),
        test,
        trained,
        "test",
        Provenance.from_checkpoint(open_checkpoint(trained.folder)),
        console,
    )
    return score_predictions(trained.folder / "predictions" / "test", test)


def score_predictions(folder: Path, recordings: Sequence[Recording]) -> ScoredDepth:
    """Score predictions of recordings with ground truth and masks, as metres and median-scaled."""
    metric, relative = PROTOCOLS["metric"], PROTOCOLS["relative"]
    as_metres, median_scaled = list[tuple[str, ImageScore | None]](), list[tuple[str, ImageScore | None]]()
    heights = []
    for recording in recordings:
        predictions = Predictions.open(safe_join(folder, recording.name))
        index_of = {frame_name(recording, index): index for index in range(len(recording))}
        for name in predictions.files:
            index, depth = index_of[name], predictions.read(name)
            true_m, called = recording.depth_m(index), f"{recording.name}/{name}"
            if true_m is None:
                continue
            as_metres.append((called, score_image(called, depth, true_m, DepthScale.METRES, metric)))
            median_scaled.append((called, score_image(called, depth, true_m, DepthScale.UP_TO_SCALE, relative)))
            heights.append(measure_camera_height(depth, recording, index))
    return ScoredDepth(
        depth_scale=predictions.depth_scale,
        as_metres=collect_scores(as_metres, DepthScale.METRES, metric),
        median_scaled=collect_scores(median_scaled, DepthScale.UP_TO_SCALE, relative),
        camera_m=float(np.nanmedian(heights)),
    )


def measure_camera_height(depth: NDArray[np.floating], recording: Recording, index: int) -> float:
    """Return the camera height in predicted depth (h, w) of a frame, in its unit; NaN without road."""
    masks = recording.masks(index)
    if masks is None or recording.mask_reader is None:
        return float("nan")
    height, width = depth.shape
    numbers = [number for number, name in recording.mask_reader.classes.items() if name == ROAD]
    road = np.isin(resize_labels(masks.semantic.astype(np.int32), height, width), numbers)[None, None]
    camera = resize_camera(recording.camera(index), height, width)
    depth_map = depth.astype(np.float32)[None, None]
    return float(road_pixel_heights(depth_map, camera, erode_mask(road)).median_height[0])


def summarize_metric_demo(
    plain: ScoredDepth,
    metres: ScoredDepth,
    baseline: DepthScore,
    *,
    learnt_m: float | None,
    wall_s: float,
    peak_rss_mb: float,
) -> dict[str, Any]:
    """Return the content of result.json.

    plain, metres: scores of the trainings without and with metres.
    baseline: scores of the mean depth of each pixel.
    learnt_m: estimated camera height, metres; None without one.
    """
    return {
        "depth_scale": str(metres.depth_scale),
        "protocol": metres.as_metres.protocol,
        "depth": _score_numbers(metres.as_metres)
        | {f"{name}_mean_baseline": value for name, value in baseline.metrics.items()},
        "median_scaled": {"abs_rel": metres.median_scaled.metrics["abs_rel"]},
        "without_metres": _score_numbers(plain.as_metres)
        | {"abs_rel_median_scaled": plain.median_scaled.metrics["abs_rel"]},
        "camera_height": {
            "true_m": TRUE_CAMERA_M,
            "learnt_m": learnt_m,
            "in_depth_m": round(metres.camera_m, 4),
            "in_depth_without_metres_m": round(plain.camera_m, 4),
        },
        "wall_s": round(wall_s, 1),
        "peak_rss_mb": round(peak_rss_mb, 1),
    }


def _write_comparison(
    plain: Run,
    metres: Run,
    test: Sequence[Recording],
    of_plain: ScoredDepth,
    of_metres: ScoredDepth,
    learnt_m: float | None,
) -> None:
    scores = metres.folder / "scores"
    for name, score, run in (
        ("test-median-scaled", of_metres.median_scaled, metres),
        ("test-without-metres", of_plain.as_metres, plain),
    ):
        RecordingScores(score, {}).write(
            scores, name, {"checkpoint": Provenance.from_checkpoint(open_checkpoint(run.folder)).checkpoint}
        )
    names = (
        "image",
        f"without metres: a camera at {of_plain.camera_m:.2f} m",
        f"with: at {of_metres.camera_m:.2f} m" + (f", {learnt_m:.2f} m learnt" if learnt_m else ""),
        f"true: at {TRUE_CAMERA_M:.2f} m",
    )
    image = draw_depth_comparison([_comparison_row(plain, metres, recording) for recording in test[:MAX_ROWS]], names)
    write_image(metres.folder / IMAGE, image[..., ::-1])


def _comparison_row(plain: Run, metres: Run, recording: Recording) -> tuple[NDArray[np.generic], ...]:
    """Return image, depth (h, w) without and with metres, and true depth (H, W) of the middle frame."""
    index = len(recording) // 2
    maps = (Predictions.open(safe_join(run.folder / "predictions" / "test", recording.name)) for run in (plain, metres))
    depths = [predictions.read(frame_name(recording, index)) for predictions in maps]
    true_m = recording.depth_m(index)
    assert true_m is not None
    return recording.image(index), *depths, true_m
