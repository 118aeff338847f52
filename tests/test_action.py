"""The action for GitHub and the hook for pre-commit: no input becomes a command, and exit codes pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOSTILE = "$(touch owned) `touch owned` \"; touch owned; ' * --fix owned"


def find_step(name: str) -> dict[str, object]:
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("name") == name)
    return dict(step)


def run_check(tmp_path: Path, code: int, **inputs: str) -> tuple[list[str], int, str]:
    """Run the step with a command `stadia` that writes its arguments; return them, the exit code, and the outputs."""
    step = find_step("Check")
    command = tmp_path / "bin" / "stadia"
    command.parent.mkdir()
    arguments, outputs = tmp_path / "arguments", tmp_path / "outputs"
    command.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > "{arguments}"\nexit {code}\n')
    command.chmod(0o755)
    given = {f"STADIA_{name.upper()}": inputs.get(name, "") for name in ("result", "images", "for", "camera", "junit")}
    assert set(given) == set(step["env"])  # type: ignore[call-overload]
    environment = {**os.environ, **given, "GITHUB_OUTPUT": str(outputs)}
    environment["PATH"] = f"{command.parent}{os.pathsep}{environment['PATH']}"
    line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", str(step["run"])]
    ended = subprocess.run(line, env=environment, cwd=tmp_path, check=False)
    return arguments.read_text().split("\0")[:-1], ended.returncode, outputs.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="the command is a script of sh")
def test_inputs_are_arguments_and_nothing_else(tmp_path: Path) -> None:
    inputs = {"result": "-x" + HOSTILE, "images": HOSTILE, "camera": HOSTILE, "junit": HOSTILE}
    words, code, outputs = run_check(tmp_path, 3, **inputs, **{"for": "splats measuring=1%  * $(touch owned)"})
    purposes = ["--for=splats", "--for=measuring=1%", "--for=*", "--for=$(touch", "--for=owned)"]
    camera = [f"--camera={HOSTILE}", f"--junit={HOSTILE}"]
    assert words == ["check", f"--images={HOSTILE}", "--github", *purposes, *camera, "--", "-x" + HOSTILE]
    assert (code, outputs) == (3, "exit-code=3\n")
    assert not (tmp_path / "owned").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the command is a script of sh")
def test_empty_inputs_are_left_out(tmp_path: Path) -> None:
    words, code, _ = run_check(tmp_path, 0, result="sparse/0", images="images")
    assert words == ["check", "--images=images", "--github", "--", "sparse/0"]
    assert code == 0


def test_no_input_is_written_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    assert re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", (ROOT / "action.yml").read_text()) == [
        "python-version", "result", "images", "for", "camera", "junit",
    ]  # fmt: skip


def test_the_hook_runs_the_command() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"] == "stadia check"
    assert hook["language"] == "python"
    assert hook["pass_filenames"] is False
