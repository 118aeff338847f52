"""How much objects and the camera's height weigh in each epoch: V13."""

from __future__ import annotations

import pytest

from stadia.losses.metric_scale import FINAL_OBJECT_SHARE, compute_scale_loss_shares

CAMERA_SHARE = {0: 0, 1: 0.228, 2: 0.361, 3: 0.455, 5: 0.589, 8: 0.722, 10: 0.788, 15: 0.911, 19: 0.984, 20: 1, 50: 1}


@pytest.mark.parametrize(("epoch", "camera"), CAMERA_SHARE.items())
def test_v13_the_published_table(epoch, camera):
    shares = compute_scale_loss_shares(epoch, epochs=20)
    assert shares.camera == pytest.approx(camera, abs=1e-3)
    assert shares.objects == (FINAL_OBJECT_SHARE if epoch >= 20 else pytest.approx(1 - camera, abs=1e-3))
