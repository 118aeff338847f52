"""An option that has no effect on an input is refused, with the input and what to do: every option of every command."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer

from stadia.cli.main import app

ALWAYS = {
    "audit": "--camera --certainty --compare --engine --for --images --json --max-bad --max-images --out --watch "
    "--workers",
    "predict": "--out --network --every --size --flip --smooth --scale-from --max-depth --motion --backend --precision "
    "--refine --strict",
    "live": "--network --size --backend --precision --path --record --page --seconds",
    "adapt": "--steps --scope --out",
    "odometry": "--out --method --size --flip --scale-from --backend --precision --strict --verbose",
    "scale": "--scale-from --images --out --strict",
    "export": "--out --camera --force",
    "import": "--as --out",
    "activations": "--out --over-steps --force",
    "camera": "--fov --focal-px --focal-mm --calibration --force",
    "calibrate": "--from --network",
    "map": "--out --views --depth",
    "masks": "--by --road-by --out --heights --every",
    "camera-height": "--out --every --checkpoint --depth",
    "stereo": "--out --cameras --baseline --every --fps --poses --sync",
    "train": "--data --config --resume --on-stop --dry-run",
    "demo": "--out --recipe",
    "list": "--filter",
    "check": "--json",
    "refine": "--images --out --camera --json",
    "evaluate": "--json",
    "report": "--out --private --force",
    "diagnose": "--json",
    "explain": "",
    "doctor": "--online --private --json",
    "ablate": "--change --recipe --data --preset --seeds --metric --better --margin --until --name --out --scores "
    "--dry-run",
    "sweep": "--space --data --preset --metric --better --trials --seed --out",
    "app": "--host --port --public --open",
    "view": "--out",
    "data roadworld": "--out --preset --seed --worlds --workers",
    "data tableworld": "--out --preset --seed --tables --workers",
    "data foregrounds": "--out --seed --workers",
    "data overlay": "--out --sheet --count --val --seed",
    "data show": "--out --images --format",
    "data survey": "--out --workers",
    "data shard": "--format --size",
    "prior train": "--out --steps --encoder --every --seed --force",
    "prior evaluate": "--every",
    "rig hand-eye": "--camera-on --calibration --for --fix --out --json",
    "rig pin": "--out --camera --force",
    "rig check": "--for --report --json",
    "rig cameras": "--calibration --for --json",
    "rig imu": "--calibration --for --json",
    "rig lidar": "--for --json",
    "prior measure": "--masks --every",
}
"""Options that have an effect on every input of their command."""

DEPTH, TRAJECTORY = "--depth d --reference r", "--trajectory t --reference r"
OBJECTS, NETWORK = "--objects o --reference r", "base d"
WITHOUT_EFFECT = {
    "audit": {"--webhook": "d --out o --webhook http://127.0.0.1:1"},
    "rig hand-eye": {"--force": "p r --force"},
    "rig check": {"--force": "rig r --force"},
    "predict": {
        "--video": "base photo.png --out d.mcap --no-video",
        "--color": "base photo.png --out d.mcap --no-color",
        "--cloud": "base photo.png --out d.mcap --no-cloud",
        "--glb": "base photo.png --out d.mcap --glb x.glb",
        "--rerun": "base photo.png --out d.mcap --rerun x.rrd",
        "--verbose": "base photo.png --out d.mcap --verbose",
        "--background": "base photo.png --out d --background x.png",
        "--workers": "base photo.png --out d --workers 2",
        "--engine": "base photo.png --out d --engine dask",
    },
    "map": {
        "--each": "photo.png --each",
        "--masks": "*.png --each --masks x",
        "--workers": "photo.png --workers 1",
        "--engine": "photo.png --engine dask",
    },
    "masks": {"--workers": "photo.png --workers 2", "--engine": "photo.png --engine dask"},
    "adapt": {"--minutes": "base photo.png --steps 1 --minutes 5"},
    "activations": {"--every": "run photo.png --out x.mp4 --over-steps --every 2"},
    "camera": {"--camera": "photo.png --fov 60 --camera cam0", "--fit": "photo.png --fov 60 --fit cropped"},
    "camera-height": {
        "--depth-factor": "photo.png --depth-factor 256",
        "--labels": "photo.png --labels x",
        "--force": "photo.png --force",
    },
    "train": {
        "--out": "--resume run --out runs",
        "--preset": "--resume run --preset tiny-laptop",
        "--minutes": "selfsup --dry-run --minutes 5",
        "--no-scores": "selfsup --dry-run --no-scores",
    },
    "check": {
        "--only": "r --images i --only poses",
        "--seconds": "r --images i --seconds 20",
        "--network": "d --recipe overlay --network base",
        "--recipe": "r --images i --recipe overlay",
        "--images": "",  # it makes DATA a result
        "--camera": "d --camera x",
        "--fix": "d --fix x",
        "--report": "d --recipe overlay --report x",
        "--for": "d --for splats",
        "--junit": "d --junit x",
        "--github": "d --github",
        "--format": "r --images i --format video",
        "--out": "r --images i --out x",
        "--strict": "r --images i --strict",
        "--force": "r --images i --force",
        "--verbose": "d --json --verbose",
    },
    "evaluate": {
        **{f"--{name}": f"{DEPTH} --{name} x" for name in ("size", "scale-from", "frames", "motion", "out", "format")},
        **{f"--{name}": f"{TRAJECTORY} --{name}" for name in ("flip", "smooth", "held-out")},
        "--every": f"{OBJECTS} --every 1",
        "--depth": "",  # each of them makes a form of the call
        "--trajectory": "",
        "--objects": "",
        **{f"--{name}": f"{NETWORK} --{name} x" for name in ("depth-scale", "classes", "reference")},
        "--error-maps": f"{TRAJECTORY} --error-maps x",
        "--depth-factor": f"{NETWORK} --depth-factor 256",
        "--reference-factor": f"{TRAJECTORY} --reference-factor 256",
        **{f"--{name}": f"{TRAJECTORY} --{name} x" for name in ("crop", "protocol", "by", "find-protocol")},
        **{f"--{name}": f"{OBJECTS} --{name} x" for name in ("reference-format", "align", "plot")},
        "--max-difference": f"{DEPTH} --max-difference 0.01",
        "--rpe-seconds": f"{DEPTH} --rpe-seconds 1",
        "--split": f"{DEPTH} --split test",
        "--held-out-of": f"{TRAJECTORY} --held-out-of run",
        "--scores": f"{NETWORK} --scores x.json",
        "--force": f"{DEPTH} --force",
        "--verbose": f"{DEPTH} --json --verbose",
    },
    "diagnose": {"--verbose": "run --json --verbose"},
    "compare": {
        "--plot": "base other photo.png --plot x.png",
        "--out": "run run --out x.html",
        "--mount": "",  # it chooses what is compared
        "--json": "run run --json",
        "--force": "run run --force",
    },
    "ablate": {
        **{f"--{name}": f"--dry-run --{name}" for name in ("retry-failed", "verbose")},
        "--jobs": "--dry-run --jobs 2",
        "--reuse": "--dry-run --reuse x",
        "--max-seeds": "--recipe selfsup --seeds 0,1,2 --change lr:optimizer.lr=1e-3 --max-seeds 6",
    },
    "app": {
        **{f"--{name}": f"--public host --{name} x" for name in ("runs", "data", "results", "token")},
        "--no-token": "--public host --no-token",
    },
    "view": {
        "--predictions": "run --predictions x",
        "--images": "map --images x",
        "--frames": "map --frames 3",
        "--host": "photo.png --out x.html --host 0.0.0.0",
        "--port": "photo.png --out x.html --port 80",
        "--force": "photo.png --force",
    },
    "data overlay": {"--workers": "--sheet x.png --workers 2", "--force": "--out x --force"},
}
"""Option -> a command line in which it has no effect; empty if the option itself chooses the kind of input."""

SETTINGS = {
    "check r --images i data.stride=2": "KEY=VALUE",
    "check d network.weights=x": "network.weights=x",
    "compare run run data.stride=2": "data.stride=2",
    "scale r --scale-from height=1 data.stride=2": "KEY=VALUE",
    "view map data.stride=2": "KEY=VALUE",
}
"""Command line with a setting that has no effect -> the setting in the error."""

LINES = [
    *((f"{command} {line}", option) for command, lines in WITHOUT_EFFECT.items() for option, line in lines.items()),
    *SETTINGS.items(),
]


def list_commands(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command with the first name of each of its options."""
    for word, inner in getattr(command, "commands", {}).items():
        yield from list_commands(inner, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, {one.opts[0] for one in command.params if one.param_type_name == "option"} - {"--help"}


@pytest.mark.parametrize(("command", "options"), [*list_commands(typer.main.get_command(app))])
def test_every_option_has_an_input_without_effect_or_always_an_effect(command: str, options: set[str]) -> None:
    """A new option needs a line in one of the tables."""
    always, idle = set(ALWAYS.get(command, "").split()), set(WITHOUT_EFFECT.get(command, {}))
    assert always & idle == set()
    assert always | idle == options


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, and what a run and a map are recognized by."""
    root = tmp_path_factory.mktemp("inputs")
    cv2.imwrite(str(root / "photo.png"), np.full((48, 64, 3), 99, np.uint8))
    for name in ("run/run.json", "map/map.json"):
        (root / name).parent.mkdir()
        (root / name).write_text("{}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("line", "option"), [one for one in LINES if one[0].split(" ")[-1]])
def test_an_option_without_effect_is_refused(
    line: str, option: str, stadia: Callable[..., tuple[int, str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code, out, err = stadia(*line.split())
    assert (code, out) == (2, ""), err
    assert re.fullmatch(rf"stadia: {option}[^:]*: found .*; expected .*\. Fix: .*\.", err.splitlines()[-1]), err
    assert sorted(folder.rglob("*")) == before
