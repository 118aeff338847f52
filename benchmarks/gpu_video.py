"""Decode the same video on the processor and on a GPU: a part of `gpu_check.py`."""

# mypy: disable-error-code="arg-type, misc"

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stadia.evaluation.plots.videos import open_video_file
from stadia.io import VideoDecoder
from stadia.io.video_decoding import stream_video

MAX_DIFFERENCE = 3
"""Of a color in 8 bits: both decode the same luma and chroma, and convert them to RGB from other layouts."""


def write_video(path: Path, *, frames: int, height: int, width: int) -> None:
    """Write a smooth pattern that moves."""
    y, x = np.mgrid[:height, :width]
    with open_video_file(path, 30.0) as write:
        for number in range(frames):
            waves = [np.sin(x / 41 + number / 9), np.sin(y / 29 - number / 7), np.sin((x + y) / 53 + number / 11)]
            write(np.uint8(127.5 + 100 * np.stack(waves, axis=-1)))


def measure_decoding(decoder: VideoDecoder, *, small: bool) -> dict[str, Any]:
    """Return frames a second of a decoder and of the processor, and the largest difference of a color."""
    frames, height, width = (8, 96, 160) if small else (240, 1080, 1920)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "waves.mp4"
        write_video(path, frames=frames, height=height, width=width)
        pairs = zip(stream_video(path), stream_video(path, decoder), strict=True)
        differences = [np.abs(np.int16(one.image) - other.image).max() for one, other in pairs]
        rates = {}
        for name, one in (("cpu", "cpu"), ("device", decoder)):
            started = time.perf_counter()
            count = sum(1 for _ in stream_video(path, one))
            rates[name] = count / (time.perf_counter() - started)
    difference = int(max(differences))
    ok = len(differences) == frames and difference <= MAX_DIFFERENCE
    return {"size": [height, width], "frames_per_s": rates, "largest_difference": difference, "ok": ok}


def describe_decoding(found: Mapping[str, Any]) -> str:
    """Return the row of the table."""
    height, width = found["size"]
    rates = found["frames_per_s"]
    speed = f"{rates['device']:.0f} frames/s by the device, {rates['cpu']:.0f} by the processor"
    return f"{width}x{height}: {speed}; colors differ by at most {found['largest_difference']} of 255"
