"""Size prior: initial value, training, saving; its crops keep the aspect ratio and hide the distance."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.refusals import refuses

from stadia.core.errors import CheckpointError, DataError
from stadia.data.formats.stadia_folder import StadiaFolder
from stadia.data.mask_objects import GRAY, crop_object
from stadia.networks.size_prior import SizePrior, load_size_prior, log_height_loss, save_size_prior
from stadia.training.size_prior_crops import crop_recording_cars, read_dvm_car_crops


@pytest.mark.slow
def test_size_prior_starts_at_the_mean_and_learns_visible_heights():
    torch.manual_seed(0)
    prior = SizePrior(1.5, side=32)
    tall = torch.arange(8) % 2 == 0
    crops = torch.where(tall.view(-1, 1, 1, 1), 0.8, 0.2).expand(-1, 3, 32, 32).contiguous()
    height_m = torch.where(tall, 2.0, 1.4)
    log_m, _ = prior(crops)
    torch.testing.assert_close(log_m.exp(), torch.full((8,), 1.5))
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-3)
    for _ in range(12):
        optimizer.zero_grad()
        log_height_loss(*prior(crops), height_m).backward()
        optimizer.step()
    output, spread = prior.predict_heights(list((crops.movedim(1, -1).numpy() * 255).astype(np.uint8)))
    assert np.abs(output - height_m.numpy()).mean() < 0.15  # the mean's is 0.3
    assert (spread > 0).all()
    assert prior.predict_heights([])[0].shape == (0,)


def test_saving_is_atomic_and_a_damaged_file_is_reported(tmp_path):
    prior, path = SizePrior(1.6, side=32), tmp_path / "prior.safetensors"
    save_size_prior(prior, path)
    crop = [np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)]
    assert load_size_prior(path).predict_heights(crop)[0] == pytest.approx(prior.predict_heights(crop)[0])
    path.write_bytes(path.read_bytes()[:1000])
    with refuses(CheckpointError, where="prior.safetensors"):
        load_size_prior(path)


@pytest.mark.parametrize("encoder", ["hf-hub:someone/model", "local-dir:somewhere"])
def test_a_file_takes_no_architecture_from_elsewhere(encoder, tmp_path, monkeypatch):
    prior, path = SizePrior(1.6, side=32), tmp_path / "prior.safetensors"
    prior.about["encoder"] = encoder
    save_size_prior(prior, path)
    monkeypatch.setattr("stadia.networks.size_prior.SizePrior", None)
    with refuses(CheckpointError, where="prior.safetensors"):
        load_size_prior(path)


def test_the_loss_has_no_gain_from_being_sure_and_wrong():
    output = torch.tensor([0.1], requires_grad=True)
    gradients = []
    for deviation in (0.02, 0.5):
        (gradient,) = torch.autograd.grad(log_height_loss(output, torch.tensor([deviation]), torch.ones(1)), output)
        gradients.append(float(gradient))
    assert gradients == [1.0, 1.0]


@pytest.mark.parametrize("size", [(10, 20), (40, 80)])
def test_a_crop_keeps_the_shape_and_not_the_distance(size):
    mask = np.zeros((120, 160), bool)
    mask[20 : 20 + size[0], 30 : 30 + size[1]] = True
    crop = crop_object(np.full((120, 160, 3), 200, np.uint8), mask, 64)
    rows, columns = (crop != GRAY).any(-1).nonzero()
    assert np.ptp(columns) + 1 == pytest.approx(56, abs=1)
    assert np.ptp(rows) + 1 == pytest.approx(28, abs=1)
    with refuses(DataError, where="a crop of an object"):
        crop_object(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), 64)


def test_roads_give_crops_of_whole_cars_with_their_heights(tmp_path):
    folder = tmp_path / "drive"
    for kind in ("left", "semantic/left", "instance/left"):
        (folder / kind).mkdir(parents=True)
    K = [[50.0, 0, 60], [0, 50, 40], [0, 0, 1]]
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": {"K": K, "height": 80, "width": 120}}}))
    (folder / "classes.json").write_text('{"9": "car", "8": "person"}')
    sizes = [{"id": n, "class": "car", "size_hwl_m": [1.4 + n / 10, 1.8, 4]} for n in (1, 2, 3)]
    (folder / "instances.json").write_text(json.dumps({"instances": sizes}))
    semantic, instance = np.zeros((80, 120), np.uint8), np.zeros((80, 120), np.uint16)
    for number, kind, left in ((1, 9, 20), (2, 8, 60), (3, 9, 100)):
        semantic[30:50, left : left + 20], instance[30:50, left : left + 20] = kind, number
    for kind, image in (
        ("left", np.full((80, 120, 3), 90, np.uint8)),
        ("semantic/left", semantic),
        ("instance/left", instance),
    ):
        cv2.imwrite(str(folder / kind / "000000.png"), image)
    from stadia.data.config import SourceOptions

    (recording,) = StadiaFolder().open(folder, SourceOptions())
    (crop,) = crop_recording_cars(recording, 32)  # the second is a person, the third is cut
    assert (crop.height_m, crop.instance) == (1.5, "drive/1")


def test_dvm_cars_are_read_with_their_models_heights(tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    table = tables / "Ad_table (extra).csv"
    table.write_text(
        "Maker, Genmodel_ID, Height\nAudi,2_1,1480\nAudi,2_1,1480\nAudi,2_1,14\nAudi,2_1,\nAudi,2_2,9000\n"
    )
    image = np.full((60, 90, 3), 255, np.uint8)
    image[20:45, 10:80] = 60
    folder: Path = tmp_path / "Audi"
    folder.mkdir()
    for name, picture in (
        ("a$$b$$2010$$red$$2_1$$0", image),
        ("a$$b$$2010$$red$$2_2$$1", image),
        ("a$$b$$2010$$red$$2_1$$2", image // 3),
    ):
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    (crop,) = read_dvm_car_crops(tmp_path, 32)  # one is 9 m high, one has no white ground
    assert (crop.height_m, crop.instance) == (1.48, "2_1")
    table.write_text("model\n")
    with refuses(DataError, found="Genmodel_ID"):
        list(read_dvm_car_crops(tmp_path, 32))
    table.unlink()
    with refuses(DataError, found="Ad_table"):
        list(read_dvm_car_crops(tmp_path, 32))
