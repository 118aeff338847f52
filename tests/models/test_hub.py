"""Files from the hub's cache; their path, and so `load_report.source`, contains the revision."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from stadia.models import pretrained_weights
from stadia.models.pretrained_weights import download_first_file, offline_if_unreachable

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one repository, as the hub's client lays it out, and no way to the hub."""
    repository = tmp_path / "models--someone--weights"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    (repository / "snapshots" / REVISION).mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained_weights, "is_reachable", lambda: False)
    return repository


def test_the_path_names_the_revision(cache: Path) -> None:
    (cache / "snapshots" / REVISION / "pytorch_model.bin").write_bytes(b"weights")
    with offline_if_unreachable():
        found = download_first_file("someone/weights", ("model.safetensors", "pytorch_model.bin"))
    assert found.parts[-3:] == ("snapshots", REVISION, "pytorch_model.bin")
    assert found.read_bytes() == b"weights"


def test_a_file_missing_in_the_cache_raises(cache: Path) -> None:
    with offline_if_unreachable(), pytest.raises(OSError, match=r"model\.safetensors|someone/weights"):
        download_first_file("someone/weights", ("model.safetensors",))
