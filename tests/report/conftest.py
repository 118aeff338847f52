"""A synthetic run folder with everything that a run can hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

MakeRun = Callable[..., Path]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def metrics_rows(steps: int) -> list[dict[str, float | str]]:
    """A loss that falls with noise, its terms, validation every 50 steps, a learning rate with warm-up and cosine."""
    random = np.random.default_rng(0)
    rows: list[dict[str, float | str]] = []
    for step in range(steps):
        loss = 0.08 + 0.3 * np.exp(-step / (steps / 5)) + 0.012 * random.standard_normal()
        row: dict[str, float | str] = {
            "step": step,
            "epoch": step // 100,
            "train/loss": loss,
            "train/term/photometric": 0.95 * loss,
        }
        row |= {
            "train/term/smoothness": 0.001 + 0.002 * step / steps,
            "train/lr": 1e-3 * min(1, step / 20) * (1 + np.cos(np.pi * step / steps)) / 2,
        }
        if step % 50 == 49:
            row |= {"val/abs_rel": 0.11 + 0.4 * np.exp(-step / 90), "val/d1": 0.9 - 0.6 * np.exp(-step / 90)}
        rows.append(row)
    return rows


def image(step: int) -> np.ndarray:
    """(240, 960, 3) a sheet-like image: gradient beside noise that fades with the step."""
    random = np.random.default_rng(step)
    ramp = np.linspace(0, 255, 480, dtype=np.float64)[None, :, None] * np.array([0.3, 0.7, 1.0])
    left = np.broadcast_to(ramp, (240, 480, 3))
    right = 128 + random.standard_normal((240, 480, 3)) * 90 / (1 + step / 50)
    return np.clip(np.concatenate([left, right], axis=1), 0, 255).astype(np.uint8)


@cache
def encode_image(step: int) -> bytes:
    """`image` as a PNG; most runs have the same."""
    return cv2.imencode(".png", image(step))[1].tobytes()


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes runs/<name> and returns it; `without` leaves parts out, `run` and `config` change values."""

    def make(
        name: str = "2026-03-02-101500-demo", *, steps: int = 300, without: tuple[str, ...] = (), **changes: Any
    ) -> Path:
        folder = tmp_path / "runs" / name
        return write_run(folder, steps=steps, without=without, **changes)

    return make


def write_run(folder: Path, *, steps: int = 300, without: tuple[str, ...] = (), **changes: Any) -> Path:
    run = {
        "recipe": "selfsup",
        "command": "stadia demo",
        "version": "0.1.0",
        "code": {"commit": "4f1c2ab", "dirty": True},
        "environment": {"python": "3.11.9", "torch": "2.13.0", "device": "cpu", "cores": 2},
        "data": {"fingerprint": "b1946ac9"},
        "seed": 0,
        "started": "2026-03-02T10:15:00+00:00",
        "finished": "2026-03-02T10:23:41+00:00",
        "status": "finished",
    }
    config = {
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "data": {"height": 96, "width": 320},
        "model": {"encoder": "mobilenetv3_small_100"},
    }
    random = np.random.default_rng(1)
    angle = np.linspace(0, 2.2, 120)
    true = np.stack([40 * (1 - np.cos(angle)), 40 * np.sin(angle) + 30 * angle], axis=1)
    estimated = true + np.cumsum(random.standard_normal(true.shape) * 0.08, axis=0)
    per_image = [
        {"name": f"world-11/left/{i:06d}", "abs_rel": float(v)}
        for i, v in enumerate(0.08 + 0.05 * random.gamma(2.0, size=200))
    ]
    parts: dict[str, Any] = {
        "run.json": run | changes.get("run", {}),
        "config.json": config | changes.get("config", {}),
        "result.json": (
            {
                "depth": {"abs_rel": 0.128, "abs_rel_mean_baseline": 0.306, "scale_ratio_median": 1.021},
                "odometry": {"ate_m": 2.31, "path_m": 148.2},
                "wall_s": 521.4,
                "peak_rss_mb": 2410.0,
            }
            | changes.get("result", {})
        ),
        "scores/depth-test.json": {
            "protocol": "metric",
            "depth_scale": "metres",
            "metrics": {
                "abs_rel": 0.128,
                "sq_rel": 0.71,
                "rmse": 4.12,
                "rmse_log": 0.187,
                "d1": 0.861,
                "d2": 0.951,
                "d3": 0.979,
                "scale_ratio_median": 1.021,
            },
            "images": 200,
            "per_image": per_image,
        },
        "scores/mean-map.json": {
            "protocol": "metric",
            "depth_scale": "metres",
            "metrics": {
                "abs_rel": 0.306,
                "sq_rel": 2.9,
                "rmse": 7.8,
                "rmse_log": 0.39,
                "d1": 0.55,
                "d2": 0.78,
                "d3": 0.9,
                "scale_ratio_median": 1.0,
            },
            "images": 200,
        },
        "scores/odometry.json": {
            "protocol": "odometry",
            "depth_scale": "metres",
            "metrics": {"ate_rmse_m": 2.31, "t_err_percent": 3.1, "r_err_deg_per_100m": 1.4},
            "images": 120,
            "path_estimated_m": estimated.tolist(),
            "path_true_m": true.tolist(),
        },
    }
    finding = {
        "code": "P01",
        "severity": "note",
        "stage": "data",
        "measured": "3 of 200 frames do not move",
        "expected": "movement between neighbors",
    }
    findings = [
        finding
        | {
            "cause": "the camera stood still",
            "fix": "they are dropped; nothing to do",
            "evidence": {"frames": 3, "share": 0.015},
        },
        finding
        | {
            "code": "W04",
            "severity": "warn",
            "stage": "training",
            "measured": "gradient norm 41 at step 12",
            "cause": "first steps",
            "fix": "a longer warm-up",
        },
    ]
    for name, value in parts.items():
        if name.split("/")[0] not in without:
            write_json(folder / name, value)
    if "findings.jsonl" not in without:
        (folder / "findings.jsonl").write_text(
            "".join(json.dumps(f) + "\n" for f in changes.get("findings", findings)), encoding="utf-8"
        )
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
