"""Route of a calibration file: its field of view, which the page then uses for the picture."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import DataError
from stadia.datasets.formats.calibration_files import read_calibration
from stadia.files.atomic_files import write_text
from stadia.web.app_state import get_state
from stadia.web.forms import parse_form, read_json_body
from stadia.web.guards import require_session

CALIBRATION = "the calibration"
"""What errors call the file: names of users and of folders on this machine do not reach a page."""


class CalibrationForm(StrictModel):
    """A file as text; its suffix names the format."""

    suffix: Literal[".txt", ".yaml", ".yml", ".json", ".xml"]
    text: Annotated[str, Field(min_length=1, max_length=60_000)]


def measure_field_of_view(path: Path) -> dict[str, Any]:
    """Return the field of view of the first camera of a file, left to right edge in degrees, and what is left out.

    Raises DataError, without the path, where the file is no calibration.
    """
    try:
        camera = read_calibration(path)[0]
    except DataError as error:
        raise DataError(CALIBRATION, found=error.found, expected=error.expected, fix=error.fix) from None
    width = 2 * float(camera.K[0, 2]) if camera.size is None else camera.size[1]
    fov_deg = math.degrees(2 * math.atan(width / 2 / float(camera.K[0, 0])))
    notes = ["the picture is assumed to be centered and whole"]
    notes += ["distortion is not removed"] * any(camera.distortion)
    return {"fov_deg": round(fov_deg, 2), "about": f"camera {camera.name}; {'; '.join(notes)}"}


async def read_calibration_file(request: Request) -> Response:
    """Return the field of view of a calibration file."""
    require_session(request)
    form = parse_form(CalibrationForm, await read_json_body(request))

    def read() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=get_state(request).folder) as folder:
            path = Path(folder) / f"calibration{form.suffix}"
            write_text(path, form.text)
            return measure_field_of_view(path)

    return JSONResponse(await run_in_threadpool(read))
