"""`stadia data roadworld` as it is typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stadia.cli.main import app
from stadia.core.errors import ConfigError

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tinny"], "did you mean 'tiny'"),
        (["--worlds", "3"], "three numbers"),
        (["--worlds", "0,0,0"], "at least one world"),
        (["widht=640"], "did you mean 'width'"),
        (["supersampling=2"], "odd"),
        (["height=10"], "height: found 10"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["data", "roadworld", "--out", str(tmp_path / "data"), *arguments])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "data").exists()
