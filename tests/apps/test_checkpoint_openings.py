"""A command opens its checkpoint once: what is read from it is passed on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.evaluation.conftest import drive_folder as drive_folder

from stadia.predict import export
from stadia.training.checkpoint import Checkpoint

OPTIONS = {
    "predict": ("--out", "out", "data.split=test", "--no-video"),
    "evaluate": ("data.split=test",),
    "odometry": ("--method", "network", "data.split=test"),
    "export": ("--out", "model.onnx"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", OPTIONS)
def test_a_command_opens_its_checkpoint_once(
    command: str,
    write_run: Callable[..., Path],
    drive_folder: Path,
    stadia: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = write_run(tmp_path / "run", focal=60 / 90)  # of the drive
    for suffix in (".safetensors", ".json"):
        shutil.copy(run / "checkpoints" / f"best{suffix}", run / "checkpoints" / f"last{suffix}")
    opened: list[Path] = []
    open_checkpoint = Checkpoint.open.__func__  # type: ignore[attr-defined]

    def count(cls: type[Checkpoint], path: Path) -> Checkpoint:
        opened.append(path)
        found: Checkpoint = open_checkpoint(cls, path)
        return found

    monkeypatch.setattr(Checkpoint, "open", classmethod(count))
    monkeypatch.setattr(export, "export_onnx", lambda network, path, *_, **__: [path.touch()][:0])  # it takes seconds
    monkeypatch.chdir(tmp_path)
    inputs = () if command == "export" else (drive_folder,)
    code, _, err = stadia(command, run, *inputs, *OPTIONS[command])
    assert code == 0, err
    assert opened == [run]
