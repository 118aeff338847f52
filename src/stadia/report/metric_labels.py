"""Names, units, directions and descriptions of what a training logs and scores, and the format of numbers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Better = Literal["lower", "higher", "one", "neither"]


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is shown: name, unit, good direction, whether it is a key number, and a note."""

    label: str
    unit: str = ""
    better: Better = "lower"
    key: bool = False
    note: str = ""


SCALE_RATIO = "Scale ratio: median true over median predicted depth of an image. Spread: relative standard deviation."
SCORES: dict[str, MetricLabel] = {
    "loss": MetricLabel("Loss"),
    "abs_rel": MetricLabel("AbsRel", key=True),
    "sq_rel": MetricLabel("SqRel", "m"),
    "rmse": MetricLabel("RMSE", "m", key=True),
    "rmse_m": MetricLabel("RMSE", "m"),
    "rmse_log": MetricLabel("RMSE log"),
    "silog": MetricLabel("SILog"),
    "log10": MetricLabel("log10"),
    "mae": MetricLabel("MAE", "m"),
    "mae_m": MetricLabel("MAE", "m"),
    "d1": MetricLabel("δ < 1.25", "", "higher", key=True),
    "d2": MetricLabel("δ < 1.25²", "", "higher"),
    "d3": MetricLabel("δ < 1.25³", "", "higher"),
    "sq_error_rel_percent": MetricLabel("sqErrorRel", "%"),
    "abs_error_rel_percent": MetricLabel("absErrorRel", "%"),
    "irmse_per_km": MetricLabel("iRMSE", "1/km"),
    "scale_ratio_median": MetricLabel("Scale ratio, median", "", "one", key=True, note=SCALE_RATIO),
    "scale_ratio_spread": MetricLabel("Scale ratio, spread", note=SCALE_RATIO),
    "residual": MetricLabel("Photometric residual"),
    "residual_unwarped": MetricLabel("Photometric residual", "", "neither"),
    "warped_over_unwarped": MetricLabel("Residual over the unwarped one, without auto-mask"),
    "ause": MetricLabel("AUSE, of AbsRel"),
    "ause_of_random": MetricLabel("AUSE, of AbsRel", "", "neither"),
    "residual_over_sigma": MetricLabel("Residual over Sigma", "", "one"),
    "residual_spearman": MetricLabel("Spearman of Sigma and residual", "", "higher"),
    "ate_rmse_m": MetricLabel("ATE", "m", key=True),
    "ate_m": MetricLabel("ATE", "m", key=True),
    "path_m": MetricLabel("Path", "m", "neither"),
    "t_err_percent": MetricLabel("t_err", "%"),
    "r_err_deg_per_100m": MetricLabel("r_err", "°/100 m"),
    "rpe_trans_m": MetricLabel("RPE, translation", "m"),
    "rpe_rot_deg": MetricLabel("RPE, rotation", "°"),
    "rpe_interval_trans_m": MetricLabel("RPE over an interval, translation", "m"),
    "rpe_interval_rot_deg": MetricLabel("RPE over an interval, rotation", "°"),
    "length_ratio": MetricLabel("Length of the path over the true one", "", "one"),
    "rotation_error_deg": MetricLabel("Rotation error, mean", "°"),
    "rotation_error_deg_median": MetricLabel("Rotation error, median", "°", key=True),
    "rotation_error_deg_of_all": MetricLabel("Rotation error, mean, a missed object 180°", "°"),
    "mse": MetricLabel("MSE", "m²"),
    "mask_iou": MetricLabel("Mask IoU", "", "higher", key=True),
    "mask_dice": MetricLabel("Mask Dice", "", "higher"),
    "mask_boundary_f": MetricLabel("Mask boundary F", "", "higher"),
    "mask_mae": MetricLabel("Mask MAE"),
    "mask_bce": MetricLabel("Mask cross-entropy"),
    "depth_and_mask_error": MetricLabel("AbsRel + 1 - IoU"),
    "translation_error_cm": MetricLabel("Translation error, mean", "cm"),
    "translation_error_cm_median": MetricLabel("Translation error, median", "cm", key=True),
    "iou_3d": MetricLabel("3D IoU", "", "higher"),
    "iou_3d_hull": MetricLabel("3D IoU of hulls", "", "higher"),
    "recall": MetricLabel("Objects found", "", "higher", key=True),
    "precision": MetricLabel("Detections that are objects", "", "higher"),
    "false_alarms": MetricLabel("False alarms"),
}
SCORES |= {f"ap_iou{percent}": MetricLabel(f"AP, 3D IoU {percent} %", "", "higher") for percent in (25, 50, 75)}
SCORES |= {
    f"{kind}_{degrees}deg_{cm}cm": MetricLabel(f"{name}, {degrees}° {cm} cm", "", "higher")
    for kind, name in (("ap", "AP"), ("recall", "Recall"))
    for degrees, cm in ((5, 2), (5, 5), (10, 2), (10, 5), (10, 10))
}
"""A metric without a line here is shown by its own name, neither good nor bad."""

MOTION_NAMES = {
    "aligned": ("image alignment", "aligns neighboring images with the predicted depth"),
    "network": ("pose network", "predicts the motion"),
    "mean-depth": ("mean depth", "aligns neighboring images with mean depth, a baseline"),
}
"""Name and description of a path's method, by the key `motion` of its score file."""

ALIGNMENT_MEANINGS = {
    "se3": "moved and turned onto the true path",
    "sim3": "moved, turned and scaled onto the true path",
    "scale": "scaled to the true path",
    "median": "scaled to the true depth, per image by its median",
    "scale and shift": "fitted to the true depth, per image by scale and shift",
    "scale and shift of depth": "fitted to the true depth, per image by scale and shift of depth",
}
"""The fit to the truth before scoring, by the alignment of a score file."""

METRES, UP_TO_SCALE = "metres", "up-to-scale"
DEPTH_SCALES: dict[str, tuple[str, str]] = {
    METRES: ("Metres", "{what} in metres. The scale comes from {source}."),
    UP_TO_SCALE: (
        "Up to scale",
        "Use proportions, not sizes: one camera cannot measure the common factor. Scores fit it to the truth.",
    ),
    "affine-inverse": ("Inverse depth up to scale and shift", "Use only the order of near and far."),
    "affine-depth": ("Depth up to scale and shift", "Use only the order of near and far."),
}
UNKNOWN_DEPTH_SCALE = ("No depth scale yet", "Nothing was predicted yet.")

STATUSES: dict[str, tuple[str, str]] = {  # status in run.json: (text, tone)
    "finished": ("finished", "good"),
    "running": ("not finished yet", "warn"),
    "interrupted": ("interrupted", "warn"),
    "failed": ("failed", "stop"),
}


def find_metric_label(name: str) -> MetricLabel | None:
    """Return the label of a score by the last part of its name ("val/abs_rel"); None for other scalars."""
    if name.startswith("train/") and name.count("/") > 1:
        return None
    return SCORES.get(re.split(r"[./]", name)[-1])


def metric_label(name: str) -> MetricLabel:
    """Return how a score is shown; other scalars have their own name and no good direction."""
    return find_metric_label(name) or MetricLabel(name, better="neither")


def direction_arrow(name: str, *, scale_known: bool = True) -> str:
    """Return the good direction: ↓, ↑, or the target value if the scale is known."""
    better = metric_label(name).better
    return {"lower": "↓", "higher": "↑", "one": "→\N{NO-BREAK SPACE}1" if scale_known else "", "neither": ""}[better]


def format_number(value: Any, unit: str = "") -> str:
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


def is_finite(value: Any) -> TypeGuard[float]:
    """Return whether a value from a file is a finite number, not a boolean."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def format_metric(name: str, value: Any) -> str:
    """Format a score with its unit."""
    return format_number(value, metric_label(name).unit)


def format_duration(seconds: float) -> str:
    """Format seconds: `48 s`, `6 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def format_memory(megabytes: float) -> str:
    """Format megabytes: `812 MB`, `2.4 GB`."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def describe_depth_scale(name: Any, scale_from: Any = None, *, path: bool = False) -> tuple[str, str]:
    """Return the name of a depth scale and the meaning of its numbers. path: whether there is a camera path, too."""
    unknown = UNKNOWN_DEPTH_SCALE if name is None else (str(name), "This depth scale is unknown to the report.")
    label, meaning = DEPTH_SCALES.get(str(name), unknown)
    what = "Depth and path are" if path else "Depth is"
    return label, meaning.format(source=scale_from or "a known length", what=what)


def describe_scale_source(depth_scale: Any, rests_on: Any, no_metres: Any) -> str:
    """Describe the source of metric scale by known lengths, or why it has none; "" if there is nothing to add."""
    if rests_on and depth_scale == METRES:
        return f"Metres come from {rests_on}."
    if rests_on:
        reason = f": {no_metres}" if no_metres else ""
        return f"This recipe learns metres from {rests_on}, but this depth is up to scale{reason}."
    if depth_scale == UP_TO_SCALE:
        return "For metres, use a stereo pair, or the camera's height over the road (recipe metric)."
    return ""


def describe_status(name: Any, verdict: str | None = None) -> tuple[str, str]:
    """Return how a run's status is shown, and its tone: good, warn or stop.

    verdict: on its predictions.

    Examples:
        >>> describe_status("finished", "unusable")
        ('finished, depth unusable', 'stop')
    """
    if name == "finished" and verdict in ("doubtful", "unusable"):
        return f"finished, depth {verdict}", "stop" if verdict == "unusable" else "warn"
    return STATUSES.get(str(name), (str(name or "unknown"), "warn"))


# -- Arrange a finding's evidence for report and terminal: numbers by name, and small tables.


@dataclass(frozen=True)
class EvidenceLayout:
    """numbers: (name, value) as text.  tables: of lists and matrices.  image: path, or empty."""

    numbers: list[tuple[str, str]]
    tables: list[EvidenceTable]
    image: str


@dataclass(frozen=True)
class EvidenceTable:
    """rows: text, a cell for each column. title and head may be empty."""

    title: str
    head: list[str]
    rows: list[list[str]]


def arrange_evidence(evidence: Mapping[str, Any]) -> EvidenceLayout:
    """Arrange evidence: lists of one length become a table, nested lists a matrix."""
    numbers: list[tuple[str, str]] = []
    tables: list[EvidenceTable] = []
    named = {name: value for name, value in evidence.items() if isinstance(value, Mapping)}
    beside = {name: value for name, value in evidence.items() if name not in named and name != "image"}
    for title, group in (("", beside), *named.items()):
        columns: dict[int, dict[str, list[Any]]] = {}
        for name, value in group.items():
            if isinstance(value, list | tuple) and value and all(isinstance(row, list | tuple) for row in value):
                tables.append(EvidenceTable(str(name), [], [list(map(format_evidence_value, row)) for row in value]))
            elif isinstance(value, list | tuple) and value:
                columns.setdefault(len(value), {})[str(name)] = list(value)
            elif value not in ([], ()):
                numbers.append((f"{title} {name}".strip(), format_evidence_value(value)))
        for same in columns.values():
            if len(same) > 1:
                rows = [list(map(format_evidence_value, row)) for row in zip(*same.values(), strict=True)]
                tables.append(EvidenceTable(str(title), list(same), rows))
            else:
                numbers += [(f"{title} {name}".strip(), format_evidence_value(values)) for name, values in same.items()]
    image = evidence.get("image")
    return EvidenceLayout(numbers, tables, image if isinstance(image, str) else "")


def format_evidence_value(value: Any) -> str:
    """Format numbers to three digits, lists on one line."""
    return "  ".join(map(format_number, value)) if isinstance(value, list | tuple) else format_number(value)


# -- Panels of the curves, and the quantities of a training in a sentence each.

LOSS, TERMS, RATE, SECONDS = "Loss", "Terms of the loss", "Learning rate", "Seconds a step"


@dataclass(frozen=True)
class PanelLabel:
    """title: of the panel.  note: what it shows, or empty."""

    title: str
    note: str = ""


QUANTITIES: dict[str, PanelLabel] = {
    "warped_over_unwarped": PanelLabel(
        "Residual, warped over unwarped (WIR)",
        "Photometric residual of warped over unwarped sources. Below 1, depth and motion explain the change.",
    ),
    "auto_masked": PanelLabel(
        "Auto-masked pixels, share", "Pixels that an unwarped source explains as well as the warped ones do not train."
    ),
    "outside": PanelLabel("Pixels in no source, share", "Pixels of the target that no source image shows."),
    "explained_by": PanelLabel(
        "Best source, share", "Share of the pixels that each source explains best (minimum reprojection)."
    ),
    "depth/median": PanelLabel("Median depth", "Predicted depth, in metres for a metric scale."),
    "depth/spread": PanelLabel(
        "Spread of inverse depth", "Standard deviation over mean, within an image: 0 for a constant map."
    ),
    "depth/at_nearest": PanelLabel(
        "Depth at its limits, share", "Pixels within 5 % of the nearest or farthest allowed depth."
    ),
    "motion/over_depth": PanelLabel(
        "Translation over median depth", "Length of the predicted translation to a source over the median depth."
    ),
    "motion/turn_deg": PanelLabel("Rotation, degrees", "Angle of the predicted rotation to a source."),
    "motion/same_side": PanelLabel(
        "Directions of two motions, cosine",
        "Between the translations to the sources before and after: -1 on a straight path.",
    ),
    "gradient_norm": PanelLabel("Gradient norm", "Length of the gradient of all weights, before clipping."),
    "update_ratio": PanelLabel("Update ratio", "Size of an update of the weights over the size of the weights."),
    "gain": PanelLabel("Gain of brightness", "Predicted factor of brightness to each source: 1 is no change."),
    "offset": PanelLabel("Offset of brightness", "Predicted offset of brightness to each source."),
    "log_uncertainty": PanelLabel(
        "Log of the uncertainty", "Percentiles over pixels of the log of the residual's scale."
    ),
    "motion_slope": PanelLabel("Motion, slope by axis", "Slope of predicted over true motion: 1 is the true size."),
    "motion_correlation": PanelLabel(
        "Motion, correlation by axis", "Pearson's correlation of predicted and true motion of the pose network."
    ),
    "motion_along": PanelLabel(
        "Motion along the true one", "Share of the translation along the true one: 1 is right, -1 is reversed."
    ),
    "motion_scale": PanelLabel("Scale of the motion", "Factor from predicted to true translation."),
    "camera_height_m": PanelLabel("Camera height, metres", "Height of the camera above the road."),
    "camera_height_known_m": PanelLabel("Camera height, accepted, metres", "The height that the loss uses."),
    "off_camera_height": PanelLabel(
        "Camera height in depth, log ratio", "Log of height in depth over accepted height: 0 is right."
    ),
    "inlier_share": PanelLabel("Inlier objects, share", "Objects that agree with the camera height of their group."),
    "depth_spread": PanelLabel("Spread of depth", "Standard deviation of depth over its mean, within an image."),
    "objects_over_road": PanelLabel(
        "Height from objects over road, log ratio", "Log of height from objects over height from the road."
    ),
    "object_extent": PanelLabel("Depth range of an object", "Between the 10 % quantiles, over the median."),
    "rows_out_of_order": PanelLabel("Road rows out of order, share", "Road rows that are nearer than the row below."),
    "objects_at_limit": PanelLabel("Objects at the largest depth, share", "Object pixels at the largest depth."),
    "road_masked": PanelLabel("Auto-masked road, share", "Road pixels that the auto-mask leaves out."),
    "at_floor": PanelLabel("Depth at its limit, share", "Pixels at the largest depth that the network can predict."),
    "gradient_share": PanelLabel("Gradient of each term, share"),
}
"""By the logged name, without group and part."""
QUANTITIES["depth/at_farthest"] = QUANTITIES["depth/at_nearest"]

GRADIENT_PANELS = {
    "translation": PanelLabel("Gradient of the loss by motion", "By the predicted translation and rotation."),
    "gain": PanelLabel("Gradient of the loss by brightness", "By the predicted gain and offset."),
}
GRADIENT_PANELS |= {"rotation": GRADIENT_PANELS["translation"], "offset": GRADIENT_PANELS["gain"]}


VALIDATION_IMAGES = {
    "motion": PanelLabel(
        "Motion of the pose network",
        "Predicted over true motion to the next frame by the pose network: x right, y down, z forward.",
    )
}
SHEET_NOTES = (
    "The first training sample of the step, augmented.",
    "Inverse depth: bright is near. Its label has the nearest and the farthest depth (95 % and 5 % of the pixels).",
    "Residual: photometric difference of the target and its best source, bright is large.",
    "Best source: the smallest residual at each pixel. Auto-masked pixels do not train.",
)


def explain_sheets(names: Iterable[str]) -> tuple[str, ...]:
    """Explain the image sheets of a training; more if it logs the auto-mask, hence view synthesis."""
    return SHEET_NOTES if any(name.endswith("/auto_masked") for name in names) else SHEET_NOTES[:1]


def label_validation_image(name: str) -> PanelLabel:
    """Return the title and the note of a kind of validation image."""
    return VALIDATION_IMAGES.get(name, PanelLabel(name.replace("_", " ").capitalize()))


def label_panel(name: str) -> PanelLabel:
    """Return the panel of a logged scalar, such as "train/selfsup/depth/median"."""
    group, *rest = name.split("/")
    leaf = rest[-1] if rest else group
    fixed = {"loss": LOSS, "lr": RATE}.get(leaf) or (TERMS if "/term/" in name else "")
    if fixed or group == "time":
        return PanelLabel(fixed or SECONDS)
    if shown := find_metric_label(name):
        return PanelLabel(shown.label, shown.note)
    if group == "gradient" and rest:
        return GRADIENT_PANELS.get(rest[0]) or PanelLabel(f"Gradient of the loss by {rest[0].replace('_', ' ')}")
    for start in range(len(rest)):
        for stop in (start + 2, start + 1):
            if label := QUANTITIES.get("/".join(rest[start:stop])):
                return label
    title = (rest[0] if len(rest) > 1 else leaf).replace("_", " ")
    return PanelLabel(title[:1].upper() + title[1:])
