"""The largest batch that a memory holds, by trying."""

from __future__ import annotations

from collections.abc import Callable

TRIES = 8
CLOSE = 1 / 16
"""Of a batch that fits: a larger one that gains less is not tried."""


def largest_batch(peak_of: Callable[[int], int | None], *, limit: int, guess: int, most: int) -> int:
    """The largest batch whose peak is within a limit, as far as a few tries tell; 0 where not even a single sample is.

    Tries go by the straight line through the last two peaks, since memory is a constant and so much a sample; never to
    more than twice what has fitted, since on some machines whoever asks for too much is ended.

    Args:
        peak_of: bytes that training in batches of so many samples holds; None where it ran out.
        limit: bytes.
        guess: is tried first.
        most: is not exceeded.
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
        batch = max(middle, 1) if fits == 0 else min(_by_the_line(peaks, limit, middle), 2 * fits, too_large - 1)
        if fits and batch - fits <= CLOSE * fits:
            break
    return fits


def _by_the_line(peaks: dict[int, int], limit: int, otherwise: int) -> int:
    """Where the line through the two largest batches reaches the limit; `otherwise` where there is no rising line."""
    if len(peaks) < 2:
        return otherwise
    (small, low), (large, high) = sorted(peaks.items())[-2:]
    return small + (limit - low) * (large - small) // (high - low) if high > low else otherwise
