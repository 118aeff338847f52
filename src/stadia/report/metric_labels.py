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
    """How a metric is shown: name, unit, good direction, whether it is a key number, and a sentence on what it is."""

    label: str
    unit: str = ""
    better: Better = "lower"
    key: bool = False
    note: str = ""


SCALE_RATIO = (
    "Scale ratio: median true over median predicted depth of an image. Its spread: standard deviation over the images,"
    " divided by their median."
)
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
"""A new metric is a line here. A metric without a line is shown by its own name, neither good nor bad."""

MOTION_NAMES = {
    "aligned": ("image alignment", "each image is aligned with the next one, with the predicted depth"),
    "network": ("pose network", "the pose network predicts the motion"),
    "mean-depth": ("mean depth", "each image is aligned with the next one, with a map of mean depths, as a baseline"),
}
"""Name and description of how a path was estimated, by the key `motion` of its score file."""

ALIGNMENT_MEANINGS = {
    "se3": "moved and turned onto the true path, not scaled",
    "sim3": "moved, turned and scaled onto the true path",
    "scale": "scaled to the true path",
    "median": "scaled to the true depth, each image by its median",
    "scale and shift": "fitted to the true depth, each image by a scale and a shift",
    "scale and shift of depth": "fitted to the true depth, each image by a scale and a shift of its depth",
}
"""What is fitted to the truth before scoring, by the alignment of a score file. Others are named as they are."""

METRES, UP_TO_SCALE = "metres", "up-to-scale"
DEPTH_SCALES: dict[str, tuple[str, str]] = {
    METRES: ("Metres", "{mean} metres, as far as they are right: the scale comes from {source}."),
    UP_TO_SCALE: (
        "Up to scale",
        "Shapes and proportions mean something, as far as they are right; sizes do not. {share} one unknown factor,"
        " which one camera alone cannot measure: scores of {of} are those after a fit to the truth's size.",
    ),
    "affine-inverse": (
        "Inverse depth up to scale and shift",
        "The order of near and far means something, as far as it is right. Distances, proportions and sizes do not.",
    ),
    "affine-depth": (
        "Depth up to scale and shift",
        "The order of near and far means something, as far as it is right. Distances, proportions and sizes do not.",
    ),
}
UNKNOWN_DEPTH_SCALE = ("No depth scale yet", "Nothing has been predicted yet.")

STATUSES: dict[str, tuple[str, str]] = {  # status in run.json: (text, tone)
    "finished": ("finished", "good"),
    "running": ("not finished when this was written", "warn"),
    "interrupted": ("interrupted", "warn"),
    "failed": ("failed", "stop"),
}


def find_metric_label(name: str) -> MetricLabel | None:
    """Return the label of a score by the last part of its name ("val/abs_rel"); None for other scalars."""
    if name.startswith("train/") and name.count("/") > 1:
        return None
    return SCORES.get(re.split(r"[./]", name)[-1])


def metric_label(name: str) -> MetricLabel:
    """Return how a score is shown; others by their own name without a good direction."""
    return find_metric_label(name) or MetricLabel(name, better="neither")


def direction_arrow(name: str, *, scale_known: bool = True) -> str:
    """Return the good direction: ↓, ↑, or the target value where the scale is known."""
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
    """Return whether a value from a file is a finite number, and no boolean."""
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
    """Return the name of a depth scale and the meaning of its numbers.

    scale_from: source of the metric scale.  path: whether there is a camera path beside depth.
    """
    unknown = UNKNOWN_DEPTH_SCALE if name is None else (str(name), "This depth scale is not known to the report.")
    label, meaning = DEPTH_SCALES.get(str(name), unknown)
    what = ("Depth and path mean", "All depths and the path share", "depth and path")
    mean, share, of = what if path else ("Depths mean", "All depths share", "depth")
    source = scale_from or "a length known beforehand"
    return label, meaning.format(source=source, mean=mean, share=share, of=of)


def describe_scale_source(depth_scale: Any, rests_on: Any, no_metres: Any) -> str:
    """Describe the source of metric scale after `depth_scale`; "" if there is nothing to add.

    rests_on: known lengths from which the recipe learns metres.  no_metres: why its depth is up to scale nevertheless.
    """
    if rests_on and depth_scale == METRES:
        return f"The metres rest on {rests_on}."
    if rests_on:
        reason = f": {no_metres}" if no_metres else ""
        return f"Metres learnt by this recipe rest on {rests_on}; depth here is up to scale{reason}."
    if depth_scale == UP_TO_SCALE:
        return "Metres need a stereo pair with its baseline, or a camera's height over its road (recipe metric)."
    return ""


def describe_status(name: Any, verdict: str | None = None) -> tuple[str, str]:
    """Return how a run's status is shown, and its tone: good, warn or stop.

    verdict: on its predictions.  A finished run is not good where they are doubtful or unusable.

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
    """numbers: (name, value) as text.  tables: lists of one length, and matrices.  image: path, or empty."""

    numbers: list[tuple[str, str]]
    tables: list[EvidenceTable]
    image: str


@dataclass(frozen=True)
class EvidenceTable:
    """rows: text, a cell for each column. title and head may be empty: a matrix has no head."""

    title: str
    head: list[str]
    rows: list[list[str]]


def arrange_evidence(evidence: Mapping[str, Any]) -> EvidenceLayout:
    """Arrange evidence: lists of one length become a table, nested lists a matrix, and the key of a mapping a title.

    An empty list is left out.
    """
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
    """title: of the panel.  note: what it shows, a sentence; empty if the title is enough."""

    title: str
    note: str = ""


NO_MOTION = "Compare with 1: below it, depth and motion explain the change between images better than no motion does"
QUANTITIES: dict[str, PanelLabel] = {
    "warped_over_unwarped": PanelLabel(
        "Residual, warped over unwarped (WIR)",
        f"Photometric residual of the warped sources over that of the unwarped sources. {NO_MOTION}.",
    ),
    "auto_masked": PanelLabel(
        "Auto-masked pixels, share",
        "Auto-mask: a pixel does not train where an unwarped source explains it at least as well as the warped ones.",
    ),
    "outside": PanelLabel("Pixels in no source, share", "Pixels of the target that no source image shows."),
    "explained_by": PanelLabel(
        "Best source, share", "Minimum reprojection: share of the pixels that each source explains best."
    ),
    "depth/median": PanelLabel(
        "Median depth", "Of the predicted depth: in metres where the scale is metric, else in a unit of its own."
    ),
    "depth/spread": PanelLabel(
        "Spread of inverse depth",
        "Standard deviation of inverse depth over its mean, within an image. It is 0 for a constant map.",
    ),
    "depth/at_nearest": PanelLabel(
        "Depth at its limits, share", "Pixels within 5 % of the nearest and of the farthest depth that is allowed."
    ),
    "motion/over_depth": PanelLabel(
        "Translation over median depth", "Length of the predicted translation to a source over the median depth."
    ),
    "motion/turn_deg": PanelLabel("Rotation, degrees", "Angle of the predicted rotation to a source."),
    "motion/same_side": PanelLabel(
        "Directions of two motions, cosine",
        "Between the translations to the source before and to the one after. It is -1 on a straight path.",
    ),
    "gradient_norm": PanelLabel("Gradient norm", "Length of the gradient of all weights, before clipping."),
    "update_ratio": PanelLabel("Update ratio", "Size of an update of the weights over the size of the weights."),
    "gain": PanelLabel("Gain of brightness", "Predicted factor of brightness to each source: 1 is no change."),
    "offset": PanelLabel("Offset of brightness", "Predicted offset of brightness to each source."),
    "log_uncertainty": PanelLabel(
        "Log of the uncertainty", "Percentiles over pixels of the predicted log of the residual's scale."
    ),
    "motion_slope": PanelLabel(
        "Motion, slope by axis", "Slope of predicted over true motion. It is 1 where the motion has the true size."
    ),
    "motion_correlation": PanelLabel(
        "Motion, correlation by axis", "Pearson's correlation of predicted and true motion of the pose network."
    ),
    "motion_along": PanelLabel(
        "Motion along the true one",
        "Part of the translation along the true one, over its length: 1 is right, -1 is reversed.",
    ),
    "motion_scale": PanelLabel("Scale of the motion", "Factor from predicted to true translation."),
    "camera_height_m": PanelLabel("Camera height, metres", "Height of the camera above the road."),
    "camera_height_known_m": PanelLabel("Camera height, accepted, metres", "The height that the loss uses."),
    "off_camera_height": PanelLabel(
        "Camera height in depth, log ratio", "Log of the height in predicted depth over the accepted one: 0 is right."
    ),
    "inlier_share": PanelLabel("Inlier objects, share", "Objects that agree with the camera height of their group."),
    "depth_spread": PanelLabel("Spread of depth", "Standard deviation of depth over its mean, within an image."),
    "objects_over_road": PanelLabel(
        "Height from objects over road, log ratio", "Log of the camera height from objects over that from the road."
    ),
    "object_extent": PanelLabel("Depth range of an object", "Between the 10 % quantiles, over the median."),
    "rows_out_of_order": PanelLabel("Road rows out of order, share", "Road rows that are nearer than the row below."),
    "objects_at_limit": PanelLabel("Objects at the largest depth, share", "Object pixels at the largest depth."),
    "road_masked": PanelLabel("Auto-masked road, share", "Road pixels that the auto-mask leaves out."),
    "at_floor": PanelLabel("Depth at its limit, share", "Pixels at the largest depth that the network can predict."),
    "gradient_share": PanelLabel("Gradient of each term, share"),
}
"""By the name that is logged, without its group and part. Others are named by their own words."""
QUANTITIES["depth/at_farthest"] = QUANTITIES["depth/at_nearest"]

GRADIENT_PANELS = {
    "translation": PanelLabel("Gradient of the loss by motion", "By the predicted translation and rotation."),
    "gain": PanelLabel("Gradient of the loss by brightness", "By the predicted gain and offset."),
}
GRADIENT_PANELS |= {"rotation": GRADIENT_PANELS["translation"], "offset": GRADIENT_PANELS["gain"]}


VALIDATION_IMAGES = {
    "motion": PanelLabel(
        "Motion of the pose network",
        "Predicted over true motion of the camera to the next frame: x right, y down, z forward. It is of the pose"
        " network alone: paths by image alignment refine it with the predicted depth.",
    )
}
SHEET_NOTES = (
    "The first training sample of the step, as the network gets it: colors are varied, and some samples are mirrored.",
    "Inverse depth: bright is near. Its label has the nearest and the farthest depth (95 % and 5 % of the pixels).",
    "Residual: photometric difference of the target and its best source, bright is large.",
    "Best source: the source with the smallest residual at each pixel (minimum reprojection)."
    " Pixels of an unwarped source are auto-masked: they do not train.",
)


def explain_sheets(names: Iterable[str]) -> tuple[str, ...]:
    """Explain the image sheets of a training that logs the auto-mask, hence view synthesis; nothing for another."""
    return SHEET_NOTES if any(name.endswith("/auto_masked") for name in names) else SHEET_NOTES[:1]


def label_validation_image(name: str) -> PanelLabel:
    """Return the title and the note of a kind of validation image."""
    return VALIDATION_IMAGES.get(name, PanelLabel(name.replace("_", " ").capitalize()))


def label_panel(name: str) -> PanelLabel:
    """Return the panel of a logged scalar by its name, such as "train/selfsup/depth/median"."""
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
