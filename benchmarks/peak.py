"""Compare a timing with the peak of a device. A time that needs a higher rate is wrong: the clock did not wait."""

from __future__ import annotations

import torch

from stadia.core.errors import RunError
from stadia.training.phase_clock import MAX_PEAK_SHARE, measure_matmul_peak


class PeakFlops:
    """The peak of a device by `measure_matmul_peak`.

    Before a time is refused the peak is measured again, and the higher one kept: the machine may have been busy.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.flops_per_s = measure_matmul_peak(device)

    def share(self, what: str, flops: float, seconds: float) -> float:
        """Return the rate of `flops` in `seconds` over the peak. Raises RunError above MAX_PEAK_SHARE.

        Args:
            what: was timed, for the error.
            flops: at least needed, two for each multiplication.
            seconds: measured.
        """
        if flops / seconds > MAX_PEAK_SHARE * self.flops_per_s:
            self.flops_per_s = max(self.flops_per_s, measure_matmul_peak(self.device))
        share = flops / seconds / self.flops_per_s
        if share > MAX_PEAK_SHARE:
            peak = f"the measured peak of {self.flops_per_s / 1e9:.3g} GFLOP/s"
            found = f"{seconds * 1e3:.3g} ms for {flops / 1e9:.3g} GFLOP, {share:.3g} times {peak}"
            expected = f"at most {MAX_PEAK_SHARE:g} times the peak"
            fix = "synchronize the device before reading the clock; measure on an idle machine"
            raise RunError(f"time of {what}", found=found, expected=expected, fix=fix)
        return share
