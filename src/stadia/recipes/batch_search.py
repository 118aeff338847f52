"""Search the largest batch that fits into memory."""

from __future__ import annotations

from collections.abc import Callable

TRIES = 8
CLOSE = 1 / 16
"""A larger batch that gains less than this share is not tried."""


def largest_batch(peak_of: Callable[[int], int | None], *, limit: int, guess: int, most: int) -> int:
    """Return the largest batch whose peak memory is within a limit, by a few tries; 0 if one sample does not fit.

    Memory is linear in the batch, so each try extrapolates the last two peaks. It never exceeds twice a batch that
    fitted: some systems kill a process that allocates too much.

    Args:
        peak_of: bytes that training with this batch size uses; None if it ran out of memory.
        limit: bytes.
        guess: first batch to try.
        most: largest batch to try.
    """
    fits, too_large = 0, most + 1
    peaks: dict[int, int] = {}
    batch = min(max(guess, 1), most)
    for _ in range(TRIES):
        peak = peak_of(batch)
        if peak is not None:
            peaks[batch] = peak
        if peak is not None and peak <= limit:
            fits = batch
        else:
            too_large = batch
        if fits == 0 and too_large == 1:
            return 0
        middle = (fits + too_large) // 2
        batch = max(middle, 1) if fits == 0 else min(_extrapolate(peaks, limit, middle), 2 * fits, too_large - 1)
        if fits and batch - fits <= CLOSE * fits:
            break
    return fits


def _extrapolate(peaks: dict[int, int], limit: int, otherwise: int) -> int:
    """Return where the line through the two largest batches reaches the limit; `otherwise` if it does not rise."""
    if len(peaks) < 2:
        return otherwise
    (small, low), (large, high) = sorted(peaks.items())[-2:]
    return small + (limit - low) * (large - small) // (high - low) if high > low else otherwise
