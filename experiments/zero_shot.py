"""Score depth networks on real samples that trained none of ours, beside baselines, and the uncertainty of `base`.

    python experiments/zero_shot.py [--data DIR] [--network NETWORK ...] [--weights FILE] [--short]

Prints tables in Markdown: AbsRel after median scaling and in metres of the mean depth of each pixel, of constant depth,
of a network as a training from ImageNet's encoder starts, of METER (KITTI, NYU) and of `base`; boundary F1 where the
truth is dense; how well several orders of base's pixels by uncertainty follow its errors (AUSE, and Spearman's rank
correlation of its own); and the expected errors of its uncertainty beside the observed ones. `--weights` puts other
weights in place of those of `base`, and `--short` leaves out the other networks and orders.

The mean depth knows the truth of the same images. The truth of Linemod-Occluded is that of its objects' meshes at their
poses, on their pixels alone.
"""

# mypy: disable-error-code="assignment, misc"

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from room_worlds import RoomRenderer, RoomWorldConfig, make_room
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.types import RIGHT, Camera, Predictor, Recording
from stadia.data.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.metrics.depth_metrics import sparsification, spearman
from stadia.networks import encoders
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.depth_network import build_depth_network
from stadia.objectpose.data.bop import BopImages
from stadia.predict.inputs import open_inputs
from stadia.scale.sources import match_pair_depth
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import make_network_recipe, open_network_checkpoint

Map = NDArray[np.float64]

GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
NEAREST_TRUTH_M, FARTHEST_TRUTH_M = 0.1, 80.0
MIN_TRUTHS = 100  # pixels of an image that is scored
METER_UNIT_M = 0.08  # of METER for KITTI, by its description
IMAGENET_DEPTH_M = 12.0  # at which a training of the preset `demo` starts
ZOOM = 1.5  # of the second image of the uncertainty by zoom
BINS = 10  # of the calibration
EDGE_RATIOS = np.linspace(1.05, 1.25, 10)
EDGE_STEP = 2  # edges are scored on every second pixel, about what the networks predict
EDGE_RADIUS_PX = {"depth camera": 1, "rendered": 0}  # truth whose edges are scored: color and depth cameras differ


def find_edges(depth: Map, threshold: float) -> list[NDArray[np.bool_]]:
    """Return the edges of (H, W) positive depth by direction: nearer on the left, right, top and bottom, (H, W)."""
    edges = []
    for axis in (1, 0):
        ratio = np.ones_like(depth)
        first, second = (
            np.take(depth, range(depth.shape[axis] - 1), axis),
            np.take(depth, range(1, depth.shape[axis]), axis),
        )
        inside = (slice(None), slice(-1)) if axis == 1 else (slice(-1), slice(None))
        ratio[inside] = second / first
        edges += [ratio > threshold, ratio < 1 / threshold]
    return edges


def thicken(edges: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return the pixels within a radius of an edge."""
    if radius == 0:
        return edges
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(edges.astype(np.uint8), kernel) > 0)


def fill_holes(depth: Map) -> Map:
    """Fill unknown depth (0) with the farther of the nearest known depths in its row: holes are in the shadow of edges.

    Examples:
        >>> fill_holes(np.array([[1.0, 0, 0, 4]])).tolist()
        [[1.0, 4.0, 4.0, 4.0]]
    """
    known = depth > 0
    columns = np.arange(depth.shape[1])[None]
    before = np.maximum.accumulate(np.where(known, columns, -1), 1)
    after = np.minimum.accumulate(np.where(known, columns, depth.shape[1])[:, ::-1], 1)[:, ::-1]
    rows = np.arange(len(depth))[:, None]
    left = np.where(before >= 0, depth[rows, before.clip(0)], 0)
    right = np.where(after < depth.shape[1], depth[rows, after.clip(max=depth.shape[1] - 1)], 0)
    return np.where(known, depth, np.maximum(left, right))


def boundary_f1(predicted: Map, true: Map, radius: int = 0) -> float:
    """Return the boundary F1 of (H, W) depth, in any unit; the truth's unknown pixels are 0. NaN without true edges.

    An edge lies between neighbors whose depths have a ratio above t. F1 is the mean over four directions of precision
    and recall, and over EDGE_RATIOS, weighted by t.

    Source: Bochkovskii et al., "Depth Pro: sharp monocular metric depth in less than a second", arXiv 2410.02073,
    section 3.3. There, an edge counts within 0 px; depth and color cameras are not aligned so well, hence `radius`.

    Examples:
        >>> true = np.ones((8, 8))
        >>> true[:, 4:] = 2
        >>> boundary_f1(3 * true, true)
        1.0
        >>> boundary_f1(np.ones((8, 8)), true)
        0.0
    """
    filled = fill_holes(true)
    known = filled > 0
    filled = np.where(known, filled, filled[known].mean() if known.any() else 1.0)
    scores = []
    for threshold in EDGE_RATIOS:
        precision, recall, directions = 0.0, 0.0, 0
        for own, truth in zip(find_edges(predicted, threshold), find_edges(filled, threshold), strict=True):
            if not truth.any():
                continue
            directions += 1
            precision += (own & thicken(truth, radius)).sum() / max(own.sum(), 1)
            recall += (truth & thicken(own, radius)).sum() / truth.sum()
        total = precision + recall
        scores.append(np.nan if directions == 0 else 0.0 if total == 0 else 2 * precision * recall / total / directions)
    counted = np.isfinite(scores)
    return float(np.average(np.array(scores)[counted], weights=EDGE_RATIOS[counted])) if counted.any() else float("nan")


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
    Sample("walk (HoloLens)", "walk", 4, "depth camera"),
    Sample("rendered rooms", "", 1, "rendered"),
    Sample("Linemod-Occluded", "bop/lmo", 2, "meshes of the objects"),
)


@dataclass(frozen=True)
class TrueImage:
    """A frame and its z (H, W) in metres, 0 = none. edge_radius: of boundary F1, in pixels; None without."""

    frame: Frame
    truth: Map
    edge_radius: int | None = None


@dataclass(frozen=True)
class Scores:
    """Means over the images. metres: AbsRel without, scaled, d1: with equal medians. ratio: of depth to the truth.

    edges: boundary F1; NaN where the truth is not dense.
    """

    images: int
    metres: float
    ratio: float
    scaled: float
    d1: float
    edges: float


def read_sample(sample: Sample, recording: Recording) -> list[TrueImage]:
    """Return the images of a recording that are scored."""
    indices = range(0, len(recording), sample.every)
    radius = EDGE_RADIUS_PX.get(sample.truth)
    return [
        TrueImage(next(read_frames(recording, [index])), read_truth(sample, recording, index), radius)
        for index in indices
    ]


def read_walk(sample: Sample, folder: Path) -> list[TrueImage]:
    """Return the images of the HoloLens's walk, a color image and depth in millimetres every fourth frame."""
    K: Map = np.loadtxt(folder / "K.txt", dtype=np.float64)
    found = []
    for path in sorted((folder / "depth").glob("*.png")):
        image = cv2.imread(str(folder / "images" / f"{path.stem}.jpg"))
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert depth is not None
        frame = Frame(path.stem, np.ascontiguousarray(image[..., ::-1], np.uint8), K)
        found.append(TrueImage(frame, depth / 1000.0, EDGE_RADIUS_PX[sample.truth]))
    return found


def render_rooms(count: int = 16) -> list[TrueImage]:
    """Render images of rooms with 640x480 pixels; their seeds trained nothing."""
    config = RoomWorldConfig(frames=2, height=480, width=640)
    found = []
    for seed in range(77_000, 77_000 + count):
        renderer = RoomRenderer(make_room(seed, config), config)
        view = renderer.render(0)
        found.append(
            TrueImage(
                Frame(f"room {seed}", view.image, renderer.room.K.astype(np.float64)),
                view.depth_m.astype(np.float64),
                0,
            )
        )
    return found


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
        depth = predict(image.frame)
        z = np.clip(depth[known], 1e-3, FARTHEST_TRUTH_M)
        ratio = float(np.median(z / truth))
        scaled = np.clip(z / ratio, 1e-3, FARTHEST_TRUTH_M) / truth
        d1 = (np.maximum(scaled, 1 / scaled) < 1.25).mean()
        radius = image.edge_radius
        small = np.maximum(depth, 1e-3).astype(np.float64)[::EDGE_STEP, ::EDGE_STEP]
        edges = np.nan if radius is None else boundary_f1(small, image.truth[::EDGE_STEP, ::EDGE_STEP], radius)
        rows.append((np.abs(z / truth - 1).mean(), ratio, np.abs(scaled - 1).mean(), d1, edges))
    means = [float(np.mean([row[i] for row in rows])) for i in range(4)]
    f1 = [float(row[4]) for row in rows if np.isfinite(row[4])]
    return Scores(len(rows), *means, edges=float(np.mean(f1)) if f1 else float("nan"))


def score_sample(sample: Sample, predictor: Predictor, recording: Recording) -> Scores:
    """Return the scores of a network on a recording."""
    return score_images(lambda frame: predict_depth(predictor, frame), read_sample(sample, recording))


def make_mean_depth(images: Sequence[TrueImage]) -> Callable[[Frame], Map]:
    """Return the prediction of the mean depth of each pixel over the images, where none is known of them all."""
    stack = np.stack([image.truth for image in images])
    count = (stack > 0).sum(0)
    mean = np.where(count > 0, stack.sum(0) / np.maximum(count, 1), stack[stack > 0].mean())
    return lambda frame: mean


def predict_constant(frame: Frame) -> Map:
    """Return the same depth everywhere."""
    return np.ones(frame.image.shape[:2])


# -- networks


def open_imagenet_start(size: tuple[int, int]) -> Predictor:
    """Return the network from which a training on ImageNet's encoder starts: its decoder is random (seed 0)."""
    torch.manual_seed(0)
    network = {"name": "unet", "encoder": "tf_efficientnet_lite0", "init_depth_m": IMAGENET_DEPTH_M}
    config = DepthModelConfig.model_validate({"network": network})
    return make_network_recipe(config, build_depth_network(config), size).predictor(size)


def open_networks(
    data: Path, networks: Sequence[str], size: tuple[int, int], is_short: bool
) -> Iterator[tuple[str, Predictor, bool]]:
    """Yield title, predictor, and whether it predicts metres, for images of a size (height, width)."""
    if not is_short:
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


def predict_log_depths(predictor: Any, frame: Frame, is_short: bool) -> dict[str, Map]:
    """Return maps (h, w) at the network's size: ln z, its own uncertainty, and how it changes by mirror and zoom."""
    shown, size = PreparedFrame.prepare(predictor, frame), (predictor.height, predictor.width)

    def predict(image: NDArray[np.float32], K: Map) -> Any:
        return predictor.maps(torch.from_numpy(image)[None], Camera(torch.from_numpy(K), *size))

    maps = predict(shown.image, shown.K)
    log_depth = -maps.inverse_depth[0, 0].log().numpy()
    own = {"ln z": log_depth, "its own": np.exp(maps.log_uncertainty[0, 0].numpy())}
    if is_short:
        return own
    mirrored = mirror(shown)
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
    return own | {
        "mirrored image": np.abs(other - log_depth),
        "zoomed image": np.where(inside, by_zoom, np.nan),
        "depth itself": np.exp(log_depth),
    }


def resize_map(values: Map, size: tuple[int, int]) -> Map:
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST), np.float64)


@dataclass(frozen=True)
class UncertaintyScores:
    """What the uncertainty of a network is worth on a sample; depth has equal medians.

    below_random: by order of the pixels, the share by which AUSE of AbsRel is below that of random order.
    rank_correlation: Spearman's, of its own uncertainty and the errors, the mean over the images.
    errors: (N, 3) of ln z: expected, observed in metres, observed with equal medians.
    """

    below_random: dict[str, float]
    rank_correlation: float
    errors: Map


def measure_uncertainty(predictor: Any, images: Sequence[TrueImage], is_short: bool) -> UncertaintyScores:
    """Return the scores over the images with enough truth."""
    below: dict[str, list[float]] = {}
    errors, ranks = [], []
    for image in images:
        if (image.truth > 0).sum() < MIN_TRUTHS:
            continue
        predicted = predict_log_depths(predictor, image.frame, is_short)
        maps = {name: resize_map(values, image.truth.shape) for name, values in predicted.items()}
        known = image.truth > 0
        difference = maps["ln z"][known] - np.log(image.truth[known])
        scaled = difference - np.median(difference)
        errors.append(np.column_stack((maps["its own"][known], np.abs(difference), np.abs(scaled))))
        ranks.append(spearman(maps["its own"][known], np.abs(scaled)))
        orders = {name: values[known] for name, values in maps.items() if name != "ln z"}
        part = np.isfinite(np.stack(list(orders.values()))).all(0)  # the zoomed image shows the middle alone
        if part.sum() < MIN_TRUTHS:
            continue
        for name, order in orders.items():
            depth, uncertainty = (values[part][None] for values in (np.exp(scaled), order))
            curves = sparsification(depth, np.ones(depth.shape), uncertainty, np.ones(depth.shape, np.bool_))
            below.setdefault(name, []).append(float(curves.below_random))
    means = {name: float(np.mean(values)) for name, values in below.items()}
    return UncertaintyScores(means, float(np.nanmean(ranks)), np.concatenate(errors))


def print_calibration(title: str, errors: Map) -> None:
    """Print the mean expected and observed errors of bins with equally many pixels."""
    parts = np.array_split(errors[np.argsort(errors[:, 0])], BINS)
    for row, name in enumerate(("expected", "observed, metres", "observed, equal medians")):
        print(f"| {title} | {name} | " + " | ".join(f"{part[:, row].mean():.2f}" for part in parts) + " |", flush=True)


def print_intervals(errors: dict[str, Map]) -> None:
    """Print the coverage and half width of 90 % intervals whose spread comes from all other real samples."""
    print(
        "\n90 % interval\n\n| sample | errors | spread | covered | half width | constant |\n|---|---|---|---|---|---|"
    )
    real = [sample.title for sample in SAMPLES if sample.truth not in ("rendered", "meshes of the objects")]
    random = np.random.default_rng(0)
    drawn = {title: values[random.choice(len(values), 60_000)] for title, values in errors.items()}
    for title in real:
        others = np.concatenate([drawn[other] for other in real if other != title])
        for column, name in ((1, "metres"), (2, "equal medians")):
            spread = np.quantile(others[:, column] / others[:, 0], 0.9)
            width, error = spread * drawn[title][:, 0], drawn[title][:, column]
            covered = float(np.mean(error <= width))
            constant = np.quantile(error, covered)
            print(
                f"| {title} | {name} | {spread:.2f} | {covered:.0%} | {width.mean():.2f} | {constant:.2f} |", flush=True
            )


# -- the program


def open_sample(sample: Sample, data: Path) -> list[TrueImage]:
    folder = data / sample.folder
    if sample.truth == "rendered":
        return render_rooms()
    if sample.folder == "walk":
        return read_walk(sample, folder)
    if sample.folder.startswith("bop/"):
        return read_objects(BopImages.open(folder), sample.every)
    recording = open_inputs(folder)[0].recording
    assert recording is not None
    return read_sample(sample, recording)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--network", nargs="+", default=["base"], help="any networks that `stadia predict` takes")
    parser.add_argument("--weights", type=Path, help="weights in place of those of `base`")
    parser.add_argument("--short", action="store_true", help="without other networks, orders and calibration")
    arguments = parser.parse_args()
    if arguments.weights:
        encoders.BASE_FILE = arguments.weights  # type: ignore[attr-defined]  # an ONNX file of base_onnx.py
    samples = {sample.title: (sample, open_sample(sample, arguments.data)) for sample in SAMPLES}
    scores: dict[str, dict[str, tuple[Scores, bool]]] = {}
    uncertainty = {}
    for title, (_, images) in samples.items():
        size = images[0].truth.shape
        row = scores[title] = {
            "mean depth": (score_images(make_mean_depth(images), images), True),
            "constant depth": (score_images(predict_constant, images), False),
        }
        for name, predictor, is_metric in open_networks(arguments.data, arguments.network, size, arguments.short):
            row[name] = score_images(lambda frame, p=predictor: predict_depth(p, frame), images), is_metric
        base = load_predictor(open_network_checkpoint("base", lambda size=size: size))
        uncertainty[title] = measure_uncertainty(base, images, arguments.short)
    names = [*next(iter(scores.values()))]
    for what in ("scaled", "metres", "ratio", "d1", "edges"):
        print(f"\n{what}\n\n| sample | truth | images | {' | '.join(names)} |\n{'|---' * (len(names) + 3)}|")
        for title, row in scores.items():
            needs_metres = what in ("metres", "ratio")
            if what == "edges" and not any(np.isfinite(score.edges) for score, _ in row.values()):
                continue
            cells = ["" if needs_metres and not metric else f"{getattr(s, what):.3f}" for s, metric in row.values()]
            images = next(iter(row.values()))[0].images
            print(f"| {title} | {samples[title][0].truth} | {images} | {' | '.join(cells)} |", flush=True)
    orders = [*next(iter(uncertainty.values())).below_random]
    print(f"\nAUSE below random\n\n| sample | {' | '.join(orders)} | rank correlation |\n{'|---' * (len(orders) + 2)}|")
    for title, found in uncertainty.items():
        cells = [f"{100 * found.below_random[name]:.0f} %" for name in orders]
        print(f"| {title} | {' | '.join(cells)} | {found.rank_correlation:.2f} |")
    print_intervals({title: found.errors for title, found in uncertainty.items()})
    if arguments.short:
        return
    print(f"\nerrors of ln z in tenths of the pixels\n\n| sample | |{' |' * BINS}\n{'|---' * (BINS + 2)}|")
    for title, found in uncertainty.items():
        print_calibration(title, found.errors)


if __name__ == "__main__":
    main()
