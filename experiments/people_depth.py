"""Score depth on people and on what is behind them, in rendered scenes whose seeds trained nothing.

    python experiments/mesh_assets.py --out runs/base
    python experiments/people_depth.py --assets runs/base/assets.npz [--scenes 60] [--network base ...]

Prints a row for each network: d1 and AbsRel with equal medians of the whole image, on people and on the background.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import zero_shot
from mesh_worlds import render_scene
from numpy.typing import NDArray

from stadia.data.frame_preparation import Frame
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

KINDS = ("portrait", "market", "street", "room")
MIN_PEOPLE, MIN_BACKGROUND = 0.02, 0.2  # shares of the image


def read_views(scenes: int, seed: int) -> list[tuple[Frame, zero_shot.Map, NDArray[np.bool_]]]:
    """Return image, z (H, W) in metres with 0 for the sky, and the people (H, W), of views that show both."""
    views = []
    for index in range(scenes):
        for view in render_scene(seed + index, KINDS[index % len(KINDS)])[:1]:
            z, person = view["z"].astype(np.float64), view["person"]
            person &= (z > 0) & (z < zero_shot.FARTHEST_TRUTH_M)
            behind = (z > 0) & (z < zero_shot.FARTHEST_TRUTH_M) & ~person
            if person.mean() < MIN_PEOPLE or behind.mean() < MIN_BACKGROUND:
                continue
            height, width = z.shape
            focal = float(view["focal"]) * width
            K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
            truth = np.where(person | behind, z, 0)
            views.append((Frame(str(index), np.ascontiguousarray(view["image"].transpose(1, 2, 0)), K), truth, person))
    return views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=900_000_000)
    parser.add_argument("--network", nargs="+", default=["base"])
    arguments = parser.parse_args()
    os.environ["MESH_ASSETS"] = str(arguments.assets)
    views = read_views(arguments.scenes, arguments.seed)
    size = views[0][1].shape
    networks = {"constant depth": zero_shot.predict_constant}
    for name in arguments.network:
        predictor = load_predictor(open_network_checkpoint(name, lambda: size))
        networks[name] = lambda frame, p=predictor: zero_shot.predict_depth(p, frame)
    print(f"{len(views)} images\n\n| network | d1, people | d1, background | AbsRel, people | AbsRel, background |")
    print("|---|---|---|---|---|")
    for name, predict in networks.items():
        rows = []
        for frame, truth, person in views:
            known, depth = truth > 0, predict(frame)
            ratio = depth * np.median(truth[known]) / np.median(depth[known]) / np.where(known, truth, 1)
            error = np.maximum(ratio, 1 / np.maximum(ratio, 1e-9))
            rows.append(
                [(error[at] < 1.25).mean() for at in (person, known & ~person)]
                + [np.abs(ratio[at] - 1).mean() for at in (person, known & ~person)]
            )
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in np.mean(rows, axis=0))} |", flush=True)


if __name__ == "__main__":
    main()
