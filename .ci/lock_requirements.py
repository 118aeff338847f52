"""Write requirements.txt and requirements-torch.txt: the tested environment with the SHA-256 of each file.

`make lock` runs it on the report of `pip install --dry-run`. The hashes are of the files for this Python and platform.
torch has a file of its own: its CPU build is not where other packages are, and machines with a GPU take another build.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEPARATE = ("torch",)
HEADER = """\
# The tested environment ({platform}) with the SHA-256 of each file, by `make lock`: docs/explanation/security.md.
# pip install --require-hashes --no-deps -r requirements-torch.txt -r requirements.txt
"""
TORCH = """\
# The CPU build of torch. It has an index of its own, or lies in a folder: give pip one of them too.
# For another build (CUDA, macOS) install torch of this version first, and requirements.txt alone after it.
"""


def read_pins(report: dict) -> dict[str, str]:
    """Return `name==version --hash=sha256:...` by name. Raises ValueError for a file without a hash."""
    pins = {}
    for item in report["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if "dir_info" in item["download_info"]:
            continue  # stadia itself
        digest = item["download_info"]["archive_info"].get("hashes", {}).get("sha256", "")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"{name} {version} has no SHA-256")
        pins[name.lower()] = f"{name}=={version} --hash=sha256:{digest}\n"
    return pins


def write_requirements(report: dict, folder: Path) -> None:
    """Write both files into a folder."""
    pins = read_pins(report)
    environment = report["environment"]
    platform = " ".join(
        (f"CPython {environment['python_version']}", environment["platform_system"], environment["platform_machine"])
    )
    header = HEADER.format(platform=platform)
    others = "".join(pins[name] for name in sorted(pins) if name not in SEPARATE)
    (folder / "requirements.txt").write_text(header + others)
    (folder / "requirements-torch.txt").write_text(TORCH + "".join(pins[name] for name in SEPARATE))


if __name__ == "__main__":
    write_requirements(json.loads(Path(sys.argv[1]).read_text()), ROOT)
