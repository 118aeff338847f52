"""Name the panels of the curves, and explain the quantities of a training in a sentence each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stadia.report.metric_labels import find_metric_label

LOSS, TERMS, RATE, SECONDS = "Loss", "Terms of the loss", "Learning rate", "Seconds a step"


@dataclass(frozen=True)
class PanelLabel:
    """title: of the panel.  note: what it shows, a sentence; empty where the title is enough."""

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
