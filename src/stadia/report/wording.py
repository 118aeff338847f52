"""Names, units and good directions of metrics, and descriptions of depth scales."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher", "one", "neither"]


@dataclass(frozen=True)
class Score:
    """How a metric is shown: name, unit, good direction, and whether it is a key number of the report."""

    label: str
    unit: str = ""
    better: Better = "lower"
    key: bool = False


SCORES: dict[str, Score] = {
    "loss": Score("Loss"),
    "abs_rel": Score("AbsRel", key=True),
    "sq_rel": Score("SqRel", "m"),
    "rmse": Score("RMSE", "m", key=True),
    "rmse_m": Score("RMSE", "m"),
    "rmse_log": Score("RMSE log"),
    "silog": Score("SILog"),
    "log10": Score("log10"),
    "mae": Score("MAE", "m"),
    "mae_m": Score("MAE", "m"),
    "d1": Score("δ < 1.25", "", "higher", key=True),
    "d2": Score("δ < 1.25²", "", "higher"),
    "d3": Score("δ < 1.25³", "", "higher"),
    "sq_error_rel_percent": Score("sqErrorRel", "%"),
    "abs_error_rel_percent": Score("absErrorRel", "%"),
    "irmse_per_km": Score("iRMSE", "1/km"),
    "scale_ratio_median": Score("Scale ratio, median", "", "one", key=True),
    "scale_ratio_spread": Score("Scale ratio, spread"),
    "residual": Score("Photometric residual"),
    "residual_unwarped": Score("Photometric residual", "", "neither"),
    "ause": Score("AUSE, of AbsRel"),
    "ause_of_random": Score("AUSE, of AbsRel", "", "neither"),
    "residual_over_sigma": Score("Residual over Sigma", "", "one"),
    "residual_spearman": Score("Spearman of Sigma and residual", "", "higher"),
    "ate_rmse_m": Score("ATE", "m", key=True),
    "ate_m": Score("ATE", "m", key=True),
    "path_m": Score("Path", "m", "neither"),
    "t_err_percent": Score("t_err", "%"),
    "r_err_deg_per_100m": Score("r_err", "°/100 m"),
    "rpe_trans_m": Score("RPE, translation", "m"),
    "rpe_rot_deg": Score("RPE, rotation", "°"),
    "rotation_error_deg": Score("Rotation error, mean", "°"),
    "rotation_error_deg_median": Score("Rotation error, median", "°", key=True),
    "rotation_error_deg_of_all": Score("Rotation error, mean, a missed object 180°", "°"),
    "mse": Score("MSE", "m²"),
    "mask_iou": Score("Mask IoU", "", "higher", key=True),
    "mask_dice": Score("Mask Dice", "", "higher"),
    "mask_boundary_f": Score("Mask boundary F", "", "higher"),
    "mask_mae": Score("Mask MAE"),
    "mask_bce": Score("Mask cross-entropy"),
    "depth_and_mask_error": Score("AbsRel + 1 - IoU"),
    "translation_error_cm": Score("Translation error, mean", "cm"),
    "translation_error_cm_median": Score("Translation error, median", "cm", key=True),
    "iou_3d": Score("3D IoU", "", "higher"),
    "iou_3d_hull": Score("3D IoU of hulls", "", "higher"),
    "recall": Score("Objects found", "", "higher", key=True),
    "precision": Score("Detections that are objects", "", "higher"),
    "false_alarms": Score("False alarms"),
}
SCORES |= {f"ap_iou{percent}": Score(f"AP, 3D IoU {percent} %", "", "higher") for percent in (25, 50, 75)}
SCORES |= {
    f"{kind}_{degrees}deg_{cm}cm": Score(f"{name}, {degrees}° {cm} cm", "", "higher")
    for kind, name in (("ap", "AP"), ("recall", "Recall"))
    for degrees, cm in ((5, 2), (5, 5), (10, 2), (10, 5), (10, 10))
}
"""A new metric is a line here; without one it is shown by its own name, neither good nor bad."""

METRES, UP_TO_SCALE = "metres", "up-to-scale"
CLAIMS: dict[str, tuple[str, str]] = {
    METRES: (
        "Metres",
        (
            "{mean} metres, as far as they are right: the scale comes from {source}, and nothing is fitted to the truth"
            " when they are scored."
        ),
    ),
    UP_TO_SCALE: (
        "Up to scale",
        (
            "Shapes and proportions mean something, as far as they are right; sizes do not. {share} one unknown factor,"
            " which one camera alone cannot measure: scores of {of} are those after a fit to the truth's size."
        ),
    ),
    "affine-inverse": (
        "Inverse depth up to scale and shift",
        "The order of near and far means something, as far as it is right. Distances, proportions and sizes do not.",
    ),
}
UNKNOWN_CLAIM = ("No claim yet", "Nothing has been predicted yet.")

STATUSES: dict[str, tuple[str, str]] = {  # run.json's status: (what is shown, the tone it is shown in)
    "finished": ("finished", "good"),
    "running": ("not finished when this was written", "warn"),
    "interrupted": ("interrupted", "warn"),
    "stopped": ("stopped by a finding", "stop"),
    "failed": ("failed", "stop"),
}


def known(name: str) -> Score | None:
    """Return the label of a score by the last part of its name ("val/abs_rel"); None for other scalars
    ("train/weight/mask_bce").
    """
    if name.startswith("train/") and name.count("/") > 1:
        return None
    return SCORES.get(re.split(r"[./]", name)[-1])


def score(name: str) -> Score:
    """Return how a score is shown; others by their own name without a good direction."""
    return known(name) or Score(name, better="neither")


def arrow(name: str, *, scale_known: bool = True) -> str:
    """Return the good direction: ↓, ↑, or the target value where the scale is known."""
    return {"lower": "↓", "higher": "↑", "one": "→ 1" if scale_known else "", "neither": ""}[score(name).better]


def number(value: Any, unit: str = "") -> str:
    """Format three significant digits with the unit; text and booleans as they are, – for None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return "not finite"
    if isinstance(value, int):
        text = f"{value}" if abs(value) < 10_000 else f"{value:,}".replace(",", " ")
    elif abs(value) >= 100:
        text = f"{value:.0f}"
    elif value == 0:
        text = "0"
    elif abs(value) >= 1e-3:
        text = f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"
    else:
        text = f"{value:.2e}"
    return f"{text}{unit}" if unit == "°" else f"{text} {unit}".rstrip()


def score_value(name: str, value: Any) -> str:
    """Format a score with its unit."""
    return number(value, score(name).unit)


def duration(seconds: float) -> str:
    """Format seconds: `48 s`, `6 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def memory(megabytes: float) -> str:
    """Format megabytes: `812 MB`, `2.4 GB`."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


_DEPTH_WORDS = {"mean": "Depths mean", "share": "All depths share", "of": "depth"}
_DEPTH_AND_PATH_WORDS = {
    "mean": "Depth and path mean",
    "share": "All depths and the path share",
    "of": "depth and path",
}


def claim(name: Any, scale_from: Any = None, *, path: bool = False) -> tuple[str, str]:
    """Return the name of a depth scale and the meaning of its numbers.

    scale_from: where the recipe has its metres from.  path: whether there is one of the camera, beside depth.
    """
    label, meaning = CLAIMS.get(
        str(name), UNKNOWN_CLAIM if name is None else (str(name), "This claim is not known to the report.")
    )
    return label, meaning.format(
        source=scale_from or "a length known beforehand", **(_DEPTH_AND_PATH_WORDS if path else _DEPTH_WORDS)
    )


def scale(claim: Any, rests_on: Any, no_metres: Any) -> str:
    """Describe the source of metric scale after `claim`; "" where there is nothing to add.

    rests_on: known lengths, of a recipe that learns metres from such.  no_metres: why it claims none nevertheless.
    """
    if rests_on and claim == METRES:
        return f"The metres rest on {rests_on}."
    if rests_on:
        return f"Metres learnt by this recipe rest on {rests_on}; none are claimed here" + (
            f": {no_metres}." if no_metres else "."
        )
    if claim == UP_TO_SCALE:
        return "Metres need a stereo pair with its baseline, or a camera's height over its road (recipe metric)."
    return ""


def status(name: Any) -> tuple[str, str]:
    """Return how a run's status is shown, and its tone: good, warn or stop."""
    return STATUSES.get(str(name), (str(name or "unknown"), "warn"))
