"""Write AGENTS.md and llms.txt for coding assistants from the pages of docs/: `python -m website.assistant_pages`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from website.site_source import DOCS, ROOT, SETTINGS

START = ("first-video", "map", "metres", "is-it-right", "adapt", "train")
RULES = """\
# How to use stadia in a program

stadia computes depth in metres and camera trajectories from images, and judges results. Install: `make install` in the
source, or `pip install dist/stadia-*.whl`. `stadia COMMAND --help` lists options; `llms.txt` lists all pages.

- z is depth along the optical axis, not distance along the ray. Pixel centers are at integers.
- `T_a_b` maps points of b to a; `T_world_camera` is camera-to-world. Camera axes: x right, y down, z forward.
- Arrays named `depth_m` are metres, arrays named `depth` are up to scale. Do not mix them.
- Give the camera (`stadia camera VIDEO --fov DEGREES`, or `K=`). An assumed camera makes metres wrong.
- Read the verdict before you use a result: `usable`, `doubtful`, `unusable` or `not judged`. Report it to your user.
- `--json` prints a record; exit codes: 0 done, 1 problems found, 2 wrong usage.
- Settings are words `KEY=VALUE`; a wrong key is refused with the nearest names.

To change stadia itself, read CONTRIBUTING.md and docs/developing/architecture.md.
"""


def read_nav(entries: Any) -> Iterator[str]:
    """Yield the names of the written pages in the order of the navigation."""
    if isinstance(entries, str):
        if not entries.endswith("*") and (DOCS / entries).exists():
            yield entries
        return
    for entry in entries.values() if isinstance(entries, dict) else entries:
        yield from read_nav(entry)


def describe_page(name: str) -> tuple[str, str]:
    """Return the title of a page and its first sentence without links and emphasis."""
    text = re.sub(r"<!--.*?-->|^```.*?^```", "", (DOCS / name).read_text(encoding="utf-8"), flags=re.M | re.S)
    title, _, rest = text.partition("\n")
    paragraphs = (part for part in re.split(r"\n\s*\n", rest) if re.match(r"[\w`*\"]", part.strip()))
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)|\*\*", r"\1", " ".join(next(paragraphs, "").split()))
    return title.removeprefix("# "), re.split(r"(?<=[.:])\s", plain, maxsplit=1)[0].rstrip(":")


def write_llms() -> str:
    """Return the text of llms.txt: every written page with its first sentence (llmstxt.org)."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    lines = ["# stadia", "", f"> {settings['site_description']}"]
    for section in settings["nav"]:
        ((heading, entries),) = section.items()
        lines += ["", f"## {heading}", ""]
        for name in read_nav(entries):
            title, about = describe_page(name)
            lines.append(f"- [{title}](docs/{name}): {about}" if about else f"- [{title}](docs/{name})")
    return "\n".join(lines) + "\n"


def write_agents() -> str:
    """Return the text of AGENTS.md: rules, then what each page of the start gives and its commands."""
    parts = [RULES]
    for name in START:
        text = (DOCS / "start" / f"{name}.md").read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        about = next(part for part in text.split("\n\n") if part.startswith("**You get**"))
        blocks = re.findall(r"^```(?:sh|text)\n(.*?)^```", text, re.M | re.S)
        commands = [line for block in blocks for line in block.splitlines() if line.startswith("stadia ")]
        parts.append(f"## {title}\n\n{about}\n\n```text\n" + "\n".join(commands) + "\n```\n")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n.*?^```", readme, re.M | re.S)
    assert code is not None
    return "\n".join([*parts, f"## From Python\n\n{code[0]}\n"])


PAGES = {"AGENTS.md": write_agents, "llms.txt": write_llms}


def main() -> None:
    for name, write in PAGES.items():
        (ROOT / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
