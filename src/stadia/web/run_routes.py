"""Request handlers for training runs and data: list, show, compare, start, stop and resume runs; check data."""

import base64
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError, RunError
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.image_io import MAX_IMAGE_BYTES, read_image
from stadia.io.input_files import parse_json, read_bytes
from stadia.io.video_decoding import VIDEO_SUFFIXES
from stadia.report.report_page import build_report
from stadia.report.run_files import check_inside
from stadia.web.app_state import AppState, get_state, run_in_turn
from stadia.web.decoding import SMALL_SIDE, shrink_image
from stadia.web.forms import describe_error, drop_commands, parse_form, read_json_body
from stadia.web.guards import refuse, require_session
from stadia.web.run_list import RunList, describe_pair, describe_run, find_last_image
from stadia.web.trainings import (
    MIN_TRAINING_MINUTES,
    STADIA,
    is_locked,
    list_start_presets,
    name_camera,
    read_last_line,
    resume_training,
    stop_training,
)

MAX_REPORT_BYTES = 64 << 20

REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; img-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)
"""Content security policy of a report: its sandbox has no access to this page or its cookies."""


FieldOfView = Annotated[float, Field(gt=1, lt=170)] | None
"""Horizontal field of view, degrees, of a video whose camera is unknown; None for the camera of the data."""


def _get_runs(request: Request) -> RunList:
    require_session(request)
    runs = get_state(request).run_list
    if runs is None:
        raise ConfigError("runs", found="none on this server", expected="a folder of runs")
    return runs


async def show_runs(request: Request) -> Response:
    """Reply with the list of runs."""
    runs = _get_runs(request)
    rows = await run_in_threadpool(runs.rows)
    return JSONResponse({"folder": runs.folder.name, "runs": [asdict(row) for row in rows]})


async def show_run(request: Request) -> Response:
    """Reply with what the page of one run shows."""
    folder = _find(request)
    return JSONResponse(await run_in_threadpool(describe_run, folder))


async def show_run_image(request: Request) -> Response:
    """Reply with one of a run's sheets of images."""
    folder, name = _find(request), request.path_params["image"]

    def read() -> bytes:
        listed = {path.name: path for path in folder.glob("images/*.png")}
        if name not in listed:
            raise RunError("image", found="unknown name", expected="an image of the run", fix="reload the page")
        path = check_inside(folder, listed[name])
        return read_bytes(path, expected="an image of the run", max_bytes=MAX_IMAGE_BYTES)

    return Response(await run_in_threadpool(read), media_type="image/png")


async def show_small_image(request: Request) -> Response:
    """Reply with the last of a run's sheets of images, small."""
    folder = _find(request)

    def read() -> bytes:
        path = check_inside(folder, folder / "images" / find_last_image(folder))
        small = shrink_image(np.asarray(read_image(path, cv2.IMREAD_COLOR), np.uint8), SMALL_SIDE)
        return cv2.imencode(".jpg", small)[1].tobytes()

    return Response(await run_in_threadpool(read), media_type="image/jpeg")


async def delete_run(request: Request) -> Response:
    """Remove the folder of a run without a training process."""
    folder = _find(request)
    if folder.is_symlink() or is_locked(folder):
        raise RunError(
            folder.name, found="a training, or a link", expected="a run of this folder", fix="stop the training first"
        )

    def skip_missing(function: object, path: str, error: Any) -> None:
        if not isinstance(error[1], FileNotFoundError):  # a second request removes the same run
            raise error[1]

    await run_in_threadpool(shutil.rmtree, folder, onerror=skip_missing)
    return JSONResponse({})


async def show_report(request: Request) -> Response:
    """Build the report of a run as it is now, and reply with it."""
    folder = _find(request)

    def build() -> bytes:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as place:
            path = build_report(folder, Path(place) / "report.html")
            return read_bytes(path, expected="a report", max_bytes=MAX_REPORT_BYTES)

    headers = {"content-security-policy": REPORT_POLICY}
    return Response(await run_in_threadpool(build), media_type="text/html", headers=headers)


async def compare(request: Request) -> Response:
    """Reply with what the page that compares the runs `?first=` and `?second=` shows."""
    runs = _get_runs(request)
    folders = [runs.find(request.query_params.get(key, "")) for key in ("first", "second")]
    return JSONResponse(await run_in_threadpool(describe_pair, folders))


class TrainingForm(StrictModel):
    """A training to start.

    name: name in the list of data.
    preset: name of the preset.
    minutes: how long to train.
    fov_deg: horizontal field of view of a video whose camera is unknown.
    """

    name: Annotated[str, Field(max_length=255)]
    preset: Annotated[str, Field(max_length=100)]
    minutes: Annotated[float, Field(ge=MIN_TRAINING_MINUTES, le=600)]
    fov_deg: FieldOfView = None


async def show_start(request: Request) -> Response:
    """Reply with the data and presets that a training can start from, and the state of the last start."""
    _get_runs(request)
    state = get_state(request)
    names, presets = await run_in_threadpool(lambda: (list_data(state.data), list_start_presets()))
    return JSONResponse({"data": names, "presets": presets, **_describe_start(state)})


async def start(request: Request) -> Response:
    """Start a training on one of the listed data, from a preset."""
    runs, state = _get_runs(request), get_state(request)
    form = parse_form(TrainingForm, await read_json_body(request))
    data = find_data(state, form.name)
    if form.preset not in dict(list_start_presets()):
        raise ConfigError("preset", found="unknown name", expected="one of the list", fix="reload the page")
    await run_in_threadpool(state.starter.start, data, form.preset, form.minutes, runs.folder, form.fov_deg)
    return JSONResponse(_describe_start(state))


def _describe_start(state: AppState) -> dict[str, Any]:
    about = state.starter.describe()
    return {**about, "error": describe_error(about["error"])}


async def stop(request: Request) -> Response:
    """Interrupt a training; it writes a checkpoint first."""
    await run_in_threadpool(stop_training, _find(request))
    return JSONResponse({"done": "Writing a checkpoint, then it stops."})


async def resume(request: Request) -> Response:
    """Resume a training that was interrupted."""
    await run_in_threadpool(resume_training, _find(request))
    return JSONResponse({"done": "Resumed."})


def _find(request: Request) -> Path:
    return _get_runs(request).find(request.path_params["name"])


# -- checks of data

NOT_CHECKED = "Not checked: "
"""Start of the line of `stadia check` that lists the checks which need a camera."""

CHECK_S = 180.0
"""Longest time of a check of data, seconds."""

MAX_LISTED = 200
MAX_PICTURES, MAX_PICTURE_BYTES = 12, 1 << 20


class CheckForm(StrictModel):
    """Data to check.

    name: name in the list of data.
    fov_deg: horizontal field of view of a video whose camera is unknown.
    """

    name: Annotated[str, Field(max_length=255)]
    fov_deg: FieldOfView = None


def list_data(folder: Path | None) -> list[str]:
    """Return the names of folders, videos and images in a folder."""
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


def find_data(state: AppState, name: str) -> Path:
    """Return the path of data by its name in the list.

    Raises ConfigError for a name that is not in the list.
    """
    if state.data is None or name not in list_data(state.data):
        raise ConfigError("data", found="unknown name", expected="one of the list", fix="reload the page")
    return state.data / name


def run_check(path: Path, fov_deg: float | None, folder: Path) -> dict[str, Any]:
    """Check data by `stadia check` in a process of its own.

    path: the data.
    fov_deg: horizontal field of view of a video whose camera is unknown; else None.
    folder: folder for temporary pictures.

    Returns the findings with their pictures, and the command; or an `error`.

    Raises DataError after CHECK_S seconds.
    """
    words = ["check", str(path), *name_camera(fov_deg)]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "findings"
        command = [*STADIA, *words, "--json", "--out", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CHECK_S, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            found, fix = f"a check of more than {CHECK_S:.0f} s", "check less data"
            raise DataError(path.name, found=found, expected=f"at most {CHECK_S:.0f} s", fix=fix) from None
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode > 1 or not text.strip():
            return {"error": describe_error(read_last_line(done.stderr).replace(str(path), path.name))}
        findings = parse_json("stadia check", text, "findings")
        for number, finding in enumerate(findings):
            image = finding.get("evidence", {}).get("image")
            finding["fix"] = "".join(drop_commands([str(finding.get("fix", ""))]))
            finding["picture"] = _embed(out, str(image)) if image and number < MAX_PICTURES else ""
    notes = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith(NOT_CHECKED)]
    not_checked = [line.removeprefix(NOT_CHECKED).partition(". ")[0] for line in notes]
    return {"command": shlex.join(["stadia", *words]), "findings": findings, "needs_camera": not_checked}


def _embed(folder: Path, name: str) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    if path.stat().st_size > MAX_PICTURE_BYTES:
        return ""
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = read_bytes(path, expected="a picture", max_bytes=MAX_PICTURE_BYTES)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def show_data(request: Request) -> Response:
    """Reply with the names of the data that may be checked."""
    require_session(request)
    return JSONResponse({"names": await run_in_threadpool(list_data, get_state(request).data)})


async def check(request: Request) -> Response:
    """Check one of the listed data, and reply with the findings."""
    require_session(request)
    state, form = get_state(request), parse_form(CheckForm, await read_json_body(request))
    job = partial(run_check, find_data(state, form.name), form.fov_deg, state.folder)
    result = await run_in_turn(request, job, state.video_queue)
    return refuse(result["error"]) if "error" in result else JSONResponse(result)
