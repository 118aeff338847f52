"""Build the documentation site with every warning as an error: `make docs`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from website.foreign_hosts import find_foreign_loads
from website.site_source import ROOT, collect_source, write_settings


def find_unresolved(site: Path) -> list[str]:
    """Return references to names of the code that led nowhere: `[text][stadia.x.y]` is left as it was."""
    found = []
    for path in site.rglob("*.html"):
        leftover = re.findall(r"\]\[stadia[\w.]*\]", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: no entry for {name}" for name in leftover]
    return found


def build_site(site: Path, work: Path) -> int:
    """Build the site into a folder; return the builder's exit status, or 1 where a page loads from another host.

    work: a folder for the collected Markdown; it is replaced, as the site's is.
    """
    for folder in (site, work):
        shutil.rmtree(folder, ignore_errors=True)
    pages = collect_source(work / "docs")
    settings = write_settings(work, pages)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(settings)]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status == 0:
        shutil.move(work / "site", site)
    loads = [*find_foreign_loads(site), *find_unresolved(site)] if status == 0 else []
    for load in loads:
        print(load, file=sys.stderr)
    return status or int(bool(loads))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    arguments = parser.parse_args()
    started = time.monotonic()
    status = build_site(arguments.out, ROOT / "build" / "site-source")
    if status == 0:
        pages = len(list(arguments.out.rglob("*.html")))
        print(f"{arguments.out / 'index.html'}: {pages} pages in {time.monotonic() - started:.0f} s")
    sys.exit(status)


if __name__ == "__main__":
    main()
