"""Write the list of installed packages (SBOM, CycloneDX), and compare the locked ones with known weaknesses.

`make audit` runs both; CI runs it with --offline. What cannot run is skipped, and the reason is printed. The exit code
is 1 for a known weakness.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SBOM = Path("build/sbom.json")
INSTALL = "is not installed (pip install 'stadia[audit]')"


def find_tool(name: str) -> str | None:
    """Return the path of a program of this environment, or of the machine."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def write_sbom(path: Path) -> str:
    """Write the list of what is installed; return what happened."""
    tool = find_tool("cyclonedx-py")
    if tool is None:
        return f"SBOM: skipped, cyclonedx-bom {INSTALL}"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [tool, "environment", sys.executable, "--output-format", "JSON", "--output-file", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"SBOM: skipped, {_last_line(done.stderr)}"
    return f"SBOM: {len(json.loads(path.read_text())['components'])} components in {path}"


def find_weaknesses(requirements: list[Path]) -> tuple[str, bool]:
    """Return what was found in the locked versions, and whether it was a weakness."""
    tool = find_tool("pip-audit")
    if tool is None:
        return f"weaknesses: skipped, pip-audit {INSTALL}", False
    files = [word for path in requirements for word in ("-r", str(path))]
    words = [tool, "--require-hashes", "--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*words, *files], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return f"weaknesses: skipped, the database cannot be reached ({_last_line(done.stderr)})", False
    found = [f"{one['name']} {one['version']}: {weak['id']}" for one in packages for weak in one.get("vulns", [])]
    return "\n".join([f"weaknesses: {len(found)} in {len(packages)} packages", *found]), bool(found)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


def main() -> int:
    """Run both; return the exit code."""
    print(write_sbom(ROOT / SBOM))
    if "--offline" in sys.argv[1:]:
        print("weaknesses: skipped, their database is not on this machine; run make audit where it can be reached")
        return 0
    text, is_weak = find_weaknesses([ROOT / "requirements.txt", ROOT / "requirements-torch.txt"])
    print(text)
    return int(is_weak)


if __name__ == "__main__":
    sys.exit(main())
