"""`selfsup` trains on the motion of a map where one lies beside the video, and learns the motion otherwise."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.data.mapped_images import FOCAL, write_images, write_map
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.losses.loss_report import LossReport
from stadia.networks.config import BaseConfig
from stadia.networks.depth import depth_network
from stadia.networks.depth.depth_network import DepthMaps, DepthNetwork
from stadia.training.recipes import configure
from stadia.training.recipes.base.self_supervised import add_motion_term
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe, measure_map_unit, resolve_motion

SETTINGS = f"""
    data.height=32 data.width=64 data.stride=1 data.camera.focal_px={FOCAL} data.split_by.val_share=0
    model.network.encoder=test_efficientnet model.pose_net=resnet model.pose_encoder=test_efficientnet
    model.pretrained=false model.network.decoder_channels=[4,4,8,8,8] training.batch_size=2 training.workers=0
    loss.auto_mask_from_step=100
"""
SMALL = tuple(SETTINGS.split())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "room")


def make_config(images: Path, *settings: str) -> SelfsupConfig:
    data = {"path": str(images), "cache": {"folder": str(images.parent / "cache")}}
    config = configure("selfsup", [*SMALL, *settings], data=data)
    assert isinstance(config, SelfsupConfig)
    return config


def resolve(config: SelfsupConfig) -> tuple[SelfsupConfig, str]:
    out = StringIO()
    return resolve_motion(config, Console(file=out, width=200)), out.getvalue()


@pytest.mark.slow
def test_a_map_beside_the_video_gives_the_motion_and_its_points(images):
    write_map(images.with_name("room.map"))
    torch.manual_seed(0)
    config, data = SelfsupRecipe.prepare(make_config(images), Console(file=StringIO()))
    assert (config.motion, config.data.poses, config.loss.auto_mask_from_step) == ("map", "map", 100)
    recipe = SelfsupRecipe(config)
    batch = next(iter(data.train))
    assert batch.targets.T_source_target_true.isfinite().all()
    assert (batch.targets.point_depth > 0).sum() > 50
    assert batch.targets.static.float().mean() > 0.9
    report = recipe.training_step(batch)
    assert {"photometric", "smoothness", "points", "motion_of_map"} <= report.terms.keys()
    torch.testing.assert_close(sum(report.terms.values()), report.total.detach())
    report.total.backward()
    slopes = [p.grad.norm() for p in recipe.model.pose.parameters() if p.grad is not None]
    assert torch.stack(slopes).max() > 0, "the map teaches the pose network"
    predicted = recipe.model(batch)
    taken = recipe.view_synthesis.take_motion(batch, predicted).T_source_target
    torch.testing.assert_close(taken, batch.targets.T_source_target_true)
    ignored = torch.zeros_like(batch.targets.image[:, :1], dtype=torch.bool)
    ignored[..., -8:, :] = True  # the residual of a teacher is found as that of the student
    batch = replace(batch, targets=replace(batch.targets, ignored=ignored))
    own = recipe.view_synthesis(batch, predicted, 200).maps["residual"]
    found = recipe.view_synthesis.residual_finder(batch, predicted, 200)(predicted.inverse_depth[0])
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize("settings", [(), ("motion=network",)])
def test_without_a_map_or_with_motion_network_the_motion_is_learned(images, settings):
    if settings:
        write_map(images.with_name("room.map"))
    config, said = resolve(make_config(images, *settings))
    assert (config.motion, config.data.poses, said) == ("network", None, "")


class FourMetres(DepthNetwork):
    output = DepthScale.METRES

    def __init__(self, config: BaseConfig) -> None:
        super().__init__(config)
        self.inverse_depth = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, image: torch.Tensor, camera: object = None) -> DepthMaps:
        return DepthMaps((self.inverse_depth.expand_as(image[:, :1]),))


def test_a_map_takes_the_unit_of_a_network_in_metres(images, monkeypatch):
    write_map(images.with_name("room.map"))
    monkeypatch.setattr(depth_network, "build_depth_network", lambda model: FourMetres(model.network))
    data = {"path": str(images), "cache": {"folder": str(images.parent / "cache")}}
    config = configure("selfsup", SMALL[:5], data=data)
    settled, _ = resolve(config)
    measured = measure_map_unit(config.model, config.data, Console(quiet=True))
    assert measured is not None
    assert measured.size == pytest.approx(1, rel=0.01), "the wall is 4 units away, and the network predicts 4 m"
    (recording,) = open_recordings(images, poses="map", camera=config.data.camera, stride=1)
    (scaled,) = open_recordings(
        images, poses="map", camera=config.data.camera, stride=1, map_unit_m=settled.data.map_unit_m
    )
    z = np.concatenate([scaled.map_points(index)[:, 2] for index in range(len(scaled))])
    assert np.median(z) == pytest.approx(4, rel=0.15)
    before, after = (np.stack([r.T_world_camera(i)[:3, 3] for i in range(len(r))]) for r in (recording, scaled))
    assert after == pytest.approx(settled.data.map_unit_m * before)
    given, _ = resolve(configure("selfsup", [*SMALL[:5], "data.map_unit_m=2"], data=data))
    assert given.data.map_unit_m == 2
    plain, _ = resolve(make_config(images))
    assert plain.data.map_unit_m is None, "a network that predicts no metres starts in the unit of the map"


@pytest.mark.parametrize("name", ["speed", "sparse_depth"])
def test_a_loss_in_metres_takes_no_map(images, name):
    write_map(images.with_name("room.map"))
    settings = [f"loss.{name}=0.1", *["data.ground_truth_depth=true"] * (name == "sparse_depth")]
    config, printed = resolve(make_config(images, *settings))
    assert (config.motion, config.data.poses) == ("network", None)
    assert f"loss.{name}" in printed
    with refuses(ConfigError, where="motion=map", found=f"loss.{name}"):
        resolve(make_config(images, *settings, "motion=map"))


def test_the_motion_term_is_least_at_the_known_motion_and_ignores_unknown_ones():
    known = torch.eye(4).repeat(1, 2, 1, 1)
    known[..., 2, 3] = 0.5
    report = LossReport.from_terms({"photometric": torch.tensor(1.0)}, {})
    right = add_motion_term(report, known.clone(), known)
    wrong = known.clone()
    wrong[..., 2, 3] = 0.6
    assert right.terms["motion_of_map"] < 1e-4 < add_motion_term(report, wrong, known).terms["motion_of_map"]
    unknown = torch.full_like(known, torch.nan)
    assert add_motion_term(report, wrong, unknown).total == report.total
