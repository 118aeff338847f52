r"""Train the network `base` on rendered worlds alone, and write its weights.

    python experiments/world_textures.py --out runs/base/textures.npz
    python experiments/base_network.py --out runs/base --minutes 600

It renders while it trains: RoomWorld and RoadWorld on the processor's cores, the worlds of shape_worlds.py on
the training's device. It takes a GPU where there is one, writes OUT/checkpoint.pt every two minutes and goes on from
it, and writes OUT/base_network.safetensors (float16, averaged weights), the file of the package. The learning rate
follows the share of --minutes that has passed, so that a fast device makes more steps of the same schedule. Then
`--decoder-of FILE` trains a new decoder on RoomWorld and RoadWorld alone, on the encoder of that file.
experiments/zero_shot.py scores it.
"""

# mypy: disable-error-code="arg-type, assignment, attr-defined, call-overload, dict-item, misc, no-untyped-call"

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import shape_worlds
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.seeds import derive_seed, make_generator
from stadia.core.types import Camera
from stadia.losses.sparse_depth import affine_invariant_residual, gradient_matching_error, trimmed_mean
from stadia.models.depth.config import BaseConfig
from stadia.models.depth.unet import Unet
from stadia.models.encoders import Encoder
from stadia.synthetic.config import RoadWorldConfig, RoomWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world
from stadia.synthetic.roomworld.room_scene import RoomRenderer, make_room

SIZES = ((256, 320), (192, 384), (160, 448), (288, 256), (224, 352))
"""Heights and widths of a batch, drawn anew for each: about 75,000 pixels."""

SHAPE_SIZE, RENDERED_SIZE = (288, 384), (240, 320)
"""Height and width of the images of shape_worlds, and of the two others."""

SCENES = 16
"""Scenes of shape_worlds that are rendered together."""

NEAREST_M, FARTHEST_M = 0.15, 150.0
"""Range of the labels. The sky is farther: there is a loss where it is predicted nearer."""

KINDS = ("room", "road", "car", "drone")
CAMERA_HEIGHTS = {
    "road": tuple(np.round(np.linspace(0.5, 3.0, 26), 2).tolist()),
    "car": tuple(np.round(np.linspace(1.1, 1.9, 17), 2).tolist()),
    "drone": tuple(np.round(np.geomspace(4, 60, 24), 1).tolist()),
}


def make_network_config() -> BaseConfig:
    return BaseConfig()


# -- images of the rendered worlds, on the processor

Rendered = dict[str, NDArray[Any]]


def render_world(kind: str, seed: int) -> list[Rendered]:
    """Render frames of one world: image, z in metres with 0 for the sky, and fx / width of each."""
    height, width = RENDERED_SIZE
    counts = {"train": 1, "val": 1, "test": 1, "height": height, "width": width}
    random = make_generator(seed, "camera of base", kind)
    if kind == "room":
        config = RoomWorldConfig(**counts, frames=6, field_of_view_deg=(38.0, 110.0), camera_height_m=(0.3, 2.0))
        room = RoomRenderer(make_room(seed, config), config)
        views = [room.render(frame) for frame in range(config.frames)]
        K = room.room.K
    else:
        pitch = {"road": None, "car": None, "drone": (-80.0, -8.0)}[kind]
        speed = float(random.uniform(0.3, 3.0))
        config = RoadWorldConfig(
            **counts,
            frames=6,
            stereo=False,
            field_of_view_deg=(float(random.choice([35, 45, 55, 65, 75, 81.5, 90, 100, 115])),),
            camera_height_m=(float(random.choice(CAMERA_HEIGHTS[kind])),),
            pitch_deg=pitch,
            speed_m_per_frame=(speed, min(speed * 1.3, 3.0)),
            exposure=bool(random.random() < 0.5),
            noise=bool(random.random() < 0.5),
        )
        road = RoadRenderer(make_world(seed, config), config)
        views = [road.render(frame)["left"] for frame in range(config.frames)]
        K = road.world.K
    return [
        {
            "image": view.image.transpose(2, 0, 1),
            "z": np.where(view.depth_m < 500, view.depth_m, 0).astype(np.float16),
            "focal": np.float32(K[0, 0] / width),
        }
        for view in views
    ]


def run_worker(number: int, seed: int, draws_shapes: bool, textures: Path, out: Any) -> None:
    """Draw scenes or render worlds without end, and put them on the queue."""
    torch.set_num_threads(1)
    file = np.load(textures, allow_pickle=False)
    groups = {name: np.flatnonzero(file["group"] == i) for i, name in enumerate(shape_worlds.GROUPS)}
    index = 0
    while True:
        own = derive_seed(seed, "worker of base", number, index)
        index += 1
        if draws_shapes:
            scenes = [shape_worlds.make_scene(derive_seed(own, i), groups) for i in range(SCENES)]
            out.put(shape_worlds.stack_scenes(scenes))
        else:
            kind = str(np.random.default_rng(own).choice(KINDS, p=[0.52, 0.22, 0.16, 0.10]))
            for image in render_world(kind, own):
                out.put(image)


# -- images on the device


class ImageStore:
    """A ring of images on the device, with z and fx / width."""

    def __init__(self, capacity: int, size: tuple[int, int], device: torch.device) -> None:
        self.images = torch.zeros(capacity, 3, *size, dtype=torch.uint8, device=device)
        self.z = torch.zeros(capacity, 1, *size, dtype=torch.float16, device=device)
        self.focal = torch.zeros(capacity, device=device)
        self.capacity, self.count, self.written = capacity, 0, 0

    def add(self, images: Tensor, z: Tensor, focal: Tensor) -> None:
        """Add images (N, 3, H, W) uint8, z (N, 1, H, W) and (N,); the oldest go."""
        rows = ((torch.arange(len(images)) + self.written) % self.capacity).to(self.images.device)
        self.images[rows], self.z[rows], self.focal[rows] = images, z.half(), focal
        self.written += len(images)
        self.count = min(self.written, self.capacity)

    def add_rendered(self, rendered: Sequence[Rendered]) -> None:
        arrays = {name: torch.from_numpy(np.stack([image[name] for image in rendered])) for name in rendered[0]}
        arrays = {name: value.to(self.images.device) for name, value in arrays.items()}
        self.add(arrays["image"], arrays["z"][:, None], arrays["focal"])

    def add_shapes(self, arrays: dict[str, Any], atlas: shape_worlds.Atlas) -> None:
        """Render scenes of shape_worlds, and add those in which there is something to see."""
        device = self.images.device
        scene = {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in arrays.items()}
        image, z = shape_worlds.render(scene, scene["T_world_camera"], atlas, *SHAPE_SIZE)
        flat = z.clamp(min=NEAREST_M).log().flatten(1).std(1) < 0.2
        keep = ~(flat & (torch.rand(len(z), device=device) > 0.15))
        keep &= z.flatten(1).clamp(max=1e3).median(1).values > 0.25
        keep &= (z.flatten(1) > 0).float().mean(1) > 0.3
        self.add((255 * image[keep]).round().to(torch.uint8), z[keep], scene["focal"][keep, 0])


def draw_batch(
    store: ImageStore, count: int, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, 3, h, w) in [0, 1], z (N, 1, h, w) and focal (fx / w) of random crops with square pixels."""
    rows = torch.randint(store.count, (count,), device=device)
    height, width = store.images.shape[-2:]
    widest = min(width, height * size[1] / size[0])
    share = 0.5 + 0.5 * torch.rand(count, device=device).sqrt()
    wide, high = widest * share, widest * share * size[0] / size[1]
    left = torch.rand(count, device=device) * (width - wide)
    top = torch.rand(count, device=device) * (height - high)
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 0, 2] = flip * wide / width, (2 * left + wide) / width - 1
    theta[:, 1, 1], theta[:, 1, 2] = high / height, (2 * top + high) / height - 1
    grid = functional.affine_grid(theta, [count, 1, *size], align_corners=False)
    image = functional.grid_sample(store.images[rows].float() / 255, grid, padding_mode="border", align_corners=False)
    z = functional.grid_sample(store.z[rows].float(), grid, mode="nearest", align_corners=False)
    return image, z, store.focal[rows] * width / wide


def vary_colors(image: Tensor) -> Tensor:
    """Vary exposure, contrast, colors, sharpness, noise and haze of (N, 3, H, W) in [0, 1], each image by itself."""
    n, device = len(image), image.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *(shape or (1,)), 1, 1, device=device)

    def chosen(share: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, device=device) < share

    x = image.clamp(1e-3, 1).pow(uniform(-0.6, 0.6).exp())
    x = x * uniform(0.75, 1.2) * (1 + torch.where(chosen(0.6), 0.12, 0.35) * torch.randn(n, 3, 1, 1, device=device))
    x = (x - 0.5) * uniform(0.6, 1.4) + 0.5 + 0.08 * torch.randn(n, 1, 1, 1, device=device)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.where(chosen(0.15), 0.0, uniform(0.2, 1.6))
    soft = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + torch.where(chosen(0.7), uniform(-0.8, 1.0), 0.0) * (soft - x)
    small = functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    softer = functional.interpolate(small, size=x.shape[-2:], mode="bilinear")
    x = torch.where(chosen(0.12), softer, x)
    x = x + torch.where(chosen(0.5), uniform(0.0, 0.06), 0.0) * torch.randn_like(x)
    return x.clamp(0, 1)


# -- losses


def depth_loss(inverse_depth: Tensor, log_sigma: Tensor, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of (N, 1, H, W): log L1, its gradients, the affine-invariant error, the sky and the uncertainty.

    The uncertainty is that of a Laplace distribution of log depth; it gives no gradient to the depth.
    """
    known = (z > NEAREST_M) & (z < FARTHEST_M)
    difference = torch.where(known, -inverse_depth.log() - z.clamp(min=NEAREST_M).log(), 0.0)
    count = known.flatten(1).sum(1).clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        return (torch.where(known, x, 0.0).flatten(1).sum(1) / count).mean()

    truth = torch.where(known, 1 / z.clamp(min=NEAREST_M), 0.0)
    terms = {
        "log_l1": mean(difference.abs()),
        "gradient": gradient_matching_error(difference, known).mean(),
        "affine": trimmed_mean(affine_invariant_residual(inverse_depth, truth, known), known).mean(),
        "sky": (torch.where(z <= 0, functional.relu(math.log(100.0) + inverse_depth.log()), 0.0)).mean(),
        "uncertainty": mean(difference.detach().abs() * (-log_sigma).exp() + log_sigma),
    }
    weights = {"log_l1": 1.0, "gradient": 4.0, "affine": 0.4, "sky": 0.2, "uncertainty": 0.1}
    return sum((weights[name] * value for name, value in terms.items()), torch.zeros(())), terms


# -- training


class Trainer:
    """The network, its average, the optimizer and the images.

    decoder_of: weights whose encoder is kept as it is, while a new decoder trains on the rendered worlds alone.
    """

    def __init__(
        self, out: Path, textures: Path, device: torch.device, batch: int, capacity: int, decoder_of: Path | None
    ) -> None:
        self.out, self.device, self.batch = out, device, batch
        self.atlas = None if decoder_of else shape_worlds.Atlas(textures, device)
        self.shapes = ImageStore(1 if decoder_of else capacity, SHAPE_SIZE, device)
        self.rendered = ImageStore(capacity, RENDERED_SIZE, device)
        config = BaseConfig().model_copy(update={"fixed_batch_statistics": decoder_of is not None})
        network = Unet(config, pretrained=False)
        parts = [{"params": list(network.decoder.parameters()), "share": 1.0}]
        if decoder_of is None:
            network.encoder = Encoder(config.encoder, pretrained=True)
            parts.append({"params": list(network.encoder.parameters()), "share": 0.4})
        else:
            weights = {name: value.float() for name, value in safetensors.torch.load_file(decoder_of).items()}
            own = {name.removeprefix("encoder."): value for name, value in weights.items() if "encoder." in name}
            network.encoder.load_state_dict(own)
            network.encoder.requires_grad_(requires_grad=False)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(parts, lr=1e-3, weight_decay=0.02, fused=device.type == "cuda")
        self.step, self.spent_s = 0, 0.0
        self.sums: dict[str, Tensor] = {}

    def set_rate(self, progress: float) -> None:
        """Set the learning rate: a warm-up of 300 steps, then a cosine over the time."""
        rate = 1.5e-3 * min(1.0, (self.step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-6) * group["share"]

    def train_step(self, random: np.random.Generator) -> None:
        """Make one step on crops of the stores."""
        size = SIZES[random.integers(len(SIZES))]
        stores = [store for store in (self.shapes, self.rendered) if store.count >= self.batch]
        parts = [draw_batch(store, self.batch // len(stores), size, self.device) for store in stores]
        image, z, focal = (torch.cat([part[i] for part in parts]) for i in range(3))
        K = torch.zeros(len(image), 3, 3, device=self.device)
        K[:, 0, 0] = K[:, 1, 1] = focal * size[1]
        image = vary_colors(image).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            maps = self.network(image, Camera(K, *size))
        assert maps.log_uncertainty is not None
        loss, terms = depth_loss(maps.inverse_depth[0], maps.log_uncertainty[0], z)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.step += 1
        self.update_average()

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average of the weights towards the weights, over about a twentieth of the steps so far."""
        share = max(1e-3, min(1.0, 20 / (self.step + 1)))
        for kept, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, share)
            else:
                kept.copy_(new)

    def describe_progress(self, steps: int) -> str:
        """Return the means of the losses over the last steps."""
        means = "  ".join(f"{name} {float(value) / max(steps, 1):.3f}" for name, value in self.sums.items())
        self.sums = {}
        images = f"{self.shapes.written} + {self.rendered.written} images"
        return f"{self.spent_s:.0f} s, step {self.step}, {images}: {means}"

    def save(self) -> None:
        """Write the checkpoint and the weights."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        halves = {k: v.half() if v.is_floating_point() else v for k, v in self.average.state_dict().items()}
        halves = {name: value.contiguous().cpu() for name, value in halves.items()}
        safetensors.torch.save_file(halves, self.out / "base_network.safetensors")

    def resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if path.is_file():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent_s = state["step"], state["spent_s"]


def start_workers(textures: Path, seed: int, cores: int, drawers: int) -> tuple[Any, Any, list[Any]]:
    """Start processes that draw scenes and render worlds; return the queues of both."""
    context = multiprocessing.get_context("spawn")
    scenes, images = context.Queue(12), context.Queue(400)
    workers = []
    for number in range(max(1, cores) + drawers):
        draws = number < drawers
        arguments = (number, seed, draws, textures, scenes if draws else images)
        workers.append(context.Process(target=run_worker, args=arguments, daemon=True))
        workers[-1].start()
    return scenes, images, workers


def take_finished(images: Any, most: int = 16) -> list[Rendered]:
    """Return the finished images of the queue, at most so many."""
    taken: list[Rendered] = []
    while len(taken) < most:
        try:
            taken.append(images.get_nowait())
        except queue.Empty:
            break
    return taken


def read_ahead(source: Any) -> Callable[[], Any | None]:
    """Return a function that gives the next object of a queue, or None where there is none yet; a thread unpickles."""
    ready: queue.Queue[Any] = queue.Queue(8)

    def work() -> None:
        while True:
            ready.put(source.get())

    threading.Thread(target=work, daemon=True).start()

    def take() -> Any | None:
        try:
            return ready.get_nowait()
        except queue.Empty:
            return None

    return take


def train(arguments: argparse.Namespace) -> None:
    """Render and train until the time is over; go on where it was interrupted."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    textures = arguments.textures or out / "textures.npz"
    drawers = 0 if arguments.decoder_of else max(1, arguments.cores // 6)
    scenes, images, workers = start_workers(textures, arguments.seed, arguments.cores - drawers, drawers)
    torch.manual_seed(arguments.seed)
    capacity = arguments.capacity or (20000 if device.type == "cuda" else 3000)
    trainer = Trainer(out, textures, device, arguments.batch, capacity, arguments.decoder_of)
    trainer.resume()
    random = np.random.default_rng(derive_seed(arguments.seed, "sizes", trainer.step))
    next_scene, began = read_ahead(scenes), time.monotonic()
    saved, told, told_step, before = began, began, trainer.step, trainer.spent_s
    while trainer.spent_s < 60 * arguments.minutes:
        # rendering takes as long as five steps
        scene = next_scene() if trainer.step % 6 == 0 or trainer.shapes.count < 300 else None
        if scene is not None and trainer.atlas is not None:
            trainer.shapes.add_shapes(scene, trainer.atlas)
        if finished := take_finished(images):
            trainer.rendered.add_rendered(finished)
        if max(trainer.shapes.count, trainer.rendered.count) >= trainer.batch:
            trainer.set_rate(trainer.spent_s / (60 * arguments.minutes))
            trainer.train_step(random)
        else:
            time.sleep(0.05)
        now = time.monotonic()
        trainer.spent_s = before + now - began
        if now - told > arguments.tell:
            print(trainer.describe_progress(trainer.step - told_step), flush=True)
            told, told_step = now, trainer.step
        if now - saved > 120:
            saved = now
            trainer.save()
    trainer.save()
    for worker in workers:
        worker.terminate()
    print(f"{trainer.step} steps in {trainer.spent_s / 60:.1f} min on {device}: {out / 'base_network.safetensors'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--textures", type=Path, help="by default OUT/textures.npz")
    parser.add_argument("--decoder-of", type=Path, help="weights whose encoder stays: a new decoder trains")
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--capacity", type=int, help="images of each store; by default 20000 on a GPU, else 3000")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes that render")
    parser.add_argument("--tell", type=float, default=20.0, help="seconds between two lines")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
