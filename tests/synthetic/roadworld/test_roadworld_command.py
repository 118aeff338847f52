"""`stadia data roadworld` as it is typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stadia.cli.main import app

ONE = ["data", "roadworld", "--preset", "tiny", "--worlds", "0,1,0"]
ONE += ["frames=1", "height=32", "width=96", "stereo=false"]


@pytest.mark.slow
def test_renders_a_preset_with_changes(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, [*ONE, "--out", str(tmp_path / "data"), "--seed", "7", "noise=true", "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "data" / "dataset.json") in result.output.replace("\n", "")
    description = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert description["splits"] == {"train": [], "val": ["val-000"], "test": []}
    assert description["roadworld"]["seed"] == 7
    assert description["roadworld"]["config"]["noise"] is True
    assert description["roadworld"]["config"]["exposure"] is False
