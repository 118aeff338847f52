"""Measure the loading of a training sample against the plain method of the field's reference code, in one run on one
core.

A sample is four 1242x375 PNG images (t, t - 1, t + 1 and the stereo partner) for a network at 640x192, with color
jitter always on. The reference method decodes each image with PIL, makes a pyramid of four sizes by Lanczos, jitters
each size of each image, and converts all to tensors. The images are made here, of noise that compresses like KITTI's.
Times are processor times, so that other programs on the machine do not count; with a worker, of both processes.

    python benchmarks/loading.py
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance

from stadia.data.config import AugmentationConfig, CacheConfig, ColorConfig
from stadia.data.open_dataset import open_recordings
from stadia.training.loading.loader import Loader
from stadia.training.loading.samples import VideoSamples

HEIGHT, WIDTH = 192, 640
AUGMENTATION = AugmentationConfig(color=ColorConfig(probability=1.0))


def write_recording(folder: Path, frames: int) -> None:
    """Write a stereo recording of KITTI's size in the stadia layout; about 0.7 MB an image, as KITTI's are."""
    random = np.random.default_rng(0)
    for side in ("left", "right"):
        (folder / side).mkdir(parents=True)
        for index in range(frames):
            smooth = cv2.GaussianBlur(random.normal(128, 300, (375, 1242, 3)), (0, 0), 3)
            image = np.clip(smooth + random.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / side / f"{index:06d}.png"), image)
    camera = {"K": [[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]], "height": 375, "width": 1242}
    T_right_left = np.eye(4)
    T_right_left[0, 3] = -0.54
    about = {"cameras": {"left": camera, "right": camera}, "T_right_left": T_right_left.tolist()}
    (folder / "recording.json").write_text(json.dumps(about))


def reference_sample(folder: Path, index: int, random: np.random.Generator) -> list[torch.Tensor]:
    """Return both the plain and the jittered tensors of every image and size."""
    brightness, contrast, saturation = random.uniform(0.8, 1.2, 3)
    hue = int(random.uniform(-0.1, 0.1) * 255)
    files = [folder / "left" / f"{index + offset:06d}.png" for offset in (0, -1, 1)] + [
        folder / "right" / f"{index:06d}.png"
    ]
    tensors = []
    for file in files:
        with file.open("rb") as stream, Image.open(stream) as opened:
            image = opened.convert("RGB")
        for scale in range(4):
            image = image.resize((WIDTH >> scale, HEIGHT >> scale), Image.Resampling.LANCZOS)
            jittered = ImageEnhance.Brightness(image).enhance(brightness)
            jittered = ImageEnhance.Contrast(jittered).enhance(contrast)
            jittered = ImageEnhance.Color(jittered).enhance(saturation)
            h, s, v = jittered.convert("HSV").split()
            turned = Image.fromarray((np.asarray(h).astype(np.int16) + hue).astype(np.uint8), "L")
            jittered = Image.merge("HSV", (turned, s, v)).convert("RGB")
            tensors += [
                torch.from_numpy(np.array(p)).permute(2, 0, 1).contiguous().float().div(255) for p in (image, jittered)
            ]
    return tensors


def median_ms(load: Callable[[int], object], frames: int) -> float:
    """Return the median processor time over every sample, after one that warms up."""
    load(1)
    times = []
    for index in range(1, frames - 1):
        started = time.process_time()
        load(index)
        times.append(time.process_time() - started)
    return 1e3 * float(np.median(times))


def main() -> None:
    """Print the medians and their ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--frames", type=int, default=30, help="images a side")
    frames = arguments.parse_args().frames
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "recording"
        write_recording(folder, frames)
        recordings = open_recordings(folder)
        started = time.perf_counter()
        cached = VideoSamples(
            recordings,
            height=HEIGHT,
            width=WIDTH,
            augmentation=AUGMENTATION,
            cache=CacheConfig(folder=f"{temporary}/cache"),
        )
        filled_s = time.perf_counter() - started
        direct = VideoSamples(recordings, height=HEIGHT, width=WIDTH, augmentation=AUGMENTATION)
        random = np.random.default_rng(0)

        reference = median_ms(lambda index: reference_sample(folder, index, random), frames)
        without = median_ms(lambda index: direct[0, index - 1], frames)
        ours = median_ms(lambda index: cached[0, index - 1], frames)
        with_worker = loader_ms(cached)
    print(f"{'sample of 4 images, 640x192':46}{'ms':>8}{'times faster':>14}")
    for name, value in (
        ("reference way (PIL, Lanczos pyramid)", reference),
        ("stadia, without the cache", without),
        ("stadia, from the cache", ours),
        ("stadia, in batches of 4 from one worker", with_worker),
    ):
        print(f"{name:46}{value:8.2f}{reference / value:14.1f}")
    print(f"filling the cache took {1e3 * filled_s / (2 * frames):.1f} ms an image, once")


def loader_ms(samples: VideoSamples) -> float:
    """Return the processor time per sample of this process and a worker: loading, stacking, and transfer by shared
    memory.
    """

    def spent_s() -> float:
        worker = resource.getrusage(resource.RUSAGE_CHILDREN)  # counts once the worker has ended
        return time.process_time() + worker.ru_utime + worker.ru_stime

    before = spent_s()
    loader = Loader(samples, batch_size=4, shuffle=True, workers=1)
    count = 0
    for epoch in range(4):
        loader.set_position(epoch)
        count += sum(batch.size for batch in loader)
    del loader
    return 1e3 * (spent_s() - before) / count


if __name__ == "__main__":
    main()
