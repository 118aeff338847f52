"""Score depth networks on real samples that trained none of ours, beside baselines, and the uncertainty of `base`.

    python experiments/zero_shot.py [--data DIR] [--network NETWORK ...]

Prints tables in Markdown: AbsRel after median scaling and in metres of the mean depth of each pixel, of a network as a
training from ImageNet's encoder starts, of METER (KITTI, NYU) and of `base`; how well several orders of base's pixels
by uncertainty follow its errors (AUSE); and the expected errors of its uncertainty beside the observed ones.

The mean depth knows the truth of the same images. The truth of Linemod-Occluded is that of its objects' meshes at their
poses, on their pixels alone.
"""

# mypy: disable-error-code="assignment, misc"

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from stadia.core.recording import RIGHT, Recording
from stadia.core.types import Camera, Predictor
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.metrics.uncertainty_metrics import sparsification
from stadia.models.depth.config import DepthModelConfig
from stadia.models.depth.depth_network import build_depth_network
from stadia.objectpose.data.bop import BopImages
from stadia.predict.inputs import open_inputs
from stadia.predict.scale.sources import match_pair_depth
from stadia.recipes import load_predictor
from stadia.recipes.base.network_checkpoint import make_network_recipe, open_network_checkpoint

Map = NDArray[np.float64]

GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
NEAREST_TRUTH_M, FARTHEST_TRUTH_M = 0.1, 80.0
MIN_TRUTHS = 100  # pixels of an image that is scored
METER_UNIT_M = 0.08  # of METER for KITTI, by its description
IMAGENET_DEPTH_M = 12.0  # at which a training of the preset `demo` starts
ZOOM = 1.5  # of the second image of the uncertainty by zoom
BINS = 10  # of the calibration


@dataclass(frozen=True)
class Sample:
    """Real images with a truth. crop: the part of the image, of rows and columns, that counts (Garg et al. 2016)."""

    title: str
    folder: str
    every: int
    truth: str
    crop: tuple[float, float, float, float] = (0, 1, 0, 1)


SAMPLES = (
    Sample("KITTI raw", "kitti_raw", 3, "LiDAR", GARG),
    Sample("KITTI 06", "kitti_odometry", 5, "semi-global matching", GARG),
    Sample("EuRoC V1_01", "euroc", 6, "semi-global matching"),
    Sample("7-Scenes kitchen", "sevenscenes/kitchen", 4, "depth camera"),
    Sample("Linemod-Occluded", "bop/lmo", 2, "meshes of the objects"),
)


@dataclass(frozen=True)
class TrueImage:
    """A frame and its z (H, W) in metres, 0 = none."""

    frame: Frame
    truth: Map


@dataclass(frozen=True)
class Scores:
    """Means over the images. metres: AbsRel without, scaled, d1: with equal medians. ratio: of depth to the truth."""

    images: int
    metres: float
    ratio: float
    scaled: float
    d1: float


def read_sample(sample: Sample, recording: Recording) -> list[TrueImage]:
    """Return the images of a recording that are scored."""
    indices = range(0, len(recording), sample.every)
    return [TrueImage(next(read_frames(recording, [index])), read_truth(sample, recording, index)) for index in indices]


def read_truth(sample: Sample, recording: Recording, index: int) -> Map:
    """Return z (H, W) in metres, 0 = none."""
    if sample.truth == "semi-global matching":
        assert recording.T_right_left is not None
        pair = recording.image(index), recording.image(index, RIGHT)
        truth = match_pair_depth(*pair, recording.K(index), recording.T_right_left)
    else:
        found = recording.depth_m(index)
        truth = np.zeros(recording.image(index).shape[:2]) if found is None else found
    height, width = truth.shape
    top, bottom, left, right = (round(v * n) for v, n in zip(sample.crop, (height, height, width, width), strict=True))
    counted = np.zeros_like(truth)
    counted[top:bottom, left:right] = truth[top:bottom, left:right]
    return np.where((counted > NEAREST_TRUTH_M) & (counted < FARTHEST_TRUTH_M), counted, 0)


def read_objects(images: BopImages, every: int) -> list[TrueImage]:
    """Return images of a BOP data set with the depth of their objects' meshes."""
    found = []
    for index in range(0, len(images), every):
        camera, image = images.camera(index), images.image(index)
        shapes = images.silhouettes(index)
        inverse = np.max([shape.within(camera.height, camera.width) for shape in shapes], axis=0)
        truth = np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > 0)
        found.append(TrueImage(Frame(images.file(index).stem, image, camera.K.numpy()), truth))
    return found


def predict_depth(predictor: Any, frame: Frame, change: Callable[[Any], Any] = lambda shown: shown) -> Map:
    """Return z (H, W) of an image. change: of the prepared image, such as a mirrored one."""
    shown = change(PreparedFrame.prepare(predictor, frame))
    camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
    inverse = predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)[0, 0].float().numpy()
    depth: Map = shown.predicted(predictor.depth_scale, inverse, None).depth_at_image()
    return depth


def score_images(predict: Callable[[Frame], Map], images: Sequence[TrueImage]) -> Scores:
    """Return the means over the images with enough truth."""
    rows = []
    for image in images:
        known = image.truth > 0
        if known.sum() < MIN_TRUTHS:
            continue
        truth = image.truth[known]
        z = np.clip(predict(image.frame)[known], 1e-3, FARTHEST_TRUTH_M)
        ratio = float(np.median(z / truth))
        scaled = np.clip(z / ratio, 1e-3, FARTHEST_TRUTH_M) / truth
        d1 = (np.maximum(scaled, 1 / scaled) < 1.25).mean()
        rows.append((np.abs(z / truth - 1).mean(), ratio, np.abs(scaled - 1).mean(), d1))
    return Scores(len(rows), *(float(value) for value in np.mean(rows, axis=0)))


def score_sample(sample: Sample, predictor: Predictor, recording: Recording) -> Scores:
    """Return the scores of a network on a recording."""
    return score_images(lambda frame: predict_depth(predictor, frame), read_sample(sample, recording))


def make_mean_depth(images: Sequence[TrueImage]) -> Callable[[Frame], Map]:
    """Return the prediction of the mean depth of each pixel over the images, where none is known of them all."""
    stack = np.stack([image.truth for image in images])
    count = (stack > 0).sum(0)
    mean = np.where(count > 0, stack.sum(0) / np.maximum(count, 1), stack[stack > 0].mean())
    return lambda frame: mean


# -- networks


def open_imagenet_start(size: tuple[int, int]) -> Predictor:
    """Return the network from which a training on ImageNet's encoder starts: its decoder is random (seed 0)."""
    torch.manual_seed(0)
    network = {"name": "unet", "encoder": "tf_efficientnet_lite0", "init_depth_m": IMAGENET_DEPTH_M}
    config = DepthModelConfig.model_validate({"network": network})
    return make_network_recipe(config, build_depth_network(config), size).predictor(size)


def open_networks(data: Path, networks: Sequence[str], size: tuple[int, int]) -> Iterator[tuple[str, Predictor, bool]]:
    """Yield title, predictor, and whether it predicts metres, for images of a size (height, width)."""
    yield "ImageNet's encoder", open_imagenet_start((192, 320)), True
    for name, settings in (("kitti", [f"network.metres_per_unit={METER_UNIT_M}"]), ("nyu", ["network.size=[192,256]"])):
        weights = f"network.weights={data / 'published_depth' / f'meter_{name}_xxs.pt'}"
        opened = open_network_checkpoint("meter_network:Meter", lambda: size, [weights, *settings])
        yield f"METER ({name.upper()})", load_predictor(opened), name == "kitti"
    for name in networks:
        predictor = load_predictor(open_network_checkpoint(name, lambda: size))
        yield name, predictor, str(predictor.depth_scale) == "metres"


# -- uncertainty


def mirror(shown: PreparedFrame) -> PreparedFrame:
    """Return an image that is mirrored, with its camera."""
    K = shown.K.copy()
    K[0, 2] = shown.image.shape[-1] - 1 - K[0, 2]
    return PreparedFrame(shown.frame, np.ascontiguousarray(shown.image[..., ::-1]), K, shown.image_size, shown.box)


def predict_log_depths(predictor: Any, frame: Frame) -> dict[str, Map]:
    """Return maps (h, w) at the network's size: ln z, its own uncertainty, and how it changes by mirror and zoom."""
    shown, size = PreparedFrame.prepare(predictor, frame), (predictor.height, predictor.width)

    def predict(image: NDArray[np.float32], K: Map) -> Any:
        return predictor.maps(torch.from_numpy(image)[None], Camera(torch.from_numpy(K), *size))

    maps, mirrored = predict(shown.image, shown.K), mirror(shown)
    log_depth = -maps.inverse_depth[0, 0].log().numpy()
    other = -predict(mirrored.image, mirrored.K).inverse_depth[0, 0].log().numpy()[:, ::-1]
    rows, columns = (round(side / ZOOM) for side in size)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    crop = torch.from_numpy(shown.image[None, :, top : top + rows, left : left + columns])
    K = shown.K.copy()
    K[:2, 2] = (K[:2, 2] + 0.5 - (left, top)) * (size[1] / columns, size[0] / rows) - 0.5
    K[0, 0], K[1, 1] = K[0, 0] * size[1] / columns, K[1, 1] * size[0] / rows
    larger = functional.interpolate(crop, size=size, mode="bilinear", antialias=True)[0].numpy()
    near = -predict(larger, K).inverse_depth.log()
    zoomed = np.full(size, np.nan)
    zoomed[top : top + rows, left : left + columns] = functional.interpolate(near, size=(rows, columns))[0, 0].numpy()
    inside = np.isfinite(zoomed)
    by_zoom = np.abs(zoomed - log_depth - np.median((zoomed - log_depth)[inside]))
    return {
        "ln z": log_depth,
        "its own": np.exp(maps.log_uncertainty[0, 0].numpy()),
        "mirrored image": np.abs(other - log_depth),
        "zoomed image": np.where(inside, by_zoom, np.nan),
        "depth itself": np.exp(log_depth),
    }


def resize_map(values: Map, size: tuple[int, int]) -> Map:
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST), np.float64)


ORDERS = "its own", "mirrored image", "zoomed image", "depth itself"


def measure_uncertainty(predictor: Any, images: Sequence[TrueImage]) -> tuple[dict[str, float], Map]:
    """Return by order the share by which AUSE of AbsRel is below random, and (N, 3) expected and observed errors.

    Expected, of ln z; observed in metres, and with equal medians. AUSE is of depth with equal medians.
    """
    below: dict[str, list[float]] = {}
    errors = []
    for image in images:
        if (image.truth > 0).sum() < MIN_TRUTHS:
            continue
        predicted = predict_log_depths(predictor, image.frame)
        maps = {name: resize_map(values, image.truth.shape) for name, values in predicted.items()}
        known = image.truth > 0
        difference = maps["ln z"][known] - np.log(image.truth[known])
        scaled = difference - np.median(difference)
        errors.append(np.column_stack((maps["its own"][known], np.abs(difference), np.abs(scaled))))
        orders = {name: maps[name][known] for name in ORDERS}
        part = np.isfinite(np.stack(list(orders.values()))).all(0)  # the zoomed image shows the middle alone
        if part.sum() < MIN_TRUTHS:
            continue
        for name, order in orders.items():
            depth, uncertainty = (torch.from_numpy(v[part][None]) for v in (np.exp(scaled), order))
            curves = sparsification(
                depth, torch.ones_like(depth), uncertainty, torch.ones_like(depth, dtype=torch.bool)
            )
            below.setdefault(name, []).append(float(curves.below_random))
    return {name: float(np.mean(values)) for name, values in below.items()}, np.concatenate(errors)


def print_calibration(title: str, errors: Map) -> None:
    """Print the mean expected and observed errors of bins with equally many pixels."""
    parts = np.array_split(errors[np.argsort(errors[:, 0])], BINS)
    for row, name in enumerate(("expected", "observed, metres", "observed, equal medians")):
        print(f"| {title} | {name} | " + " | ".join(f"{part[:, row].mean():.2f}" for part in parts) + " |", flush=True)


# -- the program


def open_sample(sample: Sample, data: Path) -> list[TrueImage]:
    folder = data / sample.folder
    if sample.folder.startswith("bop/"):
        return read_objects(BopImages.open(folder), sample.every)
    recording = open_inputs(folder)[0].recording
    assert recording is not None
    return read_sample(sample, recording)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STADIA_REAL_DATA", "../shared/data")))
    parser.add_argument("--network", nargs="+", default=["base"], help="any networks that `stadia predict` takes")
    arguments = parser.parse_args()
    samples = {sample.title: (sample, open_sample(sample, arguments.data)) for sample in SAMPLES}
    scores: dict[str, dict[str, tuple[Scores, bool]]] = {}
    uncertainty = {}
    for title, (_, images) in samples.items():
        size = images[0].truth.shape
        row = scores[title] = {"mean depth": (score_images(make_mean_depth(images), images), True)}
        for name, predictor, is_metric in open_networks(arguments.data, arguments.network, size):
            row[name] = score_images(lambda frame, p=predictor: predict_depth(p, frame), images), is_metric
        base = load_predictor(open_network_checkpoint("base", lambda size=size: size))
        uncertainty[title] = measure_uncertainty(base, images)
    names = [*next(iter(scores.values()))]
    for what in ("scaled", "metres", "ratio", "d1"):
        print(f"\n{what}\n\n| sample | truth | images | {' | '.join(names)} |\n{'|---' * (len(names) + 3)}|")
        for title, row in scores.items():
            needs_metres = what in ("metres", "ratio")
            cells = ["" if needs_metres and not metric else f"{getattr(s, what):.3f}" for s, metric in row.values()]
            images = next(iter(row.values()))[0].images
            print(f"| {title} | {samples[title][0].truth} | {images} | {' | '.join(cells)} |", flush=True)
    orders = [*next(iter(uncertainty.values()))[0]]
    print(f"\nAUSE below random\n\n| sample | {' | '.join(orders)} |\n{'|---' * (len(orders) + 1)}|")
    for title, (below, _) in uncertainty.items():
        print(f"| {title} | {' | '.join(f'{100 * below[name]:.0f} %' for name in orders)} |")
    print(f"\nerrors of ln z in tenths of the pixels\n\n| sample | |{' |' * BINS}\n{'|---' * (BINS + 2)}|")
    for title, (_, errors) in uncertainty.items():
        print_calibration(title, errors)


if __name__ == "__main__":
    main()
