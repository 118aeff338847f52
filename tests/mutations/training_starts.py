"""Trainings before their first step, with one mistake each: in the batch, the optimizer, or the initial predictions."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, Self

import torch
from tests.mutations.mutation import MutationCase
from torch import Tensor, nn

from stadia.core.types import Camera, DepthScale
from stadia.differentiable.batch import Batch, Inputs, Meta, Prediction
from stadia.geometry.poses import se3_exp
from stadia.judge.finding import Finding, Stage
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.loss_report import LossReport, combine_losses
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.recipe import AnyRecipe, Recipe
from stadia.training.loss_checks.loss_check_runner import check_training_start
from stadia.training.loss_checks.training_start import TrainingStart, take_samples
from stadia.training.loss_checks.video_cases import render_plane

SECONDS = 600.0  # no test depends on the speed of a machine
"""Time limit of all checks; an idle processor takes 1 s."""


class Toy(Recipe[Any, Any]):
    """A minimal recipe: depth and motion of the plane by two layers each."""

    recipe = "toy"
    depth_scale = DepthScale.METRES
    start_m, motion_scale, smoothness, lr = 8.0, 0.01, 1e-3, 1e-3

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(optimizer=OptimizerConfig(lr=self.lr), schedule=ScheduleConfig()))
        torch.manual_seed(0)
        self.depth_net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.Conv2d(8, 1, 3, padding=1))
        self.pose_net = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ELU(), nn.Conv2d(8, 6, 1))
        self.loss = SelfSupervisedLoss(SelfSupervisedLossConfig(smoothness=self.smoothness))

    def inverse_depth(self, image: Tensor) -> Tensor:
        return (0.3 * self.depth_net(image)).exp() / self.start_m

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor:
        return se3_exp(self.motion_scale * self.pose_net(torch.cat((now, following), 1)).mean((2, 3)))

    def training_step(self, batch: Batch) -> LossReport:
        image, sources = batch.inputs.image, batch.inputs.sources
        T = torch.stack([self.T_next_now(image, sources[:, i]) for i in range(sources.shape[1])], 1)
        T = torch.where(batch.inputs.T_source_target_rig.isnan(), T, batch.inputs.T_source_target_rig)
        return self.loss(batch.targets, Prediction((self.inverse_depth(image),), T), batch.source_names)


def batch(names: tuple[str, ...] = ("-1", "+1", "stereo")) -> Batch:
    """Three walls seen by two neighbors in time and a pair of known rig, with depth."""
    scene = render_plane(height=24, width=48, names=names, batch=3, dtype=torch.float32)
    rig = torch.full((3, len(names), 4, 4), torch.nan)
    rig[:, -1] = scene.targets.T_source_target_true[:, -1]
    inputs = Inputs(scene.targets.image, scene.targets.sources, scene.targets.camera, rig)
    targets = replace(scene.targets, depth_m=1 / scene.inverse_depth)
    return Batch(inputs, targets, tuple(Meta("wall", index) for index in range(3)), scene.source_names)


def look(recipe: AnyRecipe, given: Batch | None = None, **facts: Any) -> list[Finding]:
    return check_training_start(
        TrainingStart.prepare(recipe, given or batch(), **{"depth_range_m": (0.5, 100.0), **facts}), SECONDS
    )


def of(**values: Any) -> Toy:
    """A Toy with other numbers."""
    return type("Toy", (Toy,), values)()


def seeing(change: Callable[[Tensor], Tensor]) -> Batch:
    """A batch whose images are changed for network and loss alike."""
    given = batch()
    inputs = replace(given.inputs, image=change(given.inputs.image), sources=change(given.inputs.sources))
    return replace(
        given,
        inputs=inputs,
        targets=replace(given.targets, image=change(given.targets.image), sources=change(given.targets.sources)),
    )


def another_camera(times: float) -> Batch:
    """K of images that are so many times as large."""
    given = batch()
    K = given.inputs.camera.K.clone()
    K[:, :2] *= times
    return replace(given, inputs=replace(given.inputs, camera=Camera(K, 24, 48)))


def first_everywhere() -> Batch:
    return seeing(lambda x: x[:1].expand_as(x).contiguous())


def itself() -> Batch:
    given = batch()
    sources = given.targets.sources.clone()
    sources[:, 0] = given.targets.image
    return replace(given, targets=replace(given.targets, sources=sources))


def far_labels() -> Batch:
    given = batch()
    assert given.targets.depth_m is not None
    depth_m = given.targets.depth_m.clone()
    depth_m[..., :10] *= 20
    return replace(given, targets=replace(given.targets, depth_m=depth_m))


def unlabeled_pair() -> Batch:
    """A plane from 6.7 to 9.7 m, textured finely enough for matches, as a stereo pair only."""
    scene = render_plane(height=96, width=192, names=("stereo",), batch=2, finer=2.0, dtype=torch.float32)
    targets = scene.targets
    inputs = Inputs(targets.image, targets.sources, targets.camera, targets.T_source_target_true)
    return Batch(inputs, replace(targets, depth_m=None), (Meta("wall", 0), Meta("wall", 1)), scene.source_names)


class Saturated(Toy):
    def inverse_depth(self, image: Tensor) -> Tensor:
        return (self.depth_net(image) + 5).clamp(max=1) / self.start_m


class Exposing(Toy):
    """Says a gain of each source, as the recipes do."""

    gain = 1.0

    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        return replace(report, logged={"gain/-1": torch.tensor(self.gain), "offset/-1": torch.tensor(0.0)})


class ExposingCombined(Exposing):
    """Adds nothing to the loss, as `metric` does with its own."""

    def training_step(self, batch: Batch) -> LossReport:
        return combine_losses({"selfsup": (1.0, super().training_step(batch))})


class Forgetful(Toy):
    def parameter_groups(self) -> Any:
        return [{"params": list(self.depth_net.parameters())}]


class Twice(Toy):
    def parameter_groups(self) -> Any:
        return [{"params": list(self.parameters())}, {"params": list(self.depth_net.parameters())}]


class Frozen(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Unused(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.Conv2d(3, 8, 1)


class Climbing(Toy):
    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        return replace(report, total=2 * report.total.detach() - report.total)


class Coarse(Toy):
    """Its loss is another one where the networks run in half precision."""

    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        return replace(report, total=report.total * (1.2 if torch.is_autocast_enabled("cpu") else 1.0))


class Together(Toy):
    def inverse_depth(self, image: Tensor) -> Tensor:
        return super().inverse_depth(image) * (1 + 0.1 * len(image))


class Keeping(Toy):
    """Keeps what each step leaves, as a list of losses with their graphs does; as much as large images would, and more
    than what the process may have freed before and not given back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def training_step(self, batch: Batch) -> LossReport:
        report = super().training_step(batch)
        self.kept.append((report, torch.ones(12 << 20)))
        return report


class Normalized(Toy):
    """By statistics of the batch, without weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.depth_net.insert(1, nn.BatchNorm2d(8, affine=False))


class NormalizedSmall(Toy):
    """On maps of a quarter of the image's width and height, as networks do in their depths."""

    def __init__(self) -> None:
        super().__init__()
        self.depth_net.insert(
            1, nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(8), nn.Upsample(scale_factor=4, mode="bilinear"))
        )


class NormalizedAsBefore(Normalized):
    """By statistics of an earlier training."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.depth_net[1].eval()
        return self


TABLE: list[tuple[str, str, Callable[[], list[Finding]], str]] = [
    ("K of a quarter of the images", "K20", lambda: look(Toy(), another_camera(0.25)), "plain"),
    ("a pair whose images are all of the width apart", "S01", lambda: look(of(start_m=0.4), batch(("stereo",))),
        "pair"),
    ("depth that starts at 300 m", "M01", lambda: look(of(start_m=300.0)), "plain"),
    ("depth that starts in a clamp", "M02", lambda: look(Saturated()), "plain"),
    ("a fifth of the labels beyond the range", "M03", lambda: look(Toy(), far_labels()), "plain"),
    ("a range that ends before the scene", "M03", lambda: look(Toy(), unlabeled_pair(), depth_range_m=(0.1, 3.0)),
        "unlabeled"),
    ("a range that begins behind the scene", "M03", lambda: look(Toy(), unlabeled_pair(), depth_range_m=(20.0, 100.0)),
        "unlabeled"),
    ("a pair that starts at 1/5 of its depth", "M01", lambda: look(of(start_m=1.6), unlabeled_pair()), "unlabeled"),
    ("a pair that starts at 12 times its depth", "M01", lambda: look(of(start_m=95.0), unlabeled_pair()), "unlabeled"),
    ("a pose head without its scale", "P02", lambda: look(of(motion_scale=30.0)), "plain"),
    ("a gain that starts at 1.3", "B02", lambda: look(type("One", (Exposing,), {"gain": 1.3})()), "exposing"),
    ("a gain that starts at 1.3, in a combined loss", "B02",
        lambda: look(type("Combined", (ExposingCombined,), {"gain": 1.3})()), "exposing"),
    ("smoothness of a thousand times", "R01", lambda: look(of(smoothness=30.0)), "plain"),
    ("an optimizer without the pose network", "T20", lambda: look(Forgetful()), "plain"),
    ("an optimizer with a network twice", "T21", lambda: look(Twice()), "plain"),
    ("everything frozen", "T22", lambda: look(Frozen()), "plain"),
    ("a branch that nothing uses", "T23", lambda: look(Unused()), "plain"),
    ("gradient ascent", "T26", lambda: look(Climbing()), "plain"),
    ("a learning rate of nothing", "T26", lambda: look(of(lr=1e-9)), "plain"),
    ("half precision that says something else", "T27", lambda: look(Coarse(), precision="bf16"), "bf16"),
    ("depth by the size of the batch", "T28", lambda: look(Together()), "plain"),
    ("losses kept with their graph", "T29", lambda: look(Keeping()), "plain"),
    ("images from 0 to 255", "D40", lambda: look(Toy(), seeing(lambda x: 255 * x)), "plain"),
    ("images divided twice", "D40", lambda: look(Toy(), seeing(lambda x: x / 255)), "plain"),
    ("one image all over the batch", "D41", lambda: look(Toy(), first_everywhere()), "plain"),
    ("a source that is the target", "D42", lambda: look(Toy(), itself()), "plain"),
    ("K of an image 2.4 times as large", "K20", lambda: look(Toy(), another_camera(2.4)), "plain"),
    ("batch statistics of one image", "T33", lambda: look(Normalized(), take_samples(batch(), 1)), "alone"),
    ("batch statistics of two small images", "T33", lambda: look(NormalizedSmall(), take_samples(batch(), 2)), "two"),
]  # fmt: skip

SOUND: dict[str, Callable[[], list[Finding]]] = {
    "pair": lambda: look(Toy(), batch(("stereo",))),
    "unlabeled": lambda: look(Toy(), unlabeled_pair()),
    "plain": lambda: look(Toy()),
    "exposing": lambda: look(Exposing()),
    "bf16": lambda: look(Toy(), precision="bf16"),
    "alone": lambda: look(NormalizedAsBefore(), take_samples(batch(), 1)),
    "two": lambda: look(Normalized(), take_samples(batch(), 2)),
}


@cache
def _of_sound(name: str) -> list[Finding]:
    return SOUND[name]()


def _case(name: str, code: str, broken: Callable[[], list[Finding]], correct: str) -> MutationCase:
    return MutationCase(
        name, (code,), Stage.BEFORE_TRAINING, lambda folder: broken(), lambda folder: _of_sound(correct)
    )


ROWS = tuple(_case(*row) for row in TABLE)
