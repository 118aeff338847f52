"""Embed images of a run as JPEGs: sheets, evidence, and predicted depth."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.files import inside, read_json
from stadia.report.run_files import RunFiles

SHEET_WIDTH, MAP_WIDTH, JPEG_QUALITY = 1280, 640, 88
MAX_BYTES, MAX_PIXELS = 64 << 20, 64 << 20
MAX_MAPS, MAX_DRAWN = 6, 3
BASELINES = ("mean-depth",)  # recipes without training


@dataclass(frozen=True)
class Image:
    """An image as a data URI."""

    uri: str
    width: int
    height: int


def read_image(path: Path, name: str, unreadable: list[str]) -> Image | None:
    """Read a PNG as a JPEG at most `SHEET_WIDTH` wide; an invalid file gets a line in `unreadable`."""
    image = decoded(path, cv2.IMREAD_COLOR)
    if image is None:
        unreadable.append(f"{name}: not a PNG of a sensible size, or truncated")
        return None
    return encoded(image, SHEET_WIDTH)


def predicted(run: RunFiles) -> list[tuple[str, Image]]:
    """Return (recording/frame, colored depth) of the middle frame of each scored prediction, at most `MAX_MAPS`."""
    found: dict[str, Image] = {}
    for record in sorted(run.folder.glob("predictions/**/predictions.json")):
        try:
            record_values = read_json(record)
            if not record_values["finished"] or record_values["recipe"] in BASELINES or len(found) == MAX_MAPS:
                continue
            if (record.parent / "drawn").is_dir():  # the same beside its image, see `drawn`
                continue
            name = str(record_values["entries"][len(record_values["entries"]) // 2])
            depth = decoded(inside(record.parent / "depth", f"{name}.png"), cv2.IMREAD_UNCHANGED)
        except (StadiaError, OSError, ValueError, LookupError, TypeError) as error:
            run.unreadable.append(
                f"{record.relative_to(run.folder)}: {error.found if isinstance(error, StadiaError) else error!r}"
            )
            continue
        if (
            depth is not None and depth.ndim == 2 and depth.dtype == np.uint16
        ):  # else inverse depth, which has no such image
            found.setdefault(f"{record_values['source']}/{name}", encoded(_colorize_inverse_depth(depth), MAP_WIDTH))
    return list(found.items())


def drawn(run: RunFiles) -> list[tuple[str, Image]]:
    """Return (source/name, drawn prediction) spread evenly over each prediction, at most `MAX_MAPS`."""
    found: list[tuple[str, Image]] = []
    for folder in sorted(run.folder.glob("predictions/**/drawn")):
        files = sorted(folder.glob("*.png"))
        for file in files[:: -(-len(files) // MAX_DRAWN) or 1]:
            name = str(file.relative_to(run.folder / "predictions").with_suffix(""))
            if len(found) < MAX_MAPS and (picture := read_image(file, name, run.unreadable)) is not None:
                found.append((name.replace("/drawn/", "/"), picture))
    return found


def _colorize_inverse_depth(depth: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Color depth (H, W), 0 = none, as (H, W, 3) BGR: inverse depth up to its 95th percentile, black for none."""
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=depth > 0)
    top = float(np.percentile(inverse[depth > 0], 95)) if depth.any() else 1.0
    return np.asarray(
        cv2.applyColorMap((np.clip(inverse / top, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_MAGMA), np.uint8
    )


def decoded(path: Path, flags: int) -> NDArray[Any] | None:
    """Decode a PNG; None where it is missing, truncated or too large."""
    data = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_BYTES else b""
    pixels = int.from_bytes(data[16:20], "big") * int.from_bytes(
        data[20:24], "big"
    )  # of the PNG header, before anything is decoded
    whole = 0 < pixels <= MAX_PIXELS and data[-8:-4] == b"IEND"
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if whole else None


def encoded(image: NDArray[Any], most: int) -> Image:
    """Encode (H, W, 3) BGR as a JPEG of limited width."""
    height, width = image.shape[:2]
    if width > most:
        height, width = max(1, round(height * most / width)), most
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Image("data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode(), width, height)
