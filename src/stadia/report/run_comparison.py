"""Compare two runs: differences, cautions, and the scores that both have."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stadia.core.config import ABSENT, LOSS_METRICS, ValueChange, diff_mappings, select_relevant_changes, shorten_hashes
from stadia.core.errors import format_plot_text
from stadia.io.atomic_files import atomic_write
from stadia.io.run_facts import match_facts
from stadia.report.run_files import RunFiles, Series, direction_arrow, flatten_mapping, format_metric, metric_label

MARK = "stadia-comparison"  # marks drawings that may be replaced
MAX_CODE_FILES, MAX_PANELS = 12, 8
_LONG_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{6,}(e-?\d+)?")
FREE_KEYS = ("seed", "data.path", "data.cache")
"""Changes of these keys do not confound a comparison, because the fingerprint of the data is compared."""

MAX_VALUE_CHARS, CONTEXT_CHARS = 60, 15  # characters of a shown value, and those before its first difference
OWN_VALUES = "own_values"  # keys of values of a user's class, which may change the meaning of a loss


@dataclass(frozen=True)
class RunDifference:
    """The differences between two runs, in groups.

    config: keys that can change the result.
    aside: keys that cannot.
    start: start weights.
    """

    config: list[ValueChange]
    aside: list[ValueChange]
    code: list[ValueChange]
    data: list[ValueChange]
    environment: list[ValueChange]
    start: list[ValueChange]

    def groups(self) -> list[tuple[str, list[ValueChange]]]:
        """Return (title, changes) of the groups that are not empty."""
        groups = {
            "configuration": self.config,
            "start": self.start,
            "code": self.code,
            "data": self.data,
            "environment": self.environment,
            "no result depends on": self.aside,
        }
        return [(title, changes) for title, changes in groups.items() if changes]

    @property
    def loss_keys(self) -> list[str]:
        """Return the changed keys that change the meaning of the loss."""
        return [change.key for change in self.config if change.is_within(["loss"])]

    @property
    def has_same_data(self) -> bool:
        """Return whether both runs have the same data, so that their scores are comparable."""
        return not any("fingerprint" in change.key for change in self.data)


def diff_runs(before: RunFiles, now: RunFiles) -> RunDifference:
    """Return the differences between two runs, from the first to the second."""
    config = diff_mappings(before.config, now.config)
    start = [change for change in config if change.key == "start_from"]
    relevant = [change for change in select_relevant_changes(config) if change.key != "start_from"]

    old, new = before.facts, now.facts
    return RunDifference(
        config=relevant,
        aside=[change for change in config if change not in relevant and change not in start],
        code=[
            *_diff_part("version", old.version, new.version),
            *_diff_part("recipe_class", old.recipe_class, new.recipe_class),
            *_diff_part(OWN_VALUES, old.own_values, new.own_values),
            *_diff_part("code", asdict(old.code), asdict(new.code)),
            *diff_patches(before.patch, now.patch),
        ],
        data=_diff_part("data", old.data, match_facts(new.data, old.data)),
        environment=_diff_part("environment", asdict(old.environment), asdict(new.environment)),
        start=[*start, *_diff_part("weights", old.weights, new.weights)],
    )


def _diff_part(name: str, old: Any, new: Any) -> list[ValueChange]:
    before, now = (flatten_mapping({name: part} if part else {}) for part in (old, new))
    return diff_mappings(before, now)


def diff_patches(before: str, now: str) -> list[ValueChange]:
    """Return the files whose uncommitted lines differ between two patches, with their numbers of lines."""
    old, new = _group_lines_by_file(before), _group_lines_by_file(now)
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    shown = names[:MAX_CODE_FILES]
    changes = [ValueChange(name, _count_lines(old.get(name)), _count_lines(new.get(name))) for name in shown]
    more = len(names) - len(shown)
    return [*changes, ValueChange(f"{more} more files", "", "changed")] if more else changes


def _group_lines_by_file(patch: str) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    name = ""
    for line in patch.splitlines():
        if match := re.match(r"diff --git a/(.+) b/(.+)$", line):
            name = match[2]
            lines[name] = []
        elif name and line[:1] in "+-" and not line.startswith(("+++", "---")):
            lines[name].append(line)
    return lines


def _count_lines(lines: Sequence[str] | None) -> str:
    if lines is None:
        return "as committed"
    added = sum(line.startswith("+") for line in lines)
    return f"+{added} -{len(lines) - added} lines uncommitted"


@dataclass(frozen=True)
class RunChanges:
    """The differences between a run and the previous one, the scores of both, and cautions."""

    before: str
    groups: list[tuple[str, list[ValueChange]]]
    outcome: list[ValueChange]
    cautions: list[str]


def compare_runs(before: RunFiles, now: RunFiles) -> RunChanges:
    """Return the differences between two runs and between their results."""
    difference = diff_runs(before, now)
    old, new = flatten_mapping(before.result), flatten_mapping(now.result)
    outcome = [
        ValueChange(key, format_metric(key, old[key]), format_metric(key, value))
        for key, value in new.items()
        if key in old and metric_label(key).better != "neither"
    ]
    groups = [(title, list(map(shorten_change, changes))) for title, changes in difference.groups()]
    cautions = list_confounders(difference) if outcome else []
    return RunChanges(before.folder.resolve().name, groups, outcome, cautions)


def _is_inside_run(path: object, run: RunFiles) -> bool:
    return Path(str(path)).resolve().is_relative_to(run.folder.resolve())


def shorten_change(change: ValueChange) -> ValueChange:
    """Return a change with short values: numbers with six digits, the ends of hashes and paths.

    Other values are shown from their first difference on.
    """
    if ".train_images" in change.key:
        return ValueChange(change.key, "", "other images")
    before, now = (_LONG_NUMBER.sub(lambda number: f"{float(number[0]):.6g}", t) for t in (change.before, change.now))
    if before != now:
        change = shorten_hashes(ValueChange(change.key, before, now))
    if max(map(len, (change.before, change.now))) <= MAX_VALUE_CHARS:
        return change
    letters = enumerate(zip(change.before, change.now, strict=False))
    start = max(next((place for place, (old, new) in letters if old != new), 0) - CONTEXT_CHARS, 0)
    return ValueChange(change.key, *(_cut_text(text, start) for text in (change.before, change.now)))


def _cut_text(text: str, start: int) -> str:
    if len(text) <= MAX_VALUE_CHARS:
        return text
    if text.startswith("/") and "\n" not in text:
        return "…/" + "/".join(text.rsplit("/", 2)[-2:])
    return "…" * (start > 0) + text[start : start + MAX_VALUE_CHARS] + "…" * (start + MAX_VALUE_CHARS < len(text))


def describe_outcome(run: RunFiles) -> str:
    """Return one line about how many steps a run trained and why it ended."""
    status, error, steps = run.facts.status, run.facts.error, run.steps
    end = "ended without a reason (killed, or still running)" if status == "running" else status
    count = "steps unknown" if steps is None and run.lost else f"{steps or 0} step{'s' * (steps != 1)}"
    return f"{count}, {end}" + (f": {error}" if error else "") + "."


def write_comparison(a: RunFiles, b: RunFiles) -> str:
    """Return the comparison of two runs as Markdown: differences, cautions, and the scores that both have."""
    names = [run.folder.resolve().name for run in (a, b)]
    difference = diff_runs(a, b)
    lines = [f"# {names[0]} and {names[1]}", ""]
    if not difference.groups():
        lines += ["No difference.", ""]
    for title, changes in difference.groups():
        lines += [f"{title.capitalize()}:", "", "| key | first | second |", "| --- | --- | --- |"]
        for change in map(shorten_change, changes):
            lines.append(f"| `{change.key}` | {_escape_cell(change.before)} | {_escape_cell(change.now)} |")
        lines.append("")
    lines += [*(f"- {caution}" for caution in list_cautions(a, b, difference)), ""]
    if shared := [pair for pair in pair_series(a, b) if pair[0].name.startswith("val/")]:
        lines += ["| metric | | first, best | second, best | first, last | second, last |", "|" + " --- |" * 6]
        lines += [_format_score_row(*pair) for pair in shared]
    else:
        lines.append("No common validation metric.")
    lines += ["", *(f"{name}: {describe_outcome(run)}" for name, run in zip(names, (a, b), strict=True))]
    return "\n".join(lines).rstrip() + "\n"


def pair_series(a: RunFiles, b: RunFiles) -> list[tuple[Series, Series]]:
    """Return the pairs of series that both runs logged."""
    others = {series.name: series for series in b.series}
    return [(series, others[series.name]) for series in a.series if series.name in others]


def list_cautions(a: RunFiles, b: RunFiles, difference: RunDifference) -> list[str]:
    """Return the reasons why the scores may not measure the effect of the differences."""
    cautions = []
    if a.recipe != b.recipe:
        cautions.append(f"Different recipes: {a.recipe} and {b.recipe}.")
    elif a.recipe_class != b.recipe_class:
        classes = " and ".join(run.recipe_class or run.recipe for run in (a, b))
        cautions.append(f"Different classes: {classes}. Their losses may not be comparable.")
    cautions += list_confounders(difference)
    cautions += [f"{run.folder.resolve().name}: {line}." for run in (a, b) for line in [*run.lost, *run.unreadable]]
    for run, source in ((a, b), (b, a)):
        if (parent := run.config.get("start_from")) and _is_inside_run(parent, source):
            cautions.append(f"{run.folder.resolve().name} starts from {source.folder.resolve().name}.")
    return [*cautions, "One run each may differ by chance: `stadia ablate` compares several seeds."]


def list_confounders(difference: RunDifference) -> list[str]:
    """Return the differences that hide the effect of a single changed key."""
    notes = []
    own = [change.key.partition(".")[2] for change in difference.code if change.is_within([OWN_VALUES])]
    if own and not any(change.key == "recipe_class" for change in difference.code):
        notes.append(f"Other values of the class ({', '.join(own)}): losses may not be comparable.")
    if difference.start:
        notes.append("Different initial weights also affect the scores.")
    keys = [change.key for change in difference.config if change.key not in FREE_KEYS]
    if len(keys) > 1:
        notes.append(f"{len(keys)} keys differ ({', '.join(keys)}), so scores do not show the effect of one key.")
    if loss_keys := difference.loss_keys:
        notes.append(f"Their losses are not comparable ({', '.join(loss_keys)}).")
    if not difference.has_same_data:
        notes.append("Their data differ, so their scores are not comparable.")
    return notes


def _format_score_row(a: Series, b: Series) -> str:
    better = metric_label(a.name).better
    best = [series.find_best(better) for series in (a, b)]
    cells = [format_metric(a.name, found[0] if found else None) for found in best]
    cells += [format_metric(series.name, series.values[-1]) for series in (a, b)]
    return f"| {a.name} | {direction_arrow(a.name)} | {' | '.join(cells)} |"


def _escape_cell(text: str) -> str:
    return "–" if text == ABSENT else text.replace("|", "\\|").replace("\n", " ")


def draw_comparison(a: RunFiles, b: RunFiles, path: Path) -> bool:
    """Draw validation metrics and loss of both runs as SVG or PNG, with the second run dashed.

    Returns False if the runs have no common curves.
    """
    from matplotlib.figure import Figure

    drawn = [pair for pair in pair_series(a, b) if pair[0].name.startswith("val/") or pair[0].name == "train/loss"]
    if not drawn:
        return False
    apart = bool(diff_runs(a, b).loss_keys)
    panels = [panel for pair in drawn[:MAX_PANELS] for panel in _split_panels(*pair, apart=apart)]
    figure = Figure(figsize=(7.5, 2.4 * len(panels)), layout="constrained")
    styles = {"color": "#1f5fa8"}, {"color": "#c4661f", "linestyle": "--"}
    names = [format_plot_text(run.folder.resolve().name) for run in (a, b)]
    for axes, (title, curves) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for number, series in curves:
            marker = "." if len(series.steps) < 30 else None
            axes.plot(series.steps, series.values, marker=marker, label=names[number], **styles[number])
        axes.set_ylabel(format_plot_text(title))
        axes.legend(fontsize="small")
    axes.set_xlabel("step")
    with atomic_write(path) as temporary:
        mark = {"Date": None, "Identifier": MARK} if path.suffix == ".svg" else {"Software": MARK}
        figure.savefig(temporary, dpi=150, metadata=mark)
    return True


def _split_panels(a: Series, b: Series, *, apart: bool) -> list[tuple[str, list[tuple[int, Series]]]]:
    title = metric_label(a.name).label
    if apart and a.name.startswith(LOSS_METRICS):
        return [(f"{title} (not comparable)", [curve]) for curve in enumerate((a, b))]
    same = (a.steps, a.values) == (b.steps, b.values)
    return [(f"{title}\n(the same in both)" if same else title, list(enumerate((a, b))))]
