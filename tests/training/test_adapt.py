"""`stadia adapt`: what is trained, what is kept, and what it prints."""

from __future__ import annotations

import io
import itertools
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.refusals import refuses
from torch import Tensor, nn

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import DepthScale
from stadia.data.video.map_geometry import StandingPoints
from stadia.data.video.video_map import MapVerdictRecord
from stadia.geometry.cameras import centered_K
from stadia.io.image_io import write_image
from stadia.io.input_files import read_json
from stadia.judge.depth import SampledFrame
from stadia.networks.config import DepthModelConfig, DepthNetworkConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, build_depth_network
from stadia.predict.adapt_time import (
    RECORD,
    check_minutes,
    choose_measured_frames,
    estimate_least_minutes,
    estimate_step_s,
)
from stadia.sfm.map_parts import StandingCameraError
from stadia.training import keep
from stadia.training.adapt import (
    MAX_MOVABLE,
    adapt_network,
    configure_adaptation,
    limit_steps,
    make_map,
    plan_end,
    takes_map,
    use_map,
)
from stadia.training.keep import Decision, align_output, measure_samples, measure_video
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


def test_a_network_without_a_backbone_has_no_head(own_module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build()
    monkeypatch.setattr(type(network), "backbone_parameters", lambda self: [])
    with refuses(ConfigError, where="model.trained=decoder"):
        network.choose_trained(DepthModelConfig(trained="decoder"))


@pytest.mark.parametrize("keeps", [True, False])
def test_statistics_of_batch_normalization_stay(keeps: bool, own_module: None) -> None:
    network = build(keep_statistics=keeps)
    before = network.backbone[1].running_mean.clone()
    network.train()(torch.rand(2, 3, 32, 96))
    assert torch.equal(before, network.backbone[1].running_mean) is keeps


@pytest.mark.parametrize("scale", list(DepthScale))
def test_outputs_of_every_depth_scale_are_aligned_with_known_depths(scale: DepthScale) -> None:
    """Whatever scale and shift an output has, and with a tenth of wrong depths."""
    z = np.linspace(1, 20, 200)
    of_scale = {
        DepthScale.METRES: 1 / z,
        DepthScale.UP_TO_SCALE: 3 / z,
        DepthScale.AFFINE_INVERSE: 2 / z - 0.7,
        DepthScale.AFFINE_DEPTH: 4 - 0.3 * z,
    }
    wrong = z.copy()
    wrong[::10] *= 1.5
    aligned = align_output(of_scale[scale], wrong, scale)
    assert np.median(np.abs(aligned / z - 1)) < 0.03


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


def test_the_configuration_is_of_the_network(own_module: None) -> None:
    config: Any = configure_adaptation(NETWORK, Path("drive.mp4"), "decoder", ["optimizer.lr=1e-3"], size=(32, 96))
    assert (config.model.network.name, config.model.trained, config.optimizer.lr) == (NETWORK, "decoder", 1e-3)
    assert (config.data.height, config.data.width) == (32, 96)


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


def test_a_scope_that_is_none(stadia: Stadia, tmp_path: Path) -> None:
    code, _, err = stadia("adapt", "dpt-large", tmp_path, "--scope", "tail")
    assert code != 0
    assert "--scope: found 'tail'; expected one of all, decoder, head, adapters" in err


@pytest.mark.slow
def test_steps_limit_the_training_and_its_warm_up(own_module: None) -> None:
    config: Any = configure_adaptation(NETWORK, Path("drive.mp4"), "decoder", size=(32, 96))
    short: Any = limit_steps(config, 12)
    assert (short.training.max_steps, short.training.max_epochs, short.schedule.warmup_steps) == (12, None, 1)
    assert limit_steps(config, 1000).schedule.warmup_steps == config.schedule.warmup_steps


@pytest.mark.slow
def test_one_camera_learns_faster_with_its_map(
    own_module: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "images" / "0.png", np.zeros((40, 60, 3), np.uint8))
    video = tmp_path / "images"

    def configure(*settings: str) -> Any:
        config = configure_adaptation(NETWORK, video, "all", settings, size=(32, 96))
        return use_map(config, video, settings)

    assert (configure().optimizer.lr, configure().loss.pyramid) == (1e-4, 1)
    monkeypatch.setattr(
        "stadia.training.adapt.find_map", lambda video: SimpleNamespace(is_usable=True, measure_movable=lambda: 0.0)
    )
    mono = configure()
    assert (mono.optimizer.lr, mono.loss.pyramid, mono.loss.points, mono.backbone_lr_factor) == (3e-4, 4, 0.1, 1.0)
    assert (mono.name, mono.model.network.name, mono.model.trained) == ("adapt", NETWORK, "all")
    chosen = configure("optimizer.lr=1e-5")
    assert (chosen.optimizer.lr, chosen.loss.pyramid) == (1e-5, 4)
    for settings in (["data.stereo=true"], ["motion=network"]):
        assert not takes_map(video, configure_adaptation(NETWORK, video, "all", settings, size=(32, 96)))


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

    def test_a_note_states_why_there_is_none(
        self, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(source: Any, **_: Any) -> Any:
            raise ConfigError("pycolmap", found="no such package", expected="the extra 'map'", fix="install it")

        monkeypatch.setattr("stadia.training.adapt.map_video", refuse)
        note = "note: no map of the video, so its motion is learned in the training: pycolmap"
        assert note in self.print_map(images)

    def test_a_camera_that_stands_stops_before_the_training(
        self, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(source: Path, **_: Any) -> Any:
            raise StandingCameraError(source, found="a camera that stands", expected="a moving camera")

        monkeypatch.setattr("stadia.training.adapt.map_video", refuse)
        with refuses(StandingCameraError):
            self.print_map(images)

    def test_an_unusable_one_stops_before_the_training(
        self, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verdict = MapVerdictRecord(grade="unusable")
        found = SimpleNamespace(folder=images.with_suffix(".map"), is_usable=False, verdict=verdict)
        monkeypatch.setattr("stadia.training.adapt.find_map", lambda video: found)
        config = configure_adaptation(NETWORK, images, "decoder", size=(32, 96))
        with refuses(DataError, where="images.map", fix="motion=network"):
            use_map(config, images, [])

    @pytest.mark.slow
    @pytest.mark.parametrize("share", [0.3, 0.5])
    def test_masks_of_most_of_the_image_stop_it(
        self, share: float, images: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = SimpleNamespace(folder=images.with_suffix(".map"), is_usable=True, measure_movable=lambda: share)
        monkeypatch.setattr("stadia.training.adapt.find_map", lambda video: found)
        config = configure_adaptation(NETWORK, images, "decoder", size=(32, 96))
        with refuses(DataError, where="images.map", found="50%") if share > MAX_MOVABLE else nullcontext():
            use_map(config, images, [])

    def test_a_data_set_gets_none(self, worlds: Path, own_module: None) -> None:
        assert not takes_map(worlds, configure_adaptation(NETWORK, worlds, "decoder", size=(32, 96)))


@pytest.mark.slow
def test_too_few_minutes_are_refused_before_the_video_is_mapped_or_read(
    tmp_path: Path, own_module: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_image(tmp_path / "images" / f"{number}.png", np.full((40, 60, 3), 60 * number, np.uint8))
    for step in ("make_map", "open_checked_data"):
        monkeypatch.setattr(f"stadia.training.adapt.{step}", lambda *_: pytest.fail("work began"))
    settings = ["data.camera.horizontal_fov_deg=60"]
    photo = tmp_path / "images" / "0.png"
    with refuses(DataError, where=photo, found="one image", fix=f"stadia predict {photo}"):
        adapt_network(NETWORK, photo, out=tmp_path, settings=settings)
    with pytest.raises(ConfigError) as refused:
        adapt_network(NETWORK, tmp_path / "images", minutes=0.01, out=tmp_path, settings=settings)
    assert refused.value.where == "--minutes"
    least = int(str(refused.value.fix).removeprefix("--minutes "))
    check_minutes(least, least)
    assert least >= 1


def test_a_map_that_took_the_minutes_leaves_the_time_of_the_adaptation() -> None:
    out, now_s = io.StringIO(), time.perf_counter()
    console = Console(file=out, width=300)
    late = plan_end(2, 2, now_s - 130, 20.0, console)
    assert late.at_s - late.after_s - time.perf_counter() == pytest.approx(60, abs=5), "half of the minutes are steps"
    assert "about 4 minutes" in out.getvalue()
    assert plan_end(5, 2, now_s, 20.0, console).at_s == now_s + 300


def test_the_least_minutes_hold_ten_steps() -> None:
    for prediction_s, loaded_s in itertools.product((0.01, 0.1, 1.0, 5.0), (2.0, 10.0, 60.0)):
        least_s = 60 * estimate_least_minutes(prediction_s, loaded_s=loaded_s)
        frames = choose_measured_frames(prediction_s, least_s / 60, 100)
        assert 20 <= frames <= 100
        assert 2 * frames * prediction_s <= max(0.1 * least_s, 40 * prediction_s) + 1e-6
        setup_s = 2 * loaded_s + 60 * prediction_s  # 20 predictions give the unit of the map
        assert least_s - setup_s >= 10 * estimate_step_s(prediction_s)


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
