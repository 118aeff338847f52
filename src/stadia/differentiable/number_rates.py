"""Measure how fast this processor trains in float32 and in bfloat16, which `training.precision=auto` compares."""

import logging
import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from stadia.io import kept_rates
from stadia.io.kept_rates import describe_processor

log = logging.getLogger(__name__)

MIN_GAIN = 1.2
"""bfloat16 is chosen if it is this many times as fast as float32: less does not pay for its rounding."""

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
"""Instructions of x86 processors that multiply bfloat16. Without them it is emulated, at a tenth of the speed."""

CHANNELS, HEIGHT, WIDTH = 64, 24, 96
"""The measured layers have these sizes, like the first ones of an encoder at 384x96."""

ROUNDS = 4
"""Each number format is measured so many times; the first time prepares, and the fastest counts."""


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
    rates = kept_rates.find_rates("numbers", {"torch": torch.__version__}, measure_rates)
    flags = describe_processor().get("flags", "").split()
    return NumberRates(rates["float32"], rates["bf16"], tuple(flag for flag in BFLOAT16_FLAGS if flag in flags))


@cache
def note_slow_bf16(setting: str, fix: str) -> None:
    """Log one note if this processor computes slower in bfloat16 than in float32.

    setting: the setting that chose bfloat16, as the user typed it.
    fix: what to do instead.
    """
    rates = find_rates()
    if rates.bf16_gain < 1:
        log.warning("note: %s is slow on this processor. %s. Fix: %s", setting, rates, fix)


def measure_rates() -> dict[str, float]:
    """Measure the rates "float32" and "bf16" of `NumberRates`.

    The processor's time of one thread counts, because other programs hardly change it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _time_passes()
    finally:
        torch.set_num_threads(threads)
    operations = 3 * 2 * 2 * 9 * CHANNELS**2 * HEIGHT * WIDTH / 1e9  # a backward pass takes two of a forward pass
    return {"float32": operations / seconds[False], "bf16": operations / seconds[True]}


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
