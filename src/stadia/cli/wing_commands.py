"""The commands of the wings, by name."""

from __future__ import annotations

from stadia.core.registry import Registry

WING_COMMANDS = Registry(
    "command of a wing",
    {
        "tableworld": "stadia.objectpose.commands:tableworld",
        "show": "stadia.objectpose.commands:show",
        "score-objects": "stadia.objectpose.commands:score_object_files",
        "foregrounds": "stadia.overlay.commands:foregrounds",
        "overlay": "stadia.overlay.commands:overlay",
    },
)
