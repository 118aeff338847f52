"""Write the pages of the configuration keys from their models, of the presets, and of what a key may name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from website.markdown_text import code, escape, table

INTRODUCTION = """\
# Configuration

A recipe has one configuration. Its values come from the defaults, then a preset (`--preset`), then
a file (`--config`), then `KEY=VALUE` on the line. `stadia train RECIPE --help` prints the same
tables. A misspelt key stops the run with the nearest valid name. [Presets](presets.md) are files to
copy; [parts](parts.md) lists the names that a key accepts.
"""

EXPERIMENTAL = """\
## Experimental

Ideas of the notebooks that had no effect, or a worse one,
[where they were measured](../../results/notebooks.md#options-of-metric). They may go."""


def write_configuration() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    from stadia.objectpose.config import TableWorldConfig
    from stadia.overlay.config import CutoutConfig, OverlayDataConfig
    from stadia.scale.camera_height.config import CameraHeightConfig
    from stadia.synthetic.config import RoadWorldConfig
    from stadia.training.recipes import CONFIGS
    from stadia.training.studies.config import StudyConfig

    models = {name: (CONFIGS.load(name), f"recipe `{name}`", f"stadia train {name}") for name in CONFIGS}
    models |= {
        "camera-height": (CameraHeightConfig, "`stadia camera-height`", "stadia camera-height"),
        "study": (StudyConfig, "a study", "stadia ablate"),
        "roadworld": (RoadWorldConfig, "RoadWorld", "stadia data roadworld"),
        "tableworld": (TableWorldConfig, "TableWorld", "stadia data tableworld"),
        "overlay-data": (OverlayDataConfig, "composite images", "stadia data overlay"),
        "foregrounds": (CutoutConfig, "pasted objects", "stadia data foregrounds"),
    }
    rows = [(f"[{title}]({name}.md)", code(command)) for name, (_, title, command) in models.items()]
    pages = {"index": "\n".join((INTRODUCTION, table(("keys of", "command"), rows), ""))}
    pages |= {name: _write_keys(model, title, command) for name, (model, title, command) in models.items()}
    pages |= {"presets": _write_presets(), "parts": _write_parts()}
    return {f"reference/configuration/{name}.md": text for name, text in pages.items()}


def _write_keys(model: type, title: str, command: str) -> str:
    from stadia.core.config_help import describe_keys

    groups: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    for one in describe_keys(model):
        if ".NAME." not in one.key:  # the same keys again, for other data sets
            row = (
                code(one.key),
                code(one.default) if one.default is not None else "required",
                escape(one.allowed),
                escape(one.sentence),
            )
            groups[EXPERIMENTAL if one.is_experimental else one.key.rpartition(".")[0]].append(row)
    introduction = "\n\n".join(map(escape, _read_introduction(model)))
    parts = [f"# Keys of {title}", introduction, f"Command: `{command}`."]
    for group, rows in sorted(groups.items(), key=lambda item: item[0] == EXPERIMENTAL):
        heading = f"## `{group}`" if group else "## Top level"
        if group == EXPERIMENTAL:
            heading = EXPERIMENTAL
        parts.append(f"{heading}\n\n{table(('key', 'default', 'values', 'meaning'), rows)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _read_introduction(model: type) -> list[str]:
    import inspect

    return inspect.cleandoc(model.__doc__ or "").split("\n\n")[:1]


def _write_presets() -> str:
    from stadia.training.recipes import presets

    parts = [
        "# Presets",
        "Pass the name, or the path of a copy: `stadia train selfsup --preset tiny-laptop --data DATA`.",
    ]
    for path in sorted(Path(presets.__file__).parent.glob("*.yaml")):
        parts.append(f"## {path.stem}\n\n```yaml\n{path.read_text(encoding='utf-8').strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _write_parts() -> str:
    from stadia.cli.list_parts import PART_KINDS, list_rows

    parts = ["# Parts", "The names that a key may have, as `stadia list` prints them. Encoders are those of timm."]
    for kind in PART_KINDS:
        if kind != "encoders":
            rows = [(code(name), escape(line)) for name, line in list_rows(kind)]
            parts.append(f"## {kind}\n\n{table(('name', 'what it is'), rows)}")
    return "\n\n".join(parts) + "\n"
