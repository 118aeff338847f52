"""The locked environment is that of constraints.txt, and the audit says what it skips."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = ("requirements.txt", "requirements-torch.txt")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read_pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(re.split("==", line.partition(" ")[0]) for line in lines if not line.startswith("#"))


def test_tested_versions_hold_on_every_platform() -> None:
    """A version with a build, such as 2.13.0+cpu, exists on some alone."""
    assert [pin for pin in _read_pins("constraints.txt").values() if not re.fullmatch(r"[\w.]+", pin)] == []


def test_every_locked_package_has_the_tested_version_and_a_hash() -> None:
    tested = {name.lower().replace("_", "-"): pin for name, pin in _read_pins("constraints.txt").items()}
    for file in LOCKED:
        for line in (ROOT / file).read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+]+ --hash=sha256:[0-9a-f]{64}", line)
            assert "://" not in line
        for name, version in _read_pins(file).items():
            pin = tested.get(name.lower().replace("_", "-"))
            assert pin in (None, version.partition("+")[0]), f"{name} {version}: run make lock"


def test_every_dependency_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert [requirement for requirement in required if "==" in requirement] == []  # constraints.txt has the versions
    names = {re.split(r"[\[<>=]", one)[0].lower().replace("_", "-") for one in required} - {"stadia"}
    locked = {name.lower().replace("_", "-") for file in LOCKED for name in _read_pins(file)}
    assert names <= locked


def test_a_file_without_a_hash_is_no_lock(tmp_path: Path) -> None:
    lock = _load("lock_requirements")
    info = {"archive_info": {"hashes": {"sha256": "0" * 64}}}
    items = [{"metadata": {"name": name, "version": "1.0"}, "download_info": info} for name in ("torch", "Av")]
    environment = {"python_version": "3.11", "platform_system": "Linux", "platform_machine": "x86_64"}
    lock.write_requirements({"install": items, "environment": environment}, tmp_path)
    assert f"Av==1.0 --hash=sha256:{'0' * 64}\n" in (tmp_path / "requirements.txt").read_text()
    assert "torch==1.0" in (tmp_path / "requirements-torch.txt").read_text()
    info["archive_info"] = {}
    with pytest.raises(ValueError, match="SHA-256"):
        lock.read_pins({"install": items})


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the tool")
@pytest.mark.parametrize(
    ("output", "word", "is_weak"),
    [
        (json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}), "0 in 1 packages", False),
        (json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}]}), "a 1: X-1", True),
        ("", "skipped, the database cannot be reached (no route)", False),
    ],
)
def test_the_audit_finds_weaknesses_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, word: str, is_weak: bool
) -> None:
    audit = _load("audit")
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho '{output}'\necho 'no route' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(audit, "find_tool", lambda _: str(tool))
    text, found = audit.find_weaknesses([ROOT / "requirements.txt"])
    assert word in text
    assert found == is_weak
    monkeypatch.setattr(audit, "find_tool", lambda _: None)
    assert "skipped" in audit.find_weaknesses([])[0]
    assert "skipped" in audit.write_sbom(tmp_path / "sbom.json")
