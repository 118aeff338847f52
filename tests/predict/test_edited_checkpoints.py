"""A checkpoint whose configuration was edited and signed again is refused in one line, whatever the edit."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.combinations import mark_others

from stadia.core.registry import ALLOWED_CODE
from stadia.training.loop.checkpoint import Checkpoint, write_checkpoint

EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "data is a number": lambda config: config.update(data=3),
    "data is a list": lambda config: config.update(data=[]),
    "data is empty": lambda config: config.update(data={}),
    "data is nothing": lambda config: config.update(data=None),
    "no data": lambda config: config.pop("data"),
    "height is large": lambda config: config["data"].update(height=8192),
    "width is large": lambda config: config["data"].update(width=8192),
    "both are large": lambda config: config["data"].update(height=8192, width=8192),
    "height is a word": lambda config: config["data"].update(height="high"),
    "model is a number": lambda config: config.update(model=3),
    "training is a number": lambda config: config.update(training=3),
}
COMMANDS = {
    "predict": ("predict", "RUN", "images", "--out", "maps", "data.camera.focal_px=140"),
    "odometry": ("odometry", "RUN", "images", "--out", "path", "data.camera.focal_px=140"),
    "evaluate": ("evaluate", "RUN", "images", "--out", "scored"),
    "export": ("export", "RUN", "--out", "model.onnx"),
    "activations": ("activations", "RUN/checkpoints/best.safetensors", "images", "--out", "a.mp4"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("edited")
    write_run(folder / "RUN")
    (folder / "images").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (130, 200, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), noise)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("edit", mark_others(list(EDITS), EDITS.keys() - {"height is large", "width is large"}))
def test_is_refused_in_one_line(
    edit: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    checkpoint = Checkpoint.open(whole / "RUN")
    config = copy.deepcopy(checkpoint.header.config)
    EDITS[edit](config)
    header = checkpoint.header.model_copy(update={"config": config})
    write_checkpoint(tmp_path / "RUN" / "checkpoints" / "best.safetensors", header, checkpoint.state())
    (tmp_path / "images").symlink_to(whole / "images")
    monkeypatch.chdir(tmp_path)
    for name, words in COMMANDS.items():
        code, _, err = stadia(*words)
        assert "internal error" not in err, f"{name}: {err}"
        assert code in (0, 1, 2), f"{name}: {err}"
        if "large" not in edit:
            assert code == 2, f"{name}: {err}"


@pytest.mark.slow
def test_code_that_a_checkpoint_names_is_imported_on_the_users_word(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv(ALLOWED_CODE, "")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "named_by_a_file.py").write_text("open('imported', 'w').close()\nNetwork = None\n")
    checkpoint = Checkpoint.open(whole / "RUN")
    config = {**checkpoint.header.config, "model": {"network": {"name": "named_by_a_file:Network"}}}
    header = checkpoint.header.model_copy(update={"config": config})
    write_checkpoint(tmp_path / "RUN" / "checkpoints" / "best.safetensors", header, checkpoint.state())
    (tmp_path / "images").symlink_to(whole / "images")
    monkeypatch.chdir(tmp_path)
    for name, words in COMMANDS.items():
        code, _, err = stadia(*words)
        assert (code, "--allow-code" in err) == (2, True), f"{name}: {err}"
    assert not (tmp_path / "imported").exists()
    assert stadia(*COMMANDS["export"], "--allow-code")[0] == 2  # no network
    assert (tmp_path / "imported").exists()
