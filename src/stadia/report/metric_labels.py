"""Names, units, directions and descriptions of what a training logs and scores; formatting of numbers."""

import math
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

Better = Literal["lower", "higher", "one", "neither"]


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is shown.

    label: its name.
    better: the direction in which it improves.
    key: whether it is one of the key numbers.
    """

    label: str
    unit: str = ""
    better: Better = "lower"
    key: bool = False
    note: str = ""


_LABELS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("labels.toml").read_text(encoding="utf-8"))
SCORES: dict[str, MetricLabel] = {name: MetricLabel(**values) for name, values in _LABELS["scores"].items()}

MOTION_NAMES = {
    "aligned": ("image alignment", "aligns neighboring images with the predicted depth"),
    "network": ("pose network", "predicts the motion"),
    "mean-depth": ("mean depth", "aligns neighboring images with mean depth, a baseline"),
}
"""Name and description of the method that predicted a path, by the key `motion` of its score file."""

ALIGNMENT_MEANINGS = {
    "se3": "moved and turned onto the true path",
    "sim3": "moved, turned and scaled onto the true path",
    "scale": "scaled to the true path",
    "median": "scaled to the true depth, per image by its median",
    "scale and shift": "fitted to the true depth, per image by scale and shift",
    "scale and shift of depth": "fitted to the true depth, per image by scale and shift of depth",
}
"""What was fitted to the truth before scoring, by the alignment in a score file."""

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
    """Return the label of a score. Other scalars are shown under their own name, without a direction."""
    return find_metric_label(name) or MetricLabel(name, better="neither")


def direction_arrow(name: str, *, scale_known: bool = True) -> str:
    """Return the symbol of the direction in which a score improves: ↓, ↑, or the target value if the scale is known."""
    better = metric_label(name).better
    return {"lower": "↓", "higher": "↑", "one": "→\N{NO-BREAK SPACE}1" if scale_known else "", "neither": ""}[better]


def format_number(value: Any, unit: str = "") -> str:
    """Return a number with three significant digits and its unit. Text and booleans stay, and None becomes –."""
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
    """Return whether a value from a file is a finite number. Booleans are not."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float) and math.isfinite(value)


def format_metric(name: str, value: Any) -> str:
    """Return the text of a score with its unit."""
    return format_number(value, metric_label(name).unit)


def format_duration(seconds: float) -> str:
    """Return a duration as text: `48 s`, `6 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def format_memory(megabytes: float) -> str:
    """Return a size as text: `812 MB`, `2.4 GB`."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def describe_depth_scale(name: Any, scale_from: Any = None, *, path: bool = False) -> tuple[str, str]:
    """Return the name of a depth scale, and the meaning of its numbers.

    scale_from: the known lengths from which metres come.
    path: whether there is a camera path, too.
    """
    unknown = UNKNOWN_DEPTH_SCALE if name is None else (str(name), "This depth scale is unknown to the report.")
    label, meaning = DEPTH_SCALES.get(str(name), unknown)
    what = "Depth and path are" if path else "Depth is"
    return label, meaning.format(source=scale_from or "a known length", what=what)


def describe_scale_source(depth_scale: Any, rests_on: Any, no_metres: Any) -> str:
    """Return a text about the known lengths from which metres come, or why there are none; "" if nothing is to add."""
    if rests_on and depth_scale == METRES:
        return f"Metres come from {rests_on}."
    if rests_on:
        reason = f": {no_metres}" if no_metres else ""
        return f"This recipe learns metres from {rests_on}, but this depth is up to scale{reason}."
    if depth_scale == UP_TO_SCALE:
        return "For metres, use a stereo pair, or the camera's height over the road (recipe metric)."
    return ""


def describe_status(name: Any, verdict: str | None = None) -> tuple[str, str]:
    """Return how the status of a run is shown, and its tone: "good", "warn" or "stop".

    verdict: verdict on the predictions of the run.

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
    """The evidence of a finding, arranged for a page.

    numbers: (name, value) as text.
    tables: tables made of lists and matrices.
    image: path of an image, or "".
    """

    numbers: list[tuple[str, str]]
    tables: "list[EvidenceTable]"
    image: str


@dataclass(frozen=True)
class EvidenceTable:
    """A table of evidence.

    rows: text of each cell.
    title, head: title and column names; they may be empty.
    """

    title: str
    head: list[str]
    rows: list[list[str]]


def arrange_evidence(evidence: Mapping[str, Any]) -> EvidenceLayout:
    """Arrange the evidence of a finding: lists of equal length become a table, and nested lists a matrix."""
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
    """Return a value as text: numbers with three digits, and lists on one line."""
    return "  ".join(map(format_number, value)) if isinstance(value, list | tuple) else format_number(value)


# -- Panels of the curves, and the quantities of a training in a sentence each.

LOSS, TERMS, RATE, SECONDS = "Loss", "Terms of the loss", "Learning rate", "Seconds a step"


@dataclass(frozen=True)
class PanelLabel:
    """The title of a panel, and a note about what it shows, or ""."""

    title: str
    note: str = ""


QUANTITIES: dict[str, PanelLabel] = {name: PanelLabel(**values) for name, values in _LABELS["panels"].items()}
GRADIENT_PANELS: dict[str, PanelLabel] = {
    name: PanelLabel(**values) for name, values in _LABELS["gradient_panels"].items()
}

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
    """Return texts that explain the image sheets of a training. If the training logs the auto-mask, there are more."""
    return SHEET_NOTES if any(name.endswith("/auto_masked") for name in names) else SHEET_NOTES[:1]


def label_validation_image(name: str) -> PanelLabel:
    """Return the title and the note for a kind of validation image."""
    return VALIDATION_IMAGES.get(name, PanelLabel(name.replace("_", " ").capitalize()))


def label_panel(name: str) -> PanelLabel:
    """Return the title and the note of the panel that shows a logged scalar, such as "train/selfsup/depth/median"."""
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
