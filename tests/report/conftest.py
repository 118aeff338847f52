"""A synthetic run folder with everything that a run can hold, and the words of its report."""

import csv
import dataclasses
import html
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.io.run_facts import RecipeFacts
from stadia.report import charts, path_charts, training_charts, uncertainty_charts

MakeRun = Callable[..., Path]


def build_page(folder: Path, **options: Any) -> str:
    return report.build_report(folder, **options).read_text(encoding="utf-8")


def read_words(page: str) -> str:
    """Return the page's words without tags, scripts and styles."""
    text = re.sub(r"<(script|style).*?</\1>", " ", page.replace("<wbr>", ""), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def build_words(folder: Path) -> str:
    """Return the words of a report without charts, which take most of the time."""
    with ExitStack() as stack:
        for module in (charts, path_charts, training_charts, uncertainty_charts):
            stack.enter_context(mock.patch.object(module, "render_svg", return_value=""))
        return read_words(build_page(folder))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_scores(folder: Path, scores: dict[str, Any]) -> Path:
    """Replace the score files of a run."""
    for file in (folder / "scores").glob("*.json"):
        file.unlink()
    for name, score in scores.items():
        write_json(folder / "scores" / f"{name}.json", score)
    return folder


def metrics_rows(steps: int) -> list[dict[str, float | str]]:
    """A loss that falls with noise, its terms, validation every 50 steps, a learning rate with warm-up and cosine."""
    random = np.random.default_rng(0)
    rows: list[dict[str, float | str]] = []
    for step in range(steps):
        loss = 0.08 + 0.3 * np.exp(-step / (steps / 5)) + 0.012 * random.standard_normal()
        row = {"step": step, "epoch": step // 100, "train/loss": loss, "train/term/photometric": 0.95 * loss}
        row |= {
            "train/term/smoothness": 0.001 + 0.002 * step / steps,
            "train/lr": 1e-3 * min(1, step / 20) * (1 + np.cos(np.pi * step / steps)) / 2,
        }
        if step % 50 == 49:
            row |= {"val/abs_rel": 0.11 + 0.4 * np.exp(-step / 90), "val/d1": 0.9 - 0.6 * np.exp(-step / 90)}
        rows.append(row)
    return rows


@cache
def encode_image(step: int) -> bytes:
    """(240, 960, 3) a sheet-like image as a PNG: gradient beside noise that fades with the step."""
    random = np.random.default_rng(step)
    ramp = np.linspace(0, 255, 480, dtype=np.float64)[None, :, None] * np.array([0.3, 0.7, 1.0])
    left = np.broadcast_to(ramp, (240, 480, 3))
    right = 128 + random.standard_normal((240, 480, 3)) * 90 / (1 + step / 50)
    image = np.clip(np.concatenate([left, right], axis=1), 0, 255).astype(np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


RUN = {
    "name": "",
    "recipe": "selfsup",
    "command": "stadia demo",
    "version": "0.1.0",
    "code": {"commit": "4f1c2ab", "dirty": True},
    "environment": {"python": "3.11.9", "cores": 2, "packages": {"torch": "2.13.0"}},
    "data": {"fingerprint": "b1946ac9"},
    "seed": 0,
    "started": "2026-03-02T10:15:00+00:00",
    "finished": "2026-03-02T10:23:41+00:00",
    "status": "finished",
}
CONFIG = {
    "optimizer": {"name": "adamw", "lr": 1e-3},
    "data": {"height": 96, "width": 320},
    "model": {"network": {"name": "unet", "encoder": "mobilenetv3_small_100"}},
}
RESULT = {
    "depth": {"abs_rel": 0.128, "abs_rel_mean_baseline": 0.306, "scale_ratio_median": 1.021},
    "odometry": {"ate_m": 2.31, "path_m": 148.2},
    "wall_s": 521.4,
    "peak_rss_mb": 2410.0,
}
DEPTH_SCORE = {"protocol": "metric", "depth_scale": "metres", "images": 200}
DEPTH_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3", "scale_ratio_median")
FINDING = {"severity": "note", "stage": "data", "expected": "movement between neighbors"}
FINDINGS = [
    {
        **FINDING,
        "code": "P01",
        "measured": "3 of 200 frames do not move",
        "cause": "the camera stood still",
        "fix": "they are dropped; nothing to do",
        "evidence": {"frames": 3, "share": 0.015},
    },
    {
        **FINDING,
        "code": "W04",
        "severity": "warn",
        "stage": "training",
        "measured": "gradient norm 41 at step 12",
        "cause": "first steps",
        "fix": "a longer warm-up",
    },
]


def nest_recipe_facts(run: dict[str, Any]) -> dict[str, Any]:
    """Move what a recipe records into its group of run.json."""
    names = {field.name for field in dataclasses.fields(RecipeFacts)}
    facts = {name: value for name, value in run.items() if name in names}
    return {name: value for name, value in run.items() if name not in names} | {"recipe_facts": facts}


def make_scores() -> dict[str, Any]:
    random = np.random.default_rng(1)
    angle = np.linspace(0, 2.2, 120)
    true = np.stack([40 * (1 - np.cos(angle)), 40 * np.sin(angle) + 30 * angle], axis=1)
    estimated = true + np.cumsum(random.standard_normal(true.shape) * 0.08, axis=0)
    errors = 0.08 + 0.05 * random.gamma(2.0, size=200)
    own = (0.128, 0.71, 4.12, 0.187, 0.861, 0.951, 0.979, 1.021)
    mean_map = (0.306, 2.9, 7.8, 0.39, 0.55, 0.78, 0.9, 1.0)
    return {
        "depth-test": {
            **DEPTH_SCORE,
            "metrics": dict(zip(DEPTH_METRICS, own, strict=True)),
            "per_image": [{"name": f"world-11/left/{i:06d}", "abs_rel": float(v)} for i, v in enumerate(errors)],
        },
        "mean-map": {**DEPTH_SCORE, "metrics": dict(zip(DEPTH_METRICS, mean_map, strict=True))},
        "odometry": {
            "protocol": "odometry",
            "depth_scale": "metres",
            "metrics": {"ate_rmse_m": 2.31, "t_err_percent": 3.1, "r_err_deg_per_100m": 1.4},
            "images": 120,
            "path_estimated_m": estimated.tolist(),
            "path_true_m": true.tolist(),
        },
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes runs/<name> and returns it; `without` leaves parts out, `run`, `config` and `result` change values."""

    def make(
        name: str = "2026-03-02-101500-demo", *, steps: int = 300, without: tuple[str, ...] = (), **changes: Any
    ) -> Path:
        return write_run(tmp_path / "runs" / name, steps=steps, without=without, **changes)

    return make


def write_run(folder: Path, *, steps: int = 300, without: tuple[str, ...] = (), **changes: Any) -> Path:
    parts: dict[str, Any] = {
        "run.json": nest_recipe_facts(RUN | changes.get("run", {})),
        "config.json": CONFIG | changes.get("config", {}),
        "result.json": RESULT | changes.get("result", {}),
    }
    parts |= {f"scores/{name}.json": score for name, score in make_scores().items()}
    for name, value in parts.items():
        if name.split("/")[0] not in without:
            write_json(folder / name, value)
    if "findings.jsonl" not in without:
        lines = (json.dumps(finding) + "\n" for finding in changes.get("findings", FINDINGS))
        (folder / "findings.jsonl").write_text("".join(lines), encoding="utf-8")
    if "metrics.csv" not in without:
        rows = metrics_rows(steps)
        with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(k for row in rows for k in row)))
            writer.writeheader()
            writer.writerows(rows)
    if "checkpoints" not in without:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.safetensors").touch()
    if "images" not in without:
        (folder / "images").mkdir()
        for step in range(0, steps, 50):
            (folder / "images" / f"step-{step:06d}.png").write_bytes(encode_image(step))
    return folder
