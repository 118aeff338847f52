"""What a loss of video must like best: the depth, motion and exposures of a wall that its images were made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stadia.core.types import Camera, Prediction, Targets, is_temporal
from stadia.diagnostics.contract import altered
from stadia.diagnostics.contract import wall as walls
from stadia.diagnostics.contract.exact import Answer, Axis, Exact
from stadia.diagnostics.contract.wall import Wall
from stadia.geometry.se3 import se3_exp

LossOfVideo = Callable[[Targets, Prediction, Sequence[str]], Any]

DEPTH_TIMES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)
MOTION_TIMES = (0.0, 0.5, 0.8, 1.0, 1.25, 1.6)
GAIN_TIMES = (0.5, 0.8, 1.0, 1.25, 2.0)
OFFSET_PLUS = (-0.2, -0.05, 0.0, 0.05, 0.2)
LOG_UNCERTAINTY, DOUBT = -2.0, 0.5
UNIT = 2.0
OFF_ROWS = (0.0, 0.01, 0.0, 0.002, 0.0, 0.0)
"""A twist, the same in a mirror. Rows of a rectified pair lie on rows, where interpolation has two slopes, and none is
the gradient.
"""

MASKED_EXPOSURE = 0.25
"""What the auto-mask leaves out keeps a value that follows the exposure, and teaches nothing: 16 % of the slope in the
house's losses (two neighbors, four sizes), 4 % at most in the others.
"""

LEAST_HEIGHT, MOST_HEIGHT = 64, 128
"""Pixels, of the wall's images; more where the smallest size that they are compared at had less than LEAST_OF_SMALLEST.
"""

ENOUGH_OF_SMALLEST, LEAST_OF_SMALLEST = 8, 2
"""Pixels: of fewer the wall's finest waves are a pixel long, and what is read between pixels is blurred the more it has
moved.
"""

MOTION_ALONE = 0.25
"""Where neighbors in time teach motion alone, what they cost changes with depth and teaches it nothing: 10 to 15 % of
its slope.
"""


@dataclass(frozen=True)
class Said:
    """What the networks of a training say beside depth and motion, and at how many scales; and at how many image sizes,
    each half the
    one before, that is compared. motion_alone: whether neighbors in time teach depth nothing
        (`LossConfig.temporal_from_step`).
    """

    scales: int = 1
    sizes: int = 1
    brightness: bool = False
    uncertainty: bool = False
    right_view: bool = False
    motion_alone: bool = False


def of_video(loss: LossOfVideo, source_names: Sequence[str] = ("-1", "+1"), said: Said | None = None) -> Exact:
    """The wall, seen as the sources of a training see it.

    loss: called with targets, a prediction and the names of the sources, in float64, on the processor.
    source_names: as a batch has them, "-1", "+1", "stereo". Beside a pair the motion is no axis: what the pair sees
        hides it. A loss of depth alone (measured depth, say) is asked with ("stereo",).
    """
    said = said or Said()
    halved = said.sizes - 1
    height = max(LEAST_HEIGHT, min(ENOUGH_OF_SMALLEST << halved, MOST_HEIGHT), LEAST_OF_SMALLEST << halved)
    return _exact(loss, _seen(height, source_names, said), said)


def _seen(height: int, source_names: Sequence[str], said: Said, finer: float = 1.0) -> Wall:
    """Two samples of the wall, with exposures where the networks say some."""
    scene = walls.wall(height=height, width=2 * height, names=source_names, batch=2, finer=finer)
    return walls.exposed(scene) if said.brightness else scene


def _exact(loss: LossOfVideo, scene: Wall, said: Said, *, plain: bool = False) -> Exact:
    """plain: without axes and further forms, which a form of a form would have for ever."""

    def asked(answer: Answer) -> Any:
        return loss(scene.targets, _prediction(scene, said, answer), scene.source_names)

    right = _right(scene, said)
    off = {**right, "inverse_depth": right["inverse_depth"] / 1.1}
    temporal = torch.tensor([is_temporal(name) for name in scene.source_names])[:, None]
    off["motion"] = torch.where(temporal, 0.9 * right["motion"], right["motion"] + right["motion"].new_tensor(OFF_ROWS))
    if said.brightness:
        off["brightness"] = right["brightness"] * 1.05
    targets = scene.targets
    assert targets.depth_m is not None
    shown = {
        "targets.image": targets.image,
        "targets.sources": targets.sources,
        "targets.camera.K": targets.camera.K,
        "targets.depth_m": targets.depth_m,
    }
    if plain:
        return Exact(asked, right, off, (), shown)
    forms: dict[str, Callable[[], Wall]] = {
        "twice the batch": lambda: twice(scene),
        "twice the size": lambda: _seen(2 * scene.targets.camera.height, scene.source_names, said, finer=2.0),
        "mirrored": lambda: walls.mirrored(scene),
        "sources in another order": lambda: reordered(scene),
        "first tenth changed": lambda: first_tenth_changed(scene),
        **altered.wrong_sources(scene),
        "noise": lambda: altered.noisy(scene, 1.0),
        "half of it noise": lambda: altered.noisy(scene, 0.5),
    }
    if len(scene.source_names) == 1:
        del forms["sources in another order"]
    if said.right_view:
        del forms["mirrored"]  # right becomes left then
    dark, white = torch.zeros_like(scene.targets.image), torch.ones_like(scene.targets.image)
    hostile = {
        "black images": lambda: walls.with_images(scene, dark, torch.zeros_like(scene.targets.sources)),
        "white images": lambda: walls.with_images(scene, white, torch.ones_like(scene.targets.sources)),
        "a camera that stands still": lambda: altered.still(scene),
    }

    def seen_as(form: Callable[[], Wall]) -> Callable[[], Exact]:
        return lambda: _exact(loss, form(), said, plain=True)

    return Exact(
        asked,
        right,
        off,
        _axes(scene, said, right),
        shown,
        {name: seen_as(form) for name, form in forms.items()} | _right_or_wrong(loss, scene, said),
        {name: seen_as(form) for name, form in hostile.items()},
        loose={"brightness": MASKED_EXPOSURE, **({"inverse_depth": MOTION_ALONE} if said.motion_alone else {})},
    )


def _right_or_wrong(loss: LossOfVideo, scene: Wall, said: Said) -> dict[str, Callable[[], Exact]]:
    """Forms whose wrong answer is of their own: flat depth before a camera that has not moved, uncertainty on the wrong
    side.
    """

    def flat(still: Wall) -> Exact:
        exact = _exact(loss, still, said, plain=True)
        depth = exact.right["inverse_depth"]
        return replace(
            exact, off={**exact.right, "inverse_depth": depth.mean(dim=(2, 3), keepdim=True).expand_as(depth).clone()}
        )

    def doubtful() -> Exact:
        exact = _exact(loss, altered.left_wrong(scene), said, plain=True)
        right, wrong = (altered.higher_on_the_left(exact.right["log_uncertainty"], by) for by in (DOUBT, -DOUBT))
        return replace(
            exact, right={**exact.right, "log_uncertainty": right}, off={**exact.right, "log_uncertainty": wrong}
        )

    forms = {
        "a camera that has not moved": lambda: flat(altered.still(scene)),
        "one that has not moved, twice the size": lambda: flat(
            altered.still(_seen(2 * scene.targets.camera.height, scene.source_names, said, finer=2.0))
        ),
        "one that has not moved, in another unit": lambda: flat(altered.in_another_unit(altered.still(scene), UNIT)),
    }
    return {**forms, "left half wrong": doubtful} if said.uncertainty else forms


def _right(scene: Wall, said: Said) -> dict[str, Tensor]:
    answer = {"inverse_depth": scene.inverse_depth, "motion": scene.twist}
    if said.brightness:
        answer["brightness"] = scene.brightness
    if said.uncertainty:
        answer["log_uncertainty"] = torch.full_like(scene.inverse_depth, LOG_UNCERTAINTY)
    if said.right_view:
        answer["inverse_depth_right"] = scene.inverse_depth_of_sources[:, scene.source_names.index("stereo")]
    return answer


def _prediction(scene: Wall, said: Said, answer: Answer) -> Prediction:
    def maps(name: str) -> tuple[Tensor, ...] | None:
        if name not in answer:
            return None
        return tuple(functional.avg_pool2d(answer[name], 2**s) if s else answer[name] for s in range(said.scales))

    inverse_depth = maps("inverse_depth")
    assert inverse_depth is not None
    return Prediction(
        inverse_depth,
        se3_exp(answer["motion"]),
        maps("inverse_depth_right"),
        maps("log_uncertainty"),
        answer.get("brightness"),
    )


def _axes(scene: Wall, said: Said, right: Answer) -> tuple[Axis, ...]:
    axes = [
        Axis(
            "depth, times the true one",
            "L01",
            1.0,
            {x: {**right, "inverse_depth": right["inverse_depth"] / x} for x in DEPTH_TIMES},
        )
    ]
    if all(map(is_temporal, scene.source_names)):
        axes.append(
            Axis(
                "motion, times the true one",
                "P01",
                1.0,
                {x: {**right, "motion": right["motion"] * x} for x in MOTION_TIMES},
            )
        )
    if said.brightness:
        gain, offset = right["brightness"].unbind(-1)
        gains = {x: {**right, "brightness": torch.stack((gain * x, offset), -1)} for x in GAIN_TIMES}
        offsets = {x: {**right, "brightness": torch.stack((gain, offset + x), -1)} for x in OFFSET_PLUS}
        axes += [
            Axis("gain, times the true one", "B01", 1.0, gains),
            Axis("offset, beside the true one", "B01", 0.0, offsets),
        ]
    if said.right_view:
        wrong = {x: {**right, "inverse_depth_right": right["inverse_depth_right"] / x} for x in DEPTH_TIMES}
        axes.append(Axis("depth of the right view, times the true one", "L01", 1.0, wrong))
    return tuple(axes)


def twice(scene: Wall) -> Wall:
    """Every sample two times."""

    def again(x: Tensor) -> Tensor:
        return torch.cat((x, x))

    targets = scene.targets
    assert targets.depth_m is not None
    camera, others = targets.camera, targets.source_camera
    return Wall(
        Targets(
            again(targets.image),
            again(targets.sources),
            Camera(again(camera.K), camera.height, camera.width),
            Camera(again(others.K), others.height, others.width),
            again(targets.T_source_target_true),
            depth_m=again(targets.depth_m),
        ),
        again(scene.inverse_depth),
        again(scene.twist),
        scene.source_names,
        again(scene.inverse_depth_of_sources),
    )


def reordered(scene: Wall) -> Wall:
    """The sources the other way round."""
    targets = scene.targets
    others = targets.source_camera
    return Wall(
        replace(
            targets,
            sources=targets.sources.flip(1),
            source_camera=Camera(others.K.flip(1), others.height, others.width),
            T_source_target_true=targets.T_source_target_true.flip(1),
        ),
        scene.inverse_depth,
        scene.twist.flip(1),
        scene.source_names[::-1],
        scene.inverse_depth_of_sources.flip(1),
    )


def first_tenth_changed(scene: Wall) -> Wall:
    """The target's first columns upside down."""
    image = scene.targets.image.clone()
    columns = image.shape[-1] // 10
    image[..., :columns] = image[..., :columns].flip(-2)
    return walls.with_images(scene, image, scene.targets.sources)
