"""ImageNet weights of a package are the encoder's, for one image and for two, and no other file is read."""

from pathlib import Path

import pytest
from tests.refusals import refuses

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

import cv2
import timm
import torch

from stadia.core.errors import CheckpointError
from stadia.io.image_files import read_rgb
from stadia.networks import packaged_weights
from stadia.networks.packaged_weights import find_packaged_file, load_packaged_weights

NAME = "tf_efficientnet_lite0"


@pytest.fixture
def file() -> Path:
    found = find_packaged_file(NAME)
    if found is None:
        pytest.skip("the extra `weights` is not installed")
    return found


DESK, COMPUTER = 526, 527
"""Classes of ImageNet."""


@pytest.mark.real
def test_the_network_recognizes_a_desk(file: Path, real_data: Path) -> None:
    model = timm.create_model(NAME).eval()
    model.load_state_dict(load_packaged_weights(NAME, file, model))
    image = read_rgb(real_data / "bop" / "lmo" / "test" / "000002" / "rgb" / "000061.png")
    height, width = image.shape[:2]
    image = image[:, (width - height) // 2 : (width + height) // 2]
    pixels = torch.from_numpy(cv2.resize(image, (224, 224))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        best = model((pixels - 0.5) / 0.5).topk(5).indices[0].tolist()
    assert {DESK, COMPUTER} <= set(best)


def test_another_file_is_refused_unread(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "weights.pth"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    changed.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("read"))
    with refuses(CheckpointError, where="weights.pth", found="SHA-256"):
        load_packaged_weights(NAME, changed, timm.create_model(NAME))


def test_without_the_package_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_packaged_file("resnet18") is None

    def missing(name: str) -> None:
        raise packaged_weights.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged_weights.importlib.metadata, "distribution", missing)
    assert find_packaged_file(NAME) is None
