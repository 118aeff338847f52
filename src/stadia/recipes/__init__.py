"""Wires rooms into a training: data, model, geometry, losses, metrics. Never another recipe.

The main job, from Python:

    from stadia import recipes, report
    config = recipes.configure("selfsup", data={"path": "drive.mp4", "camera": {"horizontal_fov_deg": 70}})
    run = recipes.train(config)
    predictor = recipes.load_predictor(run.folder)
    print(report.build(run.folder))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.tables import Table

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.recipes.config import RecipeConfig
    from stadia.training.run import Run

RECIPES = Table("recipe", {"selfsup": "stadia.recipes.selfsup:Selfsup"})

CONFIGS = Table("recipe", {"selfsup": "stadia.recipes.selfsup_config:SelfsupConfig"})
"""The same names; these modules import no torch, so that a misspelt key is found before anything heavy is imported."""


def configure(recipe: str, overrides: Iterable[str] = (), **values: Any) -> RecipeConfig:
    """A recipe's configuration from nested values and `dotted.key=value` overrides. Raises ConfigError with every mistake at once."""
    from stadia.core.config import resolve

    config: RecipeConfig = resolve(CONFIGS.load(recipe), values, overrides)
    return config


def train(
    config: RecipeConfig,
    *,
    out: Path = Path("runs"),
    resume: Path | None = None,
    despite_findings: bool = False,
    ended: Callable[[Run], object] = lambda run: None,
) -> Run:
    """Check the data, train, score what validates. See `stadia.recipes.workflow.train`."""
    from stadia.recipes import workflow

    return workflow.train(config, out=out, resume=resume, despite_findings=despite_findings, ended=ended)


def load_predictor(checkpoint: Path) -> Predictor:
    """A trained recipe from a checkpoint or a run's folder. Raises CheckpointError where it is damaged or of no known recipe."""
    from stadia.recipes import workflow

    return workflow.load_predictor(checkpoint)
