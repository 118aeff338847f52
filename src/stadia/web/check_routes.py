"""Routes of `stadia check`: the data that may be checked, and the findings with their pictures."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.datasets.image_files import IMAGE_SUFFIXES
from stadia.datasets.video.video_decoding import VIDEO_SUFFIXES
from stadia.files.input_files import read_bytes
from stadia.files.json_files import parse_json
from stadia.web.app_state import get_state, run_in_turn
from stadia.web.forms import parse_form, read_json_body
from stadia.web.guards import refuse, require_session
from stadia.web.trainings import STADIA, read_last_line

CHECK_S = 180.0
"""Time of a check: 20 s for its recordings, and the opening of a large data set."""

MAX_LISTED = 200
MAX_IMAGES, MAX_IMAGE_BYTES = 12, 1 << 20


class CheckForm(StrictModel):
    """What is checked: a name of the list, and the field of view of a video whose camera is not known."""

    name: Annotated[str, Field(max_length=255)]
    fov_deg: Annotated[float, Field(gt=1, lt=170)] | None = None


def list_data(folder: Path | None) -> list[str]:
    """Return the names of folders and videos in a folder, which a page offers to check."""
    if folder is None or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.is_dir() or Path(entry.name).suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
        ]
    return sorted(names)[:MAX_LISTED]


def make_check_command(path: Path, fov_deg: float | None) -> list[str]:
    """Return the words of `stadia check` for a path.

    Examples:
        >>> make_check_command(Path("drive.mp4"), 69.0)
        ['check', 'drive.mp4', 'data.camera.horizontal_fov_deg=69']
    """
    camera = [] if fov_deg is None else [f"data.camera.horizontal_fov_deg={fov_deg:g}"]
    return ["check", str(path), *camera]


def run_check(path: Path, fov_deg: float | None, folder: Path) -> dict[str, Any]:
    """Check data in a process of its own; return its findings with their pictures, and the command.

    Where the data cannot be opened, its line is `error`.

    folder: for the pictures, which are removed.

    Raises DataError where the time is over.
    """
    words = make_check_command(path, fov_deg)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "findings"
        command = [*STADIA, *words, "--json", "--out", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CHECK_S, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            found, fix = f"a check of more than {CHECK_S:.0f} s", "run it in a terminal"
            raise DataError(path.name, found=found, expected="less", fix=fix) from None
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode > 1 or not text.strip():
            return {"error": read_last_line(done.stderr).replace(str(path), path.name)}
        findings = parse_json("stadia check", text, "findings")
        for number, finding in enumerate(findings):
            image = finding.get("evidence", {}).get("image")
            finding["picture"] = _embed(out, str(image)) if image and number < MAX_IMAGES else ""
    return {"command": shlex.join(["stadia", *words]), "findings": findings}


def _embed(folder: Path, name: str) -> str:
    """Return a picture of a finding as a data URL; "" where there is none."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    if path.stat().st_size > MAX_IMAGE_BYTES:
        return ""
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = read_bytes(path, expected="a picture", max_bytes=MAX_IMAGE_BYTES)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def show_data(request: Request) -> Response:
    """Return the names that may be checked."""
    require_session(request)
    return JSONResponse({"names": await run_in_threadpool(list_data, get_state(request).data)})


async def check(request: Request) -> Response:
    """Check one of the listed data, in the user's turn."""
    session, state = require_session(request), get_state(request)
    form = parse_form(CheckForm, await read_json_body(request))
    if state.data is None or form.name not in list_data(state.data):
        raise ConfigError("data", found="none of this name", expected="one of the list", fix="reload the page")
    path = state.data / form.name
    job = partial(run_check, path, form.fov_deg, state.folder)
    result = await run_in_turn(request, session, job, state.video_queue)  # it takes minutes, as a video does
    return refuse(result["error"]) if "error" in result else JSONResponse(result)
