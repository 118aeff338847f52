"""Test H8 at one size: networks trained at 32 and at 64 pixels, both scored by labels of 64 pixels. Trains nothing.

    stadia ablate experiments/overlay_hypotheses/h08.yaml --seeds 0,1,2,3,4,5
    python experiments/overlay_hypotheses/h08_one_size.py studies/h08

The validation images of the base are averaged to 32 pixels for the small network, and its maps are enlarged bilinearly.
AbsRel is compared seed by seed, by the test of `stadia ablate`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch.nn.functional import avg_pool2d, interpolate

from stadia.metrics.statistics import judge_changes
from stadia.overlay.metrics import compute_image_sums, compute_overlay_scores
from stadia.overlay.recipe import OverlayRecipe
from stadia.training.recipes.base.build_recipe import load_recipe
from stadia.training.studies.config import BASE
from stadia.training.studies.study_folder import StudyFolder

SMALL, FACTOR = "small", 2


@torch.no_grad()
def score(recipe: OverlayRecipe, data_of: OverlayRecipe, factor: int) -> float:
    """Return AbsRel on the validation images of `data_of`, which the network gets `factor` times smaller."""
    _, data = OverlayRecipe.prepare(data_of.config, Console(quiet=True))
    loss = data_of.config.loss
    sums = []
    assert data.val is not None, "the study validates"
    for batch in data.val:
        image, background = (avg_pool2d(values, factor) for values in (batch.inputs.image, batch.inputs.background))
        maps = recipe.maps(replace(batch.inputs, image=image, background=background))
        log_depth, logits = (
            interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False) if factor > 1 else values
            for values in (maps.log_depth, maps.mask_logits)
        )
        assert batch.targets.depth_m is not None
        limits = (loss.min_depth, loss.max_depth)
        labels = batch.targets.depth_m, batch.targets.mask
        sums += compute_image_sums(log_depth.exp(), logits, *labels, recipe.scored_as, limits)
    return compute_overlay_scores(sums)["abs_rel"]


def main(root: Path) -> None:
    """Print the scores and the verdict."""
    torch.set_num_threads(1)
    folder = StudyFolder(root)
    values: dict[str, dict[int, float]] = {BASE: {}, SMALL: {}}
    for seed in folder.study.seeds:
        recipes = {}
        for change in values:
            run = folder.find(f"{change}-seed{seed}")
            if run is None:
                sys.exit(f"{root} has no run {change}-seed{seed}: train it with stadia ablate first")
            recipes[change] = load_recipe(run / "checkpoints" / "last.safetensors").eval()
        for change, factor in ((BASE, 1), (SMALL, FACTOR)):
            values[change][seed] = score(recipes[change], recipes[BASE], factor)
        print(f"seed {seed}: {values[BASE][seed]:.3f} at 64, {values[SMALL][seed]:.3f} at 32 pixels", flush=True)
    (verdict,) = judge_changes(values[BASE], {SMALL: values[SMALL]}, expected={SMALL: "worse"})
    found = verdict.difference
    assert found is not None, "a study has three seeds at least"
    half = (found.high - found.low) / 2
    numbers = f"{found.mean:+.3f} +- {half:.3f} (95 %), {found.n} seeds, p {found.p:.2g}"
    print(f"small minus base: {numbers}. H8: {verdict.decision}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
