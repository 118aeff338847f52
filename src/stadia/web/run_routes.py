"""Routes of runs: the list, one run, its images and report, two beside each other, stop and resume."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, RunError
from stadia.files.image_io import MAX_IMAGE_BYTES
from stadia.files.input_files import read_bytes
from stadia.report.report_page import build_report
from stadia.report.run_files import check_inside
from stadia.web.app_state import get_state
from stadia.web.check_routes import list_data
from stadia.web.forms import parse_form, read_json_body
from stadia.web.guards import require_session
from stadia.web.run_list import RunList, describe_pair, describe_run
from stadia.web.trainings import list_start_presets, resume_training, stop_training

MAX_REPORT_BYTES = 64 << 20

REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Of a report, whose own policy names the hash of its script: it has no access to this page or its cookies."""


def _get_runs(request: Request) -> RunList:
    """Return the runs of the server. Raises ConfigError where it lists none."""
    require_session(request)
    runs = get_state(request).run_list
    if runs is None:
        raise ConfigError("--runs", found="none", expected="a folder of runs", fix="pass it to stadia app")
    return runs


async def show_runs(request: Request) -> Response:
    """Return the list."""
    runs = _get_runs(request)
    rows = await run_in_threadpool(runs.rows)
    return JSONResponse({"folder": runs.folder.name, "runs": [asdict(row) for row in rows]})


async def show_run(request: Request) -> Response:
    """Return what the page of one run shows."""
    folder = _find(request)
    return JSONResponse(await run_in_threadpool(describe_run, folder))


async def show_run_image(request: Request) -> Response:
    """Return one of a run's image sheets."""
    folder, name = _find(request), request.path_params["image"]

    def read() -> bytes:
        listed = {path.name: path for path in folder.glob("images/*.png")}
        if name not in listed:
            raise RunError("image", found="none of this name", expected="one of the run", fix="reload the page")
        path = check_inside(folder, listed[name])
        return read_bytes(path, expected="an image of the run", max_bytes=MAX_IMAGE_BYTES)

    return Response(await run_in_threadpool(read), media_type="image/png")


async def show_report(request: Request) -> Response:
    """Return the report of a run as it is now."""
    folder = _find(request)

    def build() -> bytes:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as place:
            path = build_report(folder, Path(place) / "report.html")
            return read_bytes(path, expected="a report", max_bytes=MAX_REPORT_BYTES)

    headers = {"content-security-policy": REPORT_POLICY}
    return Response(await run_in_threadpool(build), media_type="text/html", headers=headers)


async def compare(request: Request) -> Response:
    """Return two runs beside each other: `?first=` and `?second=`."""
    runs = _get_runs(request)
    folders = [runs.find(request.query_params.get(key, "")) for key in ("first", "second")]
    return JSONResponse(await run_in_threadpool(describe_pair, folders))


class TrainingForm(StrictModel):
    """What trains: a name of the list of data, a preset, and for how long."""

    name: Annotated[str, Field(max_length=255)]
    preset: Annotated[str, Field(max_length=100)]
    minutes: Annotated[float, Field(ge=1, le=600)]


async def show_start(request: Request) -> Response:
    """Return what may be started, and the state of the training that was."""
    _get_runs(request)
    state = get_state(request)
    names, presets = await run_in_threadpool(lambda: (list_data(state.data), list_start_presets()))
    return JSONResponse({"data": names, "presets": presets, **state.starter.describe()})


async def start(request: Request) -> Response:
    """Start a training on one of the listed data, from a preset."""
    runs, state = _get_runs(request), get_state(request)
    form = parse_form(TrainingForm, await read_json_body(request))
    if state.data is None or form.name not in list_data(state.data):
        raise ConfigError("data", found="none of this name", expected="one of the list", fix="reload the page")
    if form.preset not in dict(list_start_presets()):
        raise ConfigError("preset", found="none of this name", expected="one of the list", fix="reload the page")
    await run_in_threadpool(state.starter.start, state.data / form.name, form.preset, form.minutes, runs.folder)
    return JSONResponse(state.starter.describe())


async def stop(request: Request) -> Response:
    """Interrupt a training."""
    await run_in_threadpool(stop_training, _find(request))
    return JSONResponse({"done": "It writes a checkpoint, and ends."})


async def resume(request: Request) -> Response:
    """Resume a training that was interrupted."""
    await run_in_threadpool(resume_training, _find(request))
    return JSONResponse({"done": "It is resumed."})


def _find(request: Request) -> Path:
    return _get_runs(request).find(request.path_params["name"])
