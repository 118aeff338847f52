"""`stadia list`: what a configuration may name. `stadia doctor`: what works on this machine."""

import ast
import importlib.util
import itertools
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from itertools import starmap
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.options import JsonOption, argument, flag
from stadia.cli.output import echo
from stadia.core.registry import Registry

Rows = Iterable[tuple[str, str]]  # name and one line

# each kind of part has a table, or a function that returns its rows
PART_KINDS = Registry(
    "kind of part",
    {
        "recipes": "stadia.training.recipes:RECIPES",
        "presets": "stadia.training.recipes.presets:list_presets",
        "demos": "stadia.training:DEMOS",
        "datasets": "stadia.data:DATASETS",
        "object-datasets": "stadia.objectpose.data.open_objects:OBJECT_FORMATS",
        "networks": "stadia.cli.list_parts:networks",
        "trainable-networks": "stadia.networks:DEPTH_NETWORKS",
        "published-networks": "stadia.cli.list_parts:published_networks",
        "overlay-networks": "stadia.overlay:OVERLAY_NETWORKS",
        "attentions": "stadia.networks:ATTENTIONS",
        "pose-nets": "stadia.networks:POSE_NETS",
        "pose-heads": "stadia.networks:POSE_HEADS",
        "rotations": "stadia.networks:ROTATIONS",
        "activations": "stadia.networks:ACTIVATIONS",
        "encoders": "stadia.cli.list_parts:encoders",
        "losses": "stadia.losses:LOSSES",
        "smoothness": "stadia.losses:SMOOTHNESS",
        "sparse-depth-losses": "stadia.losses:SPARSE_DEPTH_LOSSES",
        "overlay-losses": "stadia.overlay:OVERLAY_LOSSES",
        "rotation-losses": "stadia.objectpose:ROTATION_LOSSES",
        "residuals": "stadia.losses:RESIDUALS",
        "optimizers": "stadia.training.loop:OPTIMIZERS",
        "schedules": "stadia.training.loop:SCHEDULES",
        "loggers": "stadia.training.loop:LOGGERS",
        "metrics": "stadia.metrics:METRICS",
        "trajectory-metrics": "stadia.metrics:TRAJECTORY_METRICS",
        "object-metrics": "stadia.objectpose:OBJECT_METRICS",
        "protocols": "stadia.cli.list_parts:protocols",
        "motions": "stadia.evaluation:MOTIONS",
        "backends": "stadia.predict.backends:BACKENDS",
        "odometry-methods": "stadia.sfm.odometry:ODOMETRY_METHODS",
        "matchers": "stadia.sfm.learned_matching:MATCHERS",
        "checks": "stadia.judge.recordings:CHECKS",
        "split-checks": "stadia.judge.recordings:SPLIT_CHECKS",
    },
)


def parts(
    kind: Annotated[str | None, argument("One kind, such as losses.")] = None,
    pattern: Annotated[str, typer.Option("--filter", help="Only names with this text; * and ? are wildcards.")] = "",
) -> None:
    """List recipes, datasets, networks, losses and other parts. Without a kind, lists the kinds."""
    from rich.markup import escape
    from rich.table import Table as Grid

    from stadia.core.terminal import Terminal

    console = Terminal(highlight=False)
    if kind is None and not pattern:
        console.print(", ".join(PART_KINDS), markup=False)
        console.print("`stadia list KIND` lists the parts of a kind, and `stadia list --filter TEXT` searches all.")
        return
    # published-networks describes rows of networks, so only its whole name lists it
    alike = [name for name in PART_KINDS if name.endswith(f"-{kind}") and name != "published-networks"]
    kinds = [*([kind] if kind in PART_KINDS else []), *alike] if kind else list(PART_KINDS)
    for name in kinds or [PART_KINDS.check(str(kind))]:
        if name == "encoders" and not kind:  # more than a thousand
            rows: Rows = [("any timm model", "stadia list encoders --filter resnet lists them")]
        else:
            rows = [(part, line) for part, line in list_rows(name) if fnmatch(part, f"*{pattern}*")]
        grid = Grid.grid(padding=(0, 2))
        grid.add_column()
        grid.add_column(no_wrap=True, min_width=max((len(part) for part, _ in rows), default=0))  # names are typed
        for part, line in rows:
            grid.add_row("", escape(part), escape(line))
        if grid.row_count:
            console.print(f"[bold]{name}[/bold]", grid, sep="\n")


def list_rows(kind: str) -> Rows:
    """Return name and one line of description of every part of a kind."""
    source = PART_KINDS.load(kind)
    return [(name, read_first_line(source[name])) for name in source] if isinstance(source, Registry) else source()


def read_first_line(where: str) -> str:
    """Return the first docstring line of "module:attribute" without importing the module; "" without one."""
    from stadia.io.input_files import read_text

    module, attribute = where.split(":")
    spec = importlib.util.find_spec(module)  # imports the packages above it, which are light
    source = read_text(Path(spec.origin), expected="the source of a part") if spec and spec.origin else ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def protocols() -> Rows:
    """Yield the name of every depth protocol, with its alignments and its ground truth."""
    from stadia.evaluation.protocols import PROTOCOLS, Alignment

    def describe(scale: str, kind: Alignment) -> str:
        return f"{scale} as they are" if kind is Alignment.NONE else f"{scale} fitted by {kind}"

    for name, rules in PROTOCOLS.items():
        yield name, f"{', '.join(starmap(describe, rules.alignments.items()))}; truth: {rules.ground_truth}"


def networks() -> Rows:
    """Yield the name of every network that predicts without a training.

    Each line shows whether the network is on this machine, its size, its licence, and its strengths.
    """
    from stadia.predict.networks.published_networks import list_network_rows

    for row in list_network_rows():
        state = "ready" if row.is_here else "download"
        yield row.name, f"{state:<8}  {row.size:>7}  {row.licence:<13}  {row.use}"


def published_networks() -> Rows:
    """Return the name of every published network, with its unit, training data, paper and scores."""
    from stadia.predict.networks.published_networks import PUBLISHED_NETWORKS

    return [(name, entry.title) for name, entry in PUBLISHED_NETWORKS.items()]


def encoders() -> Rows:
    """Return the name of every timm model, and whether it has weights."""
    import stadia.differentiable.torchvision_operators  # noqa: F401

    # isort: split

    import timm

    return [(name, "" if timm.is_model_pretrained(name) else "no pretrained weights") for name in timm.list_models()]


GAPS = 1
"""Exit code of `stadia doctor` if something that a training needs is missing."""


EXTRAS, MARKS = "extras", {"note": "-", "gap": "!"}


def doctor(
    online: Annotated[bool, flag("--online", "Also connect to the Hugging Face hub.")] = False,
    private: Annotated[bool, flag("--private", "Show whole paths; else your home folder is ~.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what works on this machine, with fixes. Exits with 1 at a gap."""
    from stadia.cli.machine_check import examine_machine

    entries = examine_machine(online=online, private=private)
    gaps = [entry for entry in entries if entry.state == "gap"]
    if as_json:
        echo(json.dumps([entry.to_dict() for entry in entries], indent=2))
    else:
        for group, members in itertools.groupby(entries, key=lambda entry: entry.group):
            listed = list(members)
            if works := [f"{entry.name} {entry.found}" for entry in listed if entry.state == "works"]:
                echo(f"{group}: {'; '.join(works)}")
            if group == EXTRAS:
                if missing := [entry.name for entry in listed if entry.cure]:
                    echo(f"- not installed: {', '.join(missing)}. Fix: pip install 'stadia[NAME]'")
                continue
            for entry in listed:
                if entry.cure:
                    echo(f"{MARKS[entry.state]} {entry.name}: {entry.found}. Fix: {entry.cure}")
        echo(f"{len(gaps)} gaps (!), {sum(entry.state == 'note' for entry in entries)} notes (-)")
    if gaps:
        raise typer.Exit(GAPS)
