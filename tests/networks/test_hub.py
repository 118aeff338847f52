"""Files from the hub's cache: the revision that was given is taken, and the one that was taken is recorded."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.networks.config import DptConfig
from stadia.networks.encoders import Encoder, timm
from stadia.networks.hub import download_first_file, offline_if_unreachable, warn_missing_weights, warn_newest_revision

REVISION = "0123456789abcdef0123456789abcdef01234567"
NEWEST = "f" * 40
ENCODER = "mobilenetv3_small_050"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one repository, as the hub's client lays it out, and no way to the hub."""
    repository = tmp_path / "models--someone--weights"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    (repository / "snapshots" / REVISION).mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("stadia.networks.hub.is_reachable", lambda: False)
    warn_newest_revision.cache_clear()
    warn_missing_weights.cache_clear()
    return repository


@pytest.fixture
def encoders(cache: Path) -> str:
    """Two revisions of an encoder's weights, all 1 and all 2; the repository's name."""
    name = timm.get_pretrained_cfg(ENCODER).hf_hub_id
    repository = cache.parent / f"models--{name.replace('/', '--')}"
    for revision, value in ((REVISION, 1.0), (NEWEST, 2.0)):
        weights = timm.create_model(ENCODER).state_dict()
        (repository / "snapshots" / revision).mkdir(parents=True)
        filled = {key: torch.full_like(tensor, value) for key, tensor in weights.items()}
        save_file(filled, repository / "snapshots" / revision / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEWEST)
    return str(name)


def test_the_path_names_the_revision(cache: Path) -> None:
    (cache / "snapshots" / REVISION / "pytorch_model.bin").write_bytes(b"weights")
    with offline_if_unreachable():
        found = download_first_file("someone/weights", ("model.safetensors", "pytorch_model.bin"))
    assert found.parts[-3:] == ("snapshots", REVISION, "pytorch_model.bin")
    assert found.read_bytes() == b"weights"


@pytest.mark.slow
def test_no_pickle_of_the_hub_is_read(encoders: str, cache: Path) -> None:
    repository = cache.parent / f"models--{encoders.replace('/', '--')}"
    file = repository / "snapshots" / NEWEST / "model.safetensors"
    torch.save(timm.create_model(ENCODER).state_dict(), file.with_name("pytorch_model.bin"))
    file.unlink()
    assert Encoder(ENCODER).weights == "random"


@pytest.mark.parametrize("name", [f"{ENCODER}@main", f"{ENCODER}@../{REVISION}", f"{ENCODER}@{REVISION[:7]}"])
def test_only_a_commit_is_a_revision(name: str) -> None:
    with refuses(ConfigError, where="encoder", expected="40"):
        Encoder(name, pretrained=False)
    with pytest.raises(ValidationError, match="revision"):
        DptConfig(revision=name.partition("@")[2])


@pytest.mark.parametrize("name", ["hf-hub:someone/weights", "hf_hub:someone/weights", "local-dir:/tmp"])
def test_no_architecture_is_read_from_the_hub_or_a_folder(name: str) -> None:
    with refuses(ConfigError, where="encoder"):
        Encoder(name, pretrained=False)
