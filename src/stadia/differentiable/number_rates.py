"""Measure how fast this processor trains in float32 and in bfloat16, which `training.precision=auto` compares."""

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stadia import __version__
from stadia.core.errors import StadiaError
from stadia.io.atomic_files import write_json
from stadia.io.input_files import find_cache_folder, read_json

log = logging.getLogger(__name__)

MIN_GAIN = 1.2
"""bfloat16 is chosen if it is this many times as fast as float32: less does not pay for its rounding."""

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Instructions of x86 processors that multiply bfloat16. Without them it is emulated, at a tenth of the speed."""

CHANNELS, HEIGHT, WIDTH = 64, 24, 96
"""The measured layers have these sizes, like the first ones of an encoder at 384x96."""

ROUNDS = 4
"""Each number format is measured so many times; the first time prepares, and the fastest counts."""

RATES_FOLDER = "rates"


@dataclass(frozen=True)
class NumberRates:
    """Rates of forward and backward passes through two convolutions, on one core.

    float32, bf16: 1e9 multiplications and additions a second.
    flags: those of `BFLOAT16_FLAGS` that the processor has.
    """

    float32: float
    bf16: float
    flags: tuple[str, ...]

    @property
    def bf16_gain(self) -> float:
        """Return how many times as fast as float32 bfloat16 is."""
        return self.bf16 / self.float32

    @property
    def is_bf16_faster(self) -> bool:
        """Return whether bfloat16 is worth its rounding on this processor."""
        return self.bf16_gain >= MIN_GAIN

    def __str__(self) -> str:
        flags = f"with {' and '.join(self.flags)}" if self.flags else f"without {' or '.join(BFLOAT16_FLAGS)}"
        rates = f"float32 {self.float32:.3g}, bf16 {self.bf16:.3g} GFLOP/s a core"
        return f"{rates}: bf16 is {self.bf16_gain:.2g} times as fast ({flags})"


@cache
def find_rates() -> NumberRates:
    """Return the rates of this processor. They are measured once, in less than 2 s, and kept in the cache."""
    known = _describe_processor()
    digits = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    path = find_cache_folder() / RATES_FOLDER / f"{digits}.json"
    if (kept := _read_rates(path, known)) is not None:
        return kept
    rates = measure_rates()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"processor": known, "float32": rates.float32, "bf16": rates.bf16})
    except (OSError, StadiaError):  # a cache that cannot be written is not needed
        pass
    return rates


@cache
def note_slow_bf16(setting: str, fix: str) -> None:
    """Log one note if this processor computes slower in bfloat16 than in float32.

    setting: the setting that chose bfloat16, as the user typed it.
    fix: what to do instead.
    """
    rates = find_rates()
    if rates.bf16_gain < 1:
        log.warning("note: %s is slow on this processor. %s. Fix: %s", setting, rates, fix)


def measure_rates() -> NumberRates:
    """Measure the rates by the processor's time of one thread, which other programs hardly change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _time_passes()
    finally:
        torch.set_num_threads(threads)
    operations = 3 * 2 * 2 * 9 * CHANNELS**2 * HEIGHT * WIDTH / 1e9  # a backward pass takes two of a forward pass
    return NumberRates(operations / seconds[False], operations / seconds[True], _list_flags())


def _time_passes() -> dict[bool, float]:
    with torch.random.fork_rng(devices=[]):
        layers = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False, device="cpu", dtype=torch.float32),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False, device="cpu", dtype=torch.float32),
        )
        image = torch.randn(1, CHANNELS, HEIGHT, WIDTH, device="cpu", dtype=torch.float32)
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    seconds: dict[bool, float] = {}
    for number in range(ROUNDS):
        for is_bf16 in (False, True):
            start_s = time.process_time()
            with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                output = layers(image)
                output.float().square().mean().backward()
            taken_s = max(time.process_time() - start_s, 1e-6)
            seconds[is_bf16] = min(taken_s, seconds.get(is_bf16, taken_s)) if number > 1 else taken_s
    return seconds


def _describe_processor() -> dict[str, Any]:
    """Return what determines the rates: the processor, the version of torch, and the limits of its libraries."""
    limits = {name: os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")}
    return {"processor": _find_capabilities(), "limits": limits, "torch": torch.__version__, "stadia": __version__}


def _list_flags() -> tuple[str, ...]:
    found = _find_capabilities()
    return tuple(flag for flag in BFLOAT16_FLAGS if found.get(flag))


def _find_capabilities() -> dict[str, Any]:
    return dict(getattr(torch.cpu, "get_capabilities", dict[str, Any])())


def _read_rates(path: Path, known: dict[str, Any]) -> NumberRates | None:
    if not path.is_file():
        return None
    try:
        kept: Any = read_json(path)
    except (StadiaError, OSError):
        return None
    if not isinstance(kept, dict) or kept.get("processor") != known:
        return None
    float32, bf16 = kept.get("float32"), kept.get("bf16")
    if not (isinstance(float32, float) and isinstance(bf16, float) and min(float32, bf16) > 0):
        return None
    return NumberRates(float32, bf16, _list_flags())
