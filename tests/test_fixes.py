"""Every fix that the program prints and that names a command, an option or a setting: its names exist, and it was run.

`list_runnable_fixes` reads the fixes from the code and the catalog. A new one needs a row in TRIED: a line that prints
it, and the line of the fix, which then succeeds; or one in CALLS, of functions of Python; or one in ELSEWHERE, with the
test that runs it. `untried_fixes.txt` lists those without a row, each with the reason; it only gets shorter.
"""

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av.filter
import pytest
import typer
from tests.fix_calls import CALLS
from tests.printed_fixes import list_fixes, list_runnable_fixes
from tests.sound import export_at_training_size, write_files
from tests.tried_fixes import TRIED

from stadia.cli.list_parts import PART_KINDS
from stadia.cli.main import app
from stadia.core.config import list_keys
from stadia.core.errors import StadiaError
from stadia.scale.camera_height.config import CameraHeightConfig
from stadia.scale.sources import SCALE_SOURCES
from stadia.training.recipes import CONFIGS
from stadia.training.step_measurement import DryRunResult

ROOT = Path(__file__).parents[1]
FIXES = list_runnable_fixes()
LEFT = (Path(__file__).with_name("untried_fixes.txt")).read_text(encoding="utf-8").splitlines()
UNTRIED = [line.partition("\t")[0] for line in LEFT]

COMMAND = re.compile(r"(?<![\w/.'])stadia ((?:list|data|prior) [a-z]+|[a-z]+(?:-[a-z]+)*)\b(?! (?:that|of|can))")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
SETTING = re.compile(r"(?<![\w.:/-])([a-z][a-z_]*(?:\.[a-z_]+)*)=(?![= ])")
OF_OTHERS = re.compile(
    r"(?:colmap|ffmpeg|pip install|srun|torchrun)[^;,`]*|(?:numpy|torch)\.\w+\(.*?\)|`training\.train\(.*?\)`"
)
"""What other programs or Python get."""

OTHER_SETTINGS = {
    *("fx", "fy", "cx", "cy"),  # --camera
    *("abs_rel", "rmse", "crop", "max"),  # published scores, and parts of a protocol
    *("data_range", "scale_from", "minutes", "allow_pickle", "on_stop"),  # Python
    *("network.encoder", "network.motion", "network.weights"),  # stadia import
}


INSTALL = re.compile(
    r"(?:[\w ]+: )?`?pip install (?:(?:-U|--force-reinstall) )?(?:'stadia\[([^]]+)\]'|(?P<package>[\w{}']+))"
)
"""A fix that installs packages, which no test does: their names exist."""

FILTER = re.compile(r"ffmpeg -i \S+ -vf ([\w=:.-]+) ")
"""A fix that is a filter of FFmpeg, which `test_filters_of_ffmpeg_run` runs."""

ELSEWHERE = {
    "restore it, or train a new run from its weights: start_from={}": (
        "tests/training/recipes/test_workflow.py::test_a_training_starts_from_the_weights_of_another"
    ),
    "{} loss.affine_invariant=1 loss.gradient_matching=0.5": (
        "tests/training/recipes/test_supervised.py::test_depth_is_in_metres_only_with_a_metric_loss"
    ),
    "add --backend {}": "tests/predict/test_backends.py::test_a_precision_differs_by_what_it_prints",
    "pass the run that it was exported from: --backend openvino and --backend onnxruntime run it as fast": (
        "tests/predict/test_backends.py::test_a_precision_differs_by_what_it_prints"
    ),
    "adapt it: stadia adapt NETWORK VIDEO --minutes 20": (
        "tests/training/test_adapt.py::test_it_adapts_and_keeps_the_better"
    ),
    "train with training.keep_every=STEPS": (
        "tests/training/loop/test_fit.py::test_the_weights_of_every_few_steps_are_kept"
    ),
    "stadia.training.choose_configuration(overrides, minutes=20), or stadia train selfsup --preset auto": (
        "tests/training/test_time_budget.py::test_auto_keeps_the_shape_of_the_data_and_what_the_user_set"
    ),
    "put the frames of each camera into a folder of their own, or read one camera with data.stride=2: its neighbors "
    "have {} matches ({} now)": "tests/judge/recordings/test_sequence_checks.py::test_two_cameras_in_turns_are_named",
    "look at which of them is inverse, and invert it: the camera in the {} is then at {} mm (camera file), and "
    "--calibration FILE tells them apart; or the camera is on the {}: pass --camera-on {}": (
        "tests/judge/rigs/test_hand_eye.py::test_either_file_may_be_the_inverse_one"
    ),
    "choose another --metric and another --out": (
        "tests/training/test_sweep.py::test_a_metric_without_a_value_stops_the_search_at_its_first_trial"
    ),
    "The same command resumes them; add --retry-failed for failed runs.": (
        "tests/training/test_studies.py::test_runs_of_a_failed_change_decide_nothing"
    ),
    "choose: --sync sound or --sync motion": (
        "tests/sfm/test_hand_held_pair.py::test_sound_and_motion_that_contradict_each_other_are_refused"
    ),
    "turn both cameras together a few times while they film, or pass the seconds: --sync 1.25": (
        "tests/sfm/test_hand_held_pair.py::test_sound_and_motion_that_contradict_each_other_are_refused"
    ),
    "start by `srun --nodes={} --ntasks-per-node={}`": "tests/training/loop/test_processes.py::test_layout_of_slurm",
    "start by `srun --ntasks-per-node=N`, for one process `unset": (
        "tests/training/loop/test_processes.py::test_layout_of_slurm"
    ),
    "add --allow-code if you trust the file and this module": (
        "tests/predict/test_edited_checkpoints.py::test_code_that_a_checkpoint_names_is_imported_on_the_users_word"
    ),
    "network.motion=false leaves the pose network out": (
        "tests/training/recipes/test_import_networks.py::test_with_half_a_pose_network"
    ),
    "run it: stadia predict {} INPUT --out DIR": (
        "tests/training/recipes/test_import_networks.py::test_an_imported_network_goes_through_the_commands"
    ),
    "--out {}": "tests/training/recipes/test_import_networks.py::test_an_imported_network_goes_through_the_commands",
    'use `predicted.inverse_depth`, or pass scale_from=["reference=DEPTHS"]': (
        "tests/predict/test_network.py::test_depth_without_the_unit_is_refused"
    ),
    'pass a known length, scale_from=["height=1.5"], or use `depth`': (
        "tests/predict/test_network.py::test_metres_are_not_claimed_for_a_picture_unlike_photos"
    ),
    "read `stadia explain {}`": "tests/cli/test_predict.py::test_unusable_predictions_fail_with_strict_alone",
    "for example --out model.onnx": "tests/predict/test_export.py::test_command_output",
    "run `stadia app` on your own machine": (
        "tests/web/test_guards.py::test_a_public_page_lets_strangers_predict_and_nothing_else"
    ),
    "set training.precision=auto": "tests/differentiable/test_number_rates.py::test_slow_bf16_has_one_note_and_its_fix",
}
"""Fix -> the test that runs it."""


def list_names(command: Any, prefix: str = "") -> Iterator[str]:
    """Yield the commands as users type them, and every option."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{prefix}{name}"
        yield from list_names(inner, f"{prefix}{name} ")


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The commands, options and settings that exist."""
    found = {*list_names(typer.main.get_command(app)), *OTHER_SETTINGS, *SCALE_SOURCES, *list_keys(CameraHeightConfig)}
    found |= {f"list {kind}" for kind in PART_KINDS}
    for recipe in CONFIGS:
        found |= {*list_keys(CONFIGS.load(recipe))}
    return found


def find_unknown_names(fix: str, names: set[str]) -> set[str]:
    """Return the commands, options and settings in a fix that do not exist."""
    own = OF_OTHERS.sub("", fix)
    return {*COMMAND.findall(own), *OPTION.findall(own), *SETTING.findall(own)} - names


@pytest.mark.parametrize("fix", FIXES)
def test_commands_options_and_settings_of_a_fix_exist(fix: str, names: set[str]) -> None:
    assert find_unknown_names(fix, names) == set()


def test_unknown_names_are_found(names: set[str]) -> None:
    fix = "pass --no-such-option, set undistort=false, or run stadia chek DATA, or colmap mapper --output_path OUT"
    assert find_unknown_names(fix, names) == {"--no-such-option", "undistort", "chek"}


def test_every_fix_is_tried_or_listed_as_untried() -> None:
    tried = {*TRIED, *ELSEWHERE, *CALLS, *filter(INSTALL.match, FIXES), *filter(FILTER.search, FIXES)}
    assert sorted({*FIXES} - tried - {*UNTRIED}) == [], "add a row to TRIED for a new fix"
    assert sorted({*UNTRIED} - {*FIXES} | ({*UNTRIED} & tried)) == [], "remove them from untried_fixes.txt"
    assert [line for line in LEFT if not line.partition("\t")[2]] == [], "add the reason behind a tab"
    assert sorted(tried - {*list_fixes()}) == [], "no code prints these fixes"


def test_extras_and_packages_that_a_fix_installs_exist() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *chain.from_iterable(extras.values())]
    packages = {match[0] for text in texts if (match := re.match(r"[\w-]+", text))}
    found = [match for fix in FIXES if (match := INSTALL.match(fix))]
    assert {match[1] for match in found} - {*extras, "{}", "NAME", None} == set()
    assert {match["package"] for match in found} - {*packages, "{}", "'{}'", None} == set()


@pytest.mark.parametrize("fix", [fix for fix in FIXES if FILTER.search(fix)])
def test_filters_of_ffmpeg_run(fix: str) -> None:
    """The filter turns a frame into a frame."""
    name, _, options = FILTER.findall(fix)[0].partition("=")
    graph = av.filter.Graph()
    links = (
        graph.add_buffer(width=320, height=160, format="yuv420p", time_base=Fraction(1, 10)),
        graph.add(name, options.replace("{}", "320:240")),
        graph.add("buffersink"),
    )
    graph.link_nodes(*links).configure()
    frame = av.VideoFrame(320, 160, "yuv420p")
    frame.pts = 0
    graph.push(frame)
    assert graph.pull().width > 0


@pytest.mark.parametrize("fix", CALLS)
def test_a_fix_of_a_call_helps(fix: str) -> None:
    mistake, cured = CALLS[fix]
    with pytest.raises(StadiaError) as error:
        mistake()
    assert error.value.fix == fix
    cured()


@pytest.mark.parametrize("test", sorted({*ELSEWHERE.values()}))
def test_the_test_of_a_fix_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_new_fix_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'FIX = "set a.b=1"\n'
        "def read(path):\n"
        '    fix = f"pass --size {path}" if path else "look at it"\n'
        "    if not path:\n"
        "        raise DataError(path, found=1, expected=2, fix=FIX)\n"
        "    raise DataError(path, found=1, expected=2, fix=fix)\n"
    )
    assert list_runnable_fixes(tmp_path) == {"set a.b=1": {"a.py"}, "pass --size {}": {"a.py"}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data sets, a video, images, depth and paths."""
    return write_files(tmp_path_factory.mktemp("fixes") / "inputs")


def _execute(step: str | Callable[[], None]) -> None:
    step() if callable(step) else exec(step, {})


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("fix", TRIED)
def test_a_fix_helps(
    fix: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    tried = TRIED[fix]
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("stadia.training.prediction.export.export_onnx", export_at_training_size)
    monkeypatch.setattr("stadia.training.workflow.estimate_dry_run", lambda recipe, config, data: None)
    monkeypatch.setattr("stadia.training.workflow.measure_steps", lambda *stage: DryRunResult("cpu", (1,), (1.0,)))
    _execute(tried.prepare)
    if tried.first:
        assert stadia(*shlex.split(tried.first))[0] == 0
    code, out, err = stadia(*shlex.split(tried.line))
    printed = re.escape(fix.lstrip("; ")).replace(re.escape("{}"), ".*")
    assert re.search(printed, " ".join((out + err).split())), out + err
    assert code == (0 if tried.figure else tried.status)
    if tried.between:
        assert stadia(*shlex.split(tried.between))[0] == 0
    _execute(tried.repair)
    cured_code, cured_out, cured_err = stadia(*shlex.split(tried.cure))
    assert cured_code == 0, cured_out + cured_err
    if tried.status != 2:
        assert not re.search(printed, " ".join((cured_out + cured_err).split()))
    if tried.figure:
        before, after = (float(re.findall(tried.figure, text)[0]) for text in (out, cured_out))
        assert after < MAX_OF_BEFORE * before


MAX_OF_BEFORE = 0.1
"""Largest error with the fix, as a share of the error before."""
