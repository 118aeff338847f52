"""`stadia adapt`: what is trained, what is kept, and what it prints."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.refusals import refuses
from torch import Tensor, nn

from stadia.core.types import DepthScale
from stadia.data.video.map_geometry import StandingPoints
from stadia.geometry.cameras import centered_K
from stadia.io.image_io import write_image
from stadia.io.input_files import read_json
from stadia.judge.depth import SampledFrame
from stadia.networks.config import DepthModelConfig, DepthNetworkConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, build_depth_network
from stadia.predict.adapt_time import RECORD
from stadia.sfm.map_parts import StandingCameraError
from stadia.training import keep
from stadia.training.adapt import configure_adaptation, limit_steps, make_map
from stadia.training.keep import Decision, measure_samples, measure_video
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.recipes.base.build_recipe import load_recipe

Stadia = Callable[..., tuple[int, str, str]]
NETWORK = f"{Path(__file__).stem}:Tiny"


class Tiny(AffineDepthNetwork):
    """A backbone with batch normalization and a head, whose weights count as published."""

    Config = DepthNetworkConfig
    output = DepthScale.UP_TO_SCALE
    predicts_depth_at_start = True  # type: ignore[assignment]

    def __init__(self, config: DepthNetworkConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 1, 3, padding=1)
        self.register_scale(1.0, 0.0)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return 32, 96

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.parameters())

    def raw(self, image: Tensor) -> Tensor:
        rows = torch.ones_like(image[:, :1]).cumsum(dim=2) / image.shape[-2]
        return (0.1 + rows) * self.head(self.backbone(self.normalize(image))).exp()


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sys.modules.pop(Path(__file__).stem, None)


def build(**settings: Any) -> Any:
    return build_depth_network(DepthModelConfig.model_validate({"network": {"name": NETWORK}, **settings}))


@pytest.mark.parametrize("trained", ["decoder", "head"])
def test_the_decoder_alone_has_gradients(trained: str, own_module: None) -> None:
    network = build(trained=trained)
    network(torch.rand(1, 3, 32, 96)).inverse_depth[0].sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.head.parameters())


@pytest.mark.parametrize("keeps", [True, False])
def test_statistics_of_batch_normalization_stay(keeps: bool, own_module: None) -> None:
    network = build(keep_statistics=keeps)
    before = network.backbone[1].running_mean.clone()
    network.train()(torch.rand(2, 3, 32, 96))
    assert torch.equal(before, network.backbone[1].running_mean) is keeps


def test_a_long_video_is_measured_on_frames_over_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def open_inputs(video: Path, *, every: int = 1) -> list[Any]:
        opened.append(every)
        frames = [SimpleNamespace(name=f"{number:06d}") for number in range(0, 700, every)]
        names = [frame.name for frame in frames]
        return [SimpleNamespace(frames=frames, count=len(frames), name="drive", names=names, recording=None)]

    monkeypatch.setattr(keep, "open_inputs", open_inputs)
    monkeypatch.setattr(keep, "observe_frames", lambda gate, predictor, frames: iter(frames))
    monkeypatch.setattr(keep, "find_map_geometry", lambda video, **_: None)
    shown: list[Any] = []

    def track(frames: Any, count: int | None, what: str) -> Any:
        for frame in frames:
            shown.append(frame.name)
            yield frame

    predictor: Any = SimpleNamespace(depth_scale=DepthScale.METRES)
    measure_video(predictor, Path("drive.mp4"), {}, track)
    assert opened == [1, 7]
    assert (len(shown), shown[-1]) == (100, "000693")


@pytest.mark.parametrize("scale", [DepthScale.AFFINE_INVERSE, DepthScale.UP_TO_SCALE])
def test_points_of_a_map_tell_good_depth_from_bad(scale: DepthScale) -> None:
    """Also of a network up to scale and shift, whose matches show nothing."""
    rng = np.random.default_rng(0)
    inverse = rng.uniform(0.1, 1, (32, 96)).astype(np.float32)
    xy = np.stack([rng.integers(0, 96, 50), rng.integers(0, 32, 50)], 1).astype(float)
    points = StandingPoints(xy, 7 / inverse[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(np.float64))
    image, K = np.zeros((32, 96, 3), np.uint8), centered_K(60, 32, 96)
    samples = [SampledFrame(image, K, output, points=points) for output in (inverse, inverse[:, ::-1])]
    (right, mirrored, unknown), matches = measure_samples([*samples, SampledFrame(image, K, inverse)], scale)
    assert right == pytest.approx(0, abs=1e-5)
    assert mirrored > 0.2
    assert all(map(math.isnan, (unknown, *matches)))


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["before", "after"])
def test_it_adapts_and_keeps_the_better(
    kept: Any, worlds: Path, tmp_path: Path, own_module: None, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stadia.training.keep.choose_network", lambda *_: Decision(kept))
    cache = f"data.cache.folder={tmp_path / 'cache'}"
    arguments = ("--steps", "2", "--scope", "all", "--out", tmp_path, cache, "training.workers=0")
    code, text, err = stadia("adapt", NETWORK, worlds, *arguments, "training.threads=1", 'training.loggers=["csv"]')
    assert code == 0, err
    assert "kept: the " in text
    phases = ("loading the libraries", f"opening {NETWORK}", "reading ", "measuring the depth of ")
    places = [err.index(f"\n{phase}" if number else phase) for number, phase in enumerate(phases)]
    assert places == sorted(places), "each phase has its line, before it begins"
    (run,) = tmp_path.glob("*-adapt")
    record = read_json(run / RECORD)
    assert err.count("measuring the depth of the adapted network ...") == 1
    assert record["kept"] == kept
    assert record["after"]["abs_rel"] is not None
    assert (Checkpoint.open(run).header.step > 0) is (kept == "after"), "a refused network is not the best checkpoint"
    recipe: Any = load_recipe(run)
    assert isinstance(recipe.model.depth, nn.Module)


@pytest.mark.slow
def test_steps_limit_the_training_and_its_warm_up(own_module: None) -> None:
    config: Any = configure_adaptation(NETWORK, Path("drive.mp4"), "decoder", size=(32, 96))
    short: Any = limit_steps(config, 12)
    assert (short.training.max_steps, short.training.max_epochs, short.schedule.warmup_steps) == (12, None, 1)
    assert limit_steps(config, 1000).schedule.warmup_steps == config.schedule.warmup_steps


class TestMap:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        for number in range(3):
            write_image(tmp_path / "images" / f"{number}.png", np.full((40, 60, 3), 60 * number, np.uint8))
        return tmp_path / "images"

    def print_map(self, video: Path) -> str:
        config, printed = configure_adaptation(NETWORK, video, "decoder", size=(32, 96)), io.StringIO()
        make_map(video, config, Console(file=printed, width=500))
        return printed.getvalue()

    @pytest.mark.slow
    def test_a_video_of_one_camera_gets_one(
        self, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stadia.training.adapt.map_video", lambda source, **_: source.name)
        monkeypatch.setattr("stadia.training.adapt.describe_map", lambda name: [f"map of {name}"])
        assert "map of images" in self.print_map(images)
        monkeypatch.setattr("stadia.training.adapt.find_map", lambda video: object())
        assert self.print_map(images) == ""

    def test_a_camera_that_stands_stops_before_the_training(
        self, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(source: Path, **_: Any) -> Any:
            raise StandingCameraError(source, found="a camera that stands", expected="a moving camera")

        monkeypatch.setattr("stadia.training.adapt.map_video", refuse)
        with refuses(StandingCameraError):
            self.print_map(images)


@pytest.mark.slow
def test_predict_refines_first(
    worlds: Path, tmp_path: Path, own_module: None, stadia: Stadia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = (f"data.cache.folder={tmp_path / 'cache'}", "training.workers=0", "training.threads=1")
    code, text, err = stadia("predict", NETWORK, worlds, "--refine", 2, "--out", "depth", "--no-video", *options)
    assert code == 2
    assert "training: found an unknown key" in err
    code, text, err = stadia("predict", NETWORK, worlds, "--refine", 2, "--out", "depth", "--no-video", options[0])
    assert code == 0, err
    assert "kept: " in text
    record = read_json(next((tmp_path / "depth").rglob("predictions.json")))
    assert record["steady"] is True
    (run,) = (tmp_path / "runs").glob("*-adapt")
    assert read_json(run / "config.json")["training"]["max_steps"] == 2
