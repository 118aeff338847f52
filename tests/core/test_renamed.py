"""Old configuration keys and options are refused in one line that gives the new name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stadia.apps.camera_height.config import CameraHeightConfig
from stadia.core import registry
from stadia.core.config import StrictModel, list_keys, list_renamed_keys, resolve_config
from stadia.core.errors import ConfigError
from stadia.recipes import CONFIGS


class RenamedOptimizer(StrictModel):
    lr: float = 1e-3
    name: str = "adamw"


class RenamedRun(StrictModel):
    optimizer: RenamedOptimizer = RenamedOptimizer()
    height: int = 96


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("optimiser", "optimizer"),
        ("optimiser.lr", "optimizer.lr"),
        ("training.pictures_every", "training.images_every"),
        ("data.colour", "data.color"),
        ("data.augmentation.colour.hue", "data.augmentation.color.hue"),
        ("data.others.euroc.path", "data.extra_datasets.euroc.path"),
        ("data.others.euroc.colour.hue", "data.extra_datasets.euroc.color.hue"),
        ("finding.fewest_px", "detection.min_px"),
        ("least_px", "min_px"),
        ("optimizer.lr", None),
        ("optimisers.lr", None),
        ("data.colours", None),
        ("", None),
    ],
)
def test_find_new_key(old, new):
    assert registry.find_new_key(old) == new


def test_chosen_names_groups_and_chains(monkeypatch):
    """The longest old name counts first, and renamed keys are renamed again."""
    table = {
        "data.others.*": "data.extra_datasets.*",
        "data.others.NAME.colour": "data.others.NAME.color",
        "data.extra_datasets.NAME.order.*": "data.extra_datasets.NAME.sampling.*",
        "data.others.NAME.pair.NAME": "data.others.NAME.NAME",
    }
    monkeypatch.setattr(registry, "RENAMED_KEYS", table)
    assert registry.find_new_key("data.others.euroc.path") == "data.extra_datasets.euroc.path"
    assert registry.find_new_key("data.others.euroc.colour") == "data.extra_datasets.euroc.color"
    assert registry.find_new_key("data.others.euroc.order.seed") == "data.extra_datasets.euroc.sampling.seed"
    assert registry.find_new_key("data.others.euroc.pair.left") == "data.extra_datasets.euroc.left"


@pytest.mark.parametrize("old", registry.RENAMED_KEYS)
def test_no_new_key_leads_back_to_an_old_one(old):
    new = registry.find_new_key(old.removesuffix(".*"))
    assert new is not None
    assert new != old.removesuffix(".*")
    assert registry.find_new_key(new) is None
    assert old.count("NAME") == registry.RENAMED_KEYS[old].count("NAME")


@pytest.mark.parametrize("old", registry.RENAMED_KEYS)
def test_every_new_key_exists(old):
    configs = [*map(CONFIGS.load, CONFIGS), CameraHeightConfig]
    keys = {key for config in configs for key in list_keys(config)}
    new = registry.RENAMED_KEYS[old].removesuffix(".*")
    assert new in keys
    assert old.removesuffix(".*") not in keys


def test_an_old_override_is_refused_in_one_line():
    with pytest.raises(ConfigError) as caught:
        resolve_config(RenamedRun, overrides=["optimiser.lr=2e-4"])
    assert str(caught.value) == (
        "optimiser.lr: found another spelling; expected 'optimizer.lr'. Fix: rename it to 'optimizer.lr'."
    )


def test_an_old_group_of_a_stored_configuration_is_refused_key_by_key():
    with pytest.raises(ConfigError) as caught:
        resolve_config(RenamedRun, {"optimiser": {"lr": 2e-4, "name": "sgd"}, "height": 64})
    message = str(caught.value)
    assert "\n" not in message
    assert "2 mistakes" in message
    assert "optimiser.lr: found another spelling; expected 'optimizer.lr'" in message
    assert "optimiser.name: found another spelling; expected 'optimizer.name'" in message


def test_an_empty_old_group_is_refused_by_its_own_name():
    with pytest.raises(ConfigError, match="optimiser: found another spelling; expected 'optimizer'"):
        resolve_config(RenamedRun, {"optimiser": {}})


def test_a_name_of_other_programs_has_the_key_as_its_fix():
    with pytest.raises(ConfigError, match=r"did you mean 'optimizer\.lr'"):
        resolve_config(RenamedRun, overrides=["optimizer.learning_rate=2e-4"])


def test_old_keys_of_a_checkpoint_are_listed():
    stored = {"optimiser": {"lr": 1}, "training": {"pictures_every": 5, "workers": 2}, "height": 96}
    assert list_renamed_keys(stored) == [
        "key 'optimiser.lr' was renamed to 'optimizer.lr'",
        "key 'training.pictures_every' was renamed to 'training.images_every'",
    ]
    assert list_renamed_keys({"optimizer": {"lr": 1}}) == []


def test_it_needs_no_torch():
    program = "import sys; sys.modules['torch'] = None; import stadia.core.registry"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
