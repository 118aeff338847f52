"""Read the folder of a run: all files that exist, and a line for each file that cannot be read."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, TypeGuard

from stadia.core.errors import DataError, StadiaError
from stadia.core.verdict import Verdict
from stadia.io import run_facts
from stadia.io.input_files import iterate_csv, parse_json_lines, read_bytes, read_json

MAX_BYTES = 64 << 20
MAX_FINDINGS = 1000
MAX_STEP = 1 << 53  # whole numbers of a float
MAX_DRAWN = 1e100  # squares and ratios of larger or smaller numbers leave float64


@dataclass(frozen=True)
class Series:
    """One scalar over the steps of a run, in logged order. A value may be NaN or infinite."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]

    def find_best(self, better: str) -> tuple[float, int] | None:
        """Return the best finite value and its step, or None without finite values.

        better: "lower" or "higher".
        """
        pairs = [pair for pair in zip(self.values, self.steps, strict=True) if math.isfinite(pair[0])]
        choose = max if better == "higher" else min
        return choose(pairs) if pairs else None


@dataclass(frozen=True)
class ValueSpread:
    """The distribution of values at logged steps.

    zero: share of the values that are exactly 0.
    percentiles: 5th, 25th, 50th, 75th and 95th percentile of |value|.
    """

    name: str
    steps: list[int]
    zero: list[float]
    percentiles: list[tuple[float, ...]]


@dataclass(frozen=True)
class RunFiles:
    """The content of a run's folder. Fields of absent files are empty.

    facts: content of run.json, or `UNKNOWN_FACTS`.
    series: columns of metrics.csv.
    spreads: names in histograms.csv.
    scores: content of scores/<name>.json, by name without repeated words.
    findings: mappings in the lines of findings.jsonl.
    images: (step, file) in the order of the steps.
    checkpoint: content of checkpoints/last.json.
    patch: uncommitted changes of the code (diff.patch).
    unreadable: a line for each file that cannot be read.
    lost: files that the folder contained before.
    """

    folder: Path
    facts: run_facts.RunFacts = run_facts.UNKNOWN_FACTS
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    spreads: list[ValueSpread] = field(default_factory=list)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    images: list[tuple[int, Path]] = field(default_factory=list)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    patch: str = ""
    unreadable: list[str] = field(default_factory=list)
    lost: list[run_facts.LostFile] = field(default_factory=list)

    @property
    def recipe(self) -> str:
        """Return the name of the recipe that trained the run."""
        return self.facts.recipe or str(self.config.get("recipe") or "run")

    @property
    def recipe_class(self) -> str:
        """Return the name of the user's class that trained the run, or ""."""
        return self.facts.recipe_class or ""

    @property
    def name(self) -> str:
        """Return the name of the run without the date."""
        return self.facts.name

    @property
    def steps(self) -> int | None:
        """Return the number of trained steps, from the last checkpoint or logged value; None without both."""
        known, saved = [series.steps[-1] for series in self.series], self.checkpoint.get("step")
        if isinstance(saved, int) and 0 <= saved <= MAX_STEP:
            known.append(saved)
        return max(known) if known else None


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run. Raises DataError if run.json and config.json are missing."""
    folder = Path(folder)
    if not is_run_folder(folder):
        found = run_facts.describe_place(folder, inside="neither run.json nor config.json")
        is_study = (folder / "study.yaml").is_file()
        fix = "read its table.md, or pass one of its runs/" if is_study else ""
        fix = fix or run_facts.describe_runs([folder, folder.parent, Path("runs")]) or "pass runs/<date>-<name>"
        raise DataError(folder, found="a study" if is_study else found, expected="a run's folder", fix=fix)
    unreadable: list[str] = []

    def attempt(name: str, read: Callable[[Path], Any], absent: Any) -> Any:
        if not (folder / name).exists():
            return absent
        try:
            return read(check_inside(folder, folder / name))
        except (StadiaError, OSError, ValueError) as error:
            unreadable.append(f"{name}: {error.found if isinstance(error, StadiaError) else error}")
            return absent

    scores = {
        path.stem: score
        for path in sorted(folder.glob("scores/*.json"))
        if (score := attempt(f"scores/{path.name}", _read_object, None))
    }
    facts = attempt(run_facts.RUN_FILE, lambda path: run_facts.read_run_facts(path.parent), run_facts.UNKNOWN_FACTS)
    config = attempt("config.json", _read_object, {})
    return RunFiles(
        folder=folder,
        facts=facts,
        config=config,
        result=attempt("result.json", _read_object, {}),
        series=attempt("metrics.csv", _read_series, []),
        spreads=attempt("histograms.csv", _read_spreads, []),
        scores=dict(zip(_shorten_names(list(scores)), scores.values(), strict=True)),
        findings=attempt("findings.jsonl", _read_lines, []),
        images=sorted((step_from_filename(path), path) for path in folder.glob("images/*.png")),
        checkpoint=attempt("checkpoints/last.json", _read_object, {}),
        patch=attempt("diff.patch", _read_text, ""),
        unreadable=unreadable,
        lost=list(run_facts.list_lost_files(folder, facts, config)),
    )


def check_inside(folder: Path, path: Path) -> Path:
    """Return the path of a file in a run's folder. Raises DataError if a link leads out of the folder."""
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that no file can have
        is_inside = False
    if not is_inside:
        expected, fix = "a file inside the run's folder", "copy the file there"
        raise DataError(path, found="a link out of the run's folder", expected=expected, fix=fix)
    return path


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder is the folder of a run."""
    return (folder / "run.json").is_file() or (folder / "config.json").is_file()


def find_previous_run(run: RunFiles) -> RunFiles | None:
    """Return the latest earlier run of the same recipe and name in the same folder. Links are not followed."""
    folder = run.folder.resolve()
    earlier: list[tuple[tuple[str, str], Path]] = []
    for path in folder.parent.glob("*/run.json"):
        try:
            other = RunFiles(path.parent, facts=run_facts.read_run_facts(check_inside(folder.parent, path).parent))
        except (StadiaError, OSError, ValueError):
            continue
        is_same_kind = path.parent != folder and (other.recipe, other.name) == (run.recipe, run.name)
        if is_same_kind and start_order(other) < start_order(run):
            earlier.append((start_order(other), path.parent))
    return read_run(max(earlier)[1]) if earlier else None


def start_order(run: RunFiles) -> tuple[str, str]:
    """Return the sort key of a run: start time, then name."""
    return run.facts.started, run.folder.resolve().name


def _shorten_names(names: list[str]) -> list[str]:
    split = [name.split("-") for name in names]
    short = ["-".join(w for i, w in enumerate(words) if w.isdigit() or w not in words[:i]) for words in split]
    return [brief if short.count(brief) == 1 else name for brief, name in zip(short, names, strict=True)]


def step_from_filename(path: Path) -> int:
    """Return the number at the end of the name of an image."""
    return int("".join(re.findall(r"(\d+)\D*$", path.stem)) or 0)


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def _read_text(path: Path) -> str:
    return read_bytes(path, expected="text", max_bytes=MAX_BYTES).decode("utf-8-sig", "replace")


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    return iterate_csv(path, expected="a table of numbers", max_bytes=MAX_BYTES)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    values = parse_json_lines(path, _read_text(path), "a JSON object a line")
    return [value for value in islice(values, MAX_FINDINGS) if isinstance(value, dict)]


def _read_series(path: Path) -> list[Series]:
    columns: dict[str, tuple[array[int], array[float]]] = {}
    for row in _read_rows(path):
        columns = columns or {name: (array("q"), array("d")) for name in row if name not in ("step", "epoch", "")}
        if (step := _parse_step(row.get("step"))) is not None:
            for name, (steps, values) in columns.items():
                if (value := _parse_number(row.get(name))) is not None:
                    steps.append(step)
                    values.append(value)
    return [Series(name, *_sort_by_step(*logged)) for name, logged in columns.items() if logged[0]]


def _sort_by_step(steps: array[int], values: array[float]) -> tuple[array[int], array[float]]:
    if all(before < after for before, after in pairwise(steps)):
        return steps, values
    last = dict(zip(steps, values, strict=True))
    return array("q", sorted(last)), array("d", (last[step] for step in sorted(last)))


def _read_spreads(path: Path) -> list[ValueSpread]:
    logged: dict[str, dict[int, list[float]]] = {}
    for row in _read_rows(path):
        step, name = _parse_step(row.get("step")), row.get("name", "")
        numbers = [_parse_number(row.get(column)) for column in ("zero", "p05", "p25", "p50", "p75", "p95")]
        sizes = [number for number in numbers if number is not None and 0 <= number <= MAX_DRAWN]
        if name and step is not None and len(sizes) == len(numbers):
            logged.setdefault(name, {})[step] = sizes
    spreads = []
    for name, sizes_by_step in logged.items():
        steps = sorted(sizes_by_step)
        sizes_of_steps = [sizes_by_step[step] for step in steps]
        zero, percentiles = [row[0] for row in sizes_of_steps], [tuple(row[1:]) for row in sizes_of_steps]
        spreads.append(ValueSpread(name, steps, zero, percentiles))
    return spreads


def _parse_number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    if value is None or math.isnan(value) or 1 / MAX_DRAWN <= abs(value) <= MAX_DRAWN:
        return value
    return math.copysign(math.inf, value) if abs(value) > MAX_DRAWN else 0.0


def _parse_step(text: str | None) -> int | None:
    step = _parse_number(text)
    return int(step) if step is not None and 0 <= step <= MAX_STEP else None


def flatten_mapping(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as `dotted.key -> leaf`. Lists are leaves."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= flatten_mapping(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def as_list(value: Any) -> list[Any]:
    """Return the value if it is a list, otherwise an empty list."""
    return value if isinstance(value, list) else []


def as_mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


Better = Literal["lower", "higher", "one", "neither"]


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is shown.

    label: its name.
    better: the direction of better values.
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
    """Return the symbol of the direction of better scores: ↓, ↑, or the target value if the scale is known."""
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

    scale_from: the known lengths that give metres.
    path: whether there is a camera path, too.
    """
    unknown = UNKNOWN_DEPTH_SCALE if name is None else (str(name), "This depth scale is unknown to the report.")
    label, meaning = DEPTH_SCALES.get(str(name), unknown)
    what = "Depth and path are" if path else "Depth is"
    return label, meaning.format(source=scale_from or "a known length", what=what)


def describe_scale_source(depth_scale: Any, rests_on: Any, no_metres: Any) -> str:
    """Return a text about the known lengths that give metres, or about the reason why the run has no metres; "" if
    nothing is to add.
    """
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
    if name == "finished" and verdict in (Verdict.DOUBTFUL, Verdict.UNUSABLE):
        return f"finished, depth {verdict}", "stop" if verdict == Verdict.UNUSABLE else "warn"
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
    tables: list[EvidenceTable]
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
