"""Dead images behind the means of a table."""

from __future__ import annotations

import numpy as np
import pytest

from stadia.evaluation.dead_images import dead_images, dead_shares

# Published means over KITTI Eigen's 652 images, all at 640x192: fine-tuned DPT-Hybrid, the same with Performer, and with memory-compressed
# attention of factor 2 and 3.
TUNED = {"d1": 0.917, "d3": 0.997, "rmse_log": 0.140, "log10": 0.046}
PERFORMER = {"d1": 0.914, "d3": 0.989, "rmse_log": 0.203, "log10": 0.073}
COMPRESSED_2 = {"d1": 0.930, "d3": 0.997, "rmse_log": 0.129, "log10": 0.041}
COMPRESSED_3 = {"d1": 0.927, "d3": 0.997, "rmse_log": 0.130, "log10": 0.042}
WORSE = {"d1": 0.578, "d3": 0.979, "rmse_log": 0.273, "log10": 0.097}  # COMPRESSED_2 at another size, which would look like ten
ROWS = (TUNED, PERFORMER, COMPRESSED_2, COMPRESSED_3, WORSE)


@pytest.mark.parametrize("alive", [TUNED, COMPRESSED_2, COMPRESSED_3])
@pytest.mark.parametrize("typical_m", [8, 13])
def test_five_of_652_whatever_sound_row_it_is_compared_with(alive: dict[str, float], typical_m: float) -> None:
    assert dead_images(PERFORMER, alive, 652, typical_m=typical_m) == 5


def test_rows_that_differ_by_their_training_have_none() -> None:
    sound = [row for row in ROWS if row is not PERFORMER]
    assert [dead_images(a, b, 652, typical_m=8) for a in sound for b in ROWS if a is not b] == [None] * 16


def test_the_shares_are_those_that_were_put_in() -> None:
    """Three of 100 images at a millimetre, the others right within a tenth or so."""
    rng = np.random.default_rng(0)
    true_m = np.exp(rng.normal(np.log(12), 0.6, (100, 500)))
    predicted_m = true_m * np.exp(rng.normal(0, 0.12, true_m.shape))

    def means(predicted_m: np.ndarray) -> dict[str, float]:
        error = np.log(predicted_m / true_m)
        within = {f"d{k}": float((np.exp(np.abs(error)) < 1.25**k).mean()) for k in (1, 3)}
        logarithms = {"rmse_log": float(np.sqrt((error**2).mean(1)).mean()), "log10": float(np.abs(error).mean() / np.log(10))}
        return within | logarithms

    alive = means(predicted_m)
    predicted_m[[3, 14, 15]] = 1e-3
    assert dead_shares(means(predicted_m), alive, typical_m=12) == pytest.approx(dict.fromkeys(("d3", "rmse_log", "log10"), 0.03), rel=0.02)
    assert dead_images(means(predicted_m), alive, 100, typical_m=12) == 3
