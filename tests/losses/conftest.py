"""An exact scene: a textured slanted wall whose images, depth and camera motion are known in closed form."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from stadia.differentiable.batch import Prediction
from stadia.geometry.poses import se3_exp
from stadia.training.loss_checks.video_cases import PlaneScene, apply_exposures, render_plane


@dataclass(frozen=True)
class Scene(PlaneScene):
    """The textured plane of the loss checks, with predictions for it."""

    def prediction(
        self,
        *,
        depth_times: float = 1.0,
        scales: int = 1,
        inverse_depth: Tensor | None = None,
        twist: Tensor | None = None,
    ) -> Prediction:
        finest = (self.inverse_depth if inverse_depth is None else inverse_depth) / depth_times
        maps = tuple(torch.nn.functional.avg_pool2d(finest, 2**s) if s else finest for s in range(scales))
        return Prediction(maps, se3_exp(self.twist if twist is None else twist))

    def exposed(self) -> "Scene":
        """The same scene, its sources recorded with other exposures than the target."""
        return replace(self, targets=apply_exposures(self).targets)

    def d3vo_prediction(
        self, *, depth_times: float = 1.0, right_times: float = 1.0, scales: int = 1, right: bool = True
    ) -> Prediction:
        """Return a true prediction of D3VO's networks for `exposed` images, with constant Sigma."""
        plain = self.prediction(depth_times=depth_times, scales=scales)
        finest = self.inverse_depth_of_sources[:, -1] / right_times
        return replace(
            plain,
            inverse_depth_right=tuple(torch.nn.functional.avg_pool2d(finest, 2**s) for s in range(scales))
            if right
            else None,
            log_uncertainty=tuple(torch.full_like(m, -2.0) for m in plain.inverse_depth),
            brightness=self.brightness,
        )


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    def make(
        *,
        height: int = 24,
        width: int = 40,
        names: tuple[str, ...] = ("-1", "+1", "stereo"),
        batch: int = 1,
        dtype: torch.dtype = torch.float64,
    ) -> Scene:
        made = render_plane(height=height, width=width, names=names, batch=batch, dtype=dtype)
        return Scene(**vars(made))

    return make
