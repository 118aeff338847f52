"""Read uploads, JSON and numbers from requests, all of limited size."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.io.input_files import parse_json
from stadia.web.guards import refuse

if TYPE_CHECKING:
    from stadia.core.config import StrictModel

MAX_PHOTO_BYTES = 40 << 20

MAX_PHOTO_PIXELS = 50_000_000
"""Most pixels of an uploaded picture; phones have 48 to 50 megapixels."""

MAX_VIDEO_BYTES = 512 << 20
"""Largest uploaded video; two minutes of 1080p from a phone have 250 MB."""

MAX_JSON_BYTES = 1 << 16

MAX_SILENCE_S = 60.0
"""Seconds without a byte after which an upload ends: the other side has gone."""

UPLOAD = "the upload"
"""What error texts call an uploaded file, so that no page shows a folder of this machine."""

Kind = Literal["photo", "video"]

_COMMAND = re.compile(
    r"`|(?<!\w)--\w|\bstadia (?!result)\w|\bpip install|\b(?:data|training)\.\w|\bNETWORK\b|\bdocs/|\bpython -|\bcv2\."
)
"""What only users of the command line can do."""

_CODE = re.compile(r"\b(?:[A-Z]\d\d,? (?=[A-Z])|as for [A-Z]\d\d\b|[A-Z]\d\d\b(?:, (?=[A-Z]\d\d\b))?)")
"""Codes of findings, such as M34; the page shows their titles."""

_PROGRAM = re.compile(r":? python -c '[^']*'")

_CODES_IN_BRACKETS = re.compile(r" \((?:[A-Z]\d\d(?:, )?)+\)")

_LENGTH = re.compile(r"(?:--scale-from )?\b(height|point|distance)=(?:[\d.,]+:)?(\d+(?:\.\d+)?)(?:@\d+)?")
"""A known length in the words of the command line."""

_LENGTHS = {"height": "the camera height", "point": "the depth", "distance": "the length"}

_IN_BRACKETS = re.compile(r" \([^()]*`[^()]*\)")

_FOLDERS = re.compile(r"(?<![\w:/])/(?:[^\s/'\",;:()]+/)+")


_ERROR = re.compile(r"(?P<where>.*?): found (?P<found>.*?)(?:; expected (?P<expected>.*?))?\.?(?: Fix: (?P<fix>.*))?")
"""The line of an error on a terminal."""

_OPTION = re.compile(r"(?<!\w)--([a-z][\w-]*)")


def describe_error(error: StadiaError | str) -> str:
    """Return the text of an error for a page: without commands to type, codes, and folders of this machine.

    error: the error, or its line on a terminal.

    Examples:
        >>> describe_error(StadiaError("/data/a/run", found="no weights", expected="a run", fix="stadia train"))
        'run: no weights. Needed: a run.'
        >>> describe_error("--masks: found none; expected a folder. Fix: draw them.")
        'masks: none. Needed: a folder. Draw them.'
    """
    line = _name_lengths(str(error)).replace("--scale-from", "the scale")
    parts = _ERROR.fullmatch(line)
    if parts is None:
        return _make_plain(line)
    fix = "".join(drop_commands([parts["fix"] or ""])).removesuffix(".")
    needed = f"Needed: {parts['expected']}" if parts["expected"] else ""
    place = re.sub("^the ", "The ", _make_plain(parts["where"]))  # a file's name keeps its letters
    sentences = [f"{place}: {_make_plain(parts['found'])}", _make_plain(needed), f"{fix[:1].upper()}{fix[1:]}"]
    return " ".join(f"{text}." for text in sentences if text)


def _make_plain(text: str) -> str:
    """Return a part of a message without folders, codes and dashes of options."""
    plain = _OPTION.sub(lambda found: found[1].replace("-", " "), _CODES_IN_BRACKETS.sub("", text))
    return _FOLDERS.sub("", _CODE.sub("", plain)).replace("+-", "±")


def drop_commands(lines: Iterable[str]) -> list[str]:
    """Return lines for a page: without the parts that name a command to type, and without folders of this machine.

    Examples:
        >>> drop_commands(["turn it (`stadia map A`); or wait; then stadia adapt NETWORK", "note: pass --scale-from"])
        ['turn it; or wait']
        >>> drop_commands(["write 8 bits: python -c 'import cv2; print(1)'; then choose it"])
        ['write 8 bits; then choose it']
        >>> drop_commands(["doubtful: M34 Depth leans: 3 %; expected 1 %", "scale from height=1.5: usable"])
        ['doubtful: Depth leans: 3 %; expected 1 %', 'scale from the camera height of 1.5 m: usable']
    """
    plain = (_CODES_IN_BRACKETS.sub("", _IN_BRACKETS.sub("", _PROGRAM.sub("", line))) for line in lines)
    texts = (_CODE.sub("", _name_lengths(line)) for line in plain)
    kept = ("; ".join(part for part in text.split("; ") if not _COMMAND.search(part)) for text in texts)
    shown = (re.sub("^(or|then|until then) ", "", line).replace("+-", "±") for line in kept if line.strip())
    return [_FOLDERS.sub("", line) for line in shown]


def _name_lengths(text: str) -> str:
    return _LENGTH.sub(lambda found: f"{_LENGTHS[found[1]]} of {found[2]} m", text)


def one_line(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a request handler so that its errors become replies with one line of text in JSON."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StadiaError as error:
            return refuse(describe_error(error))
        except ClientDisconnect:
            return refuse("The browser ended the upload.", 499)
        except MemoryError:
            return refuse("The server has no memory left. Choose a smaller file.", 507)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return refuse("The disk of the server is full. Free some space, then choose the file again.", 507)

    guarded.__name__ = getattr(endpoint, "__name__", "guarded")
    return guarded


def find_upload_kind(head: bytes) -> tuple[Kind, str]:
    r"""Return the kind of a file ("photo" or "video") and its suffix, from its first 16 bytes.

    Raises DataError for any other kind of file.

    Examples:
        >>> find_upload_kind(b"\xff\xd8\xff\xe0" + bytes(12))
        ('photo', '.jpg')
    """
    from stadia.io.image_io import find_image_format  # loads OpenCV

    if format := find_image_format(head):
        return "photo", ".jpg" if format == "JPEG" else f".{format.lower()}"
    if head[4:8] == b"ftyp":
        return "video", ".mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video", ".avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video", ".mkv"
    found = "an empty file" if not head else "another kind of file"
    raise _make_error(found, "choose a PNG, JPEG, WebP or HEIC picture, or an MP4, MOV, MKV or AVI video")


def _make_error(found: str, fix: str) -> DataError:
    return DataError(UPLOAD, found=found, expected="a picture or a video", fix=fix)


async def receive_upload(request: Request, folder: Path, kinds: Sequence[Kind]) -> Path:
    """Write the body of a request into a folder, as a file `upload` with the suffix of its kind; return its path.

    request: the request.
    folder: the folder.
    kinds: allowed kinds, "photo" or "video".

    Raises DataError for another kind of file, too many bytes, or a connection that is silent for MAX_SILENCE_S.
    """
    head, size, most, stream = b"", 0, MAX_PHOTO_BYTES, None
    path = folder / "upload"
    try:
        chunks = request.stream().__aiter__()
        while (chunk := await _receive(chunks)) is not None:
            size += len(chunk)
            if stream is None:
                head += chunk
                if len(head) < 16:
                    continue
                path, most = _name_upload(head, folder, kinds)
                stream, chunk = path.open("wb"), head
            if size > most:
                found = f"more than {most >> 20} MB"
                raise DataError(UPLOAD, found=found, expected=f"at most {most >> 20} MB", fix="make the file smaller")
            await run_in_threadpool(stream.write, chunk)
    finally:
        if stream is not None:
            stream.close()
    if stream is None:
        _name_upload(head, folder, kinds)  # raises for a short file
        raise DataError(UPLOAD, found="a file cut off", expected="a whole file", fix="upload the file again")
    return path


async def receive_file(request: Request, path: Path, max_bytes: int) -> None:
    """Write the body of a request into a new file.

    Raises DataError for more than `max_bytes` bytes, or a connection that is silent for MAX_SILENCE_S.
    """
    size, chunks = 0, request.stream().__aiter__()
    with path.open("xb") as stream:
        while (chunk := await _receive(chunks)) is not None:
            size += len(chunk)
            if size > max_bytes:
                found = f"more than {max_bytes >> 20} MB"
                raise DataError(
                    UPLOAD, found=found, expected=f"at most {max_bytes >> 20} MB", fix="make the file smaller"
                )
            await run_in_threadpool(stream.write, chunk)


async def _receive(chunks: AsyncIterator[bytes]) -> bytes | None:
    """Return the next chunk of an upload; None at its end."""
    try:
        return await asyncio.wait_for(anext(chunks, None), MAX_SILENCE_S)
    except TimeoutError:
        found, fix = f"nothing for {MAX_SILENCE_S:g} s", "choose the file again"
        raise DataError(UPLOAD, found=found, expected="the rest of the file", fix=fix) from None


def _name_upload(head: bytes, folder: Path, kinds: Sequence[Kind]) -> tuple[Path, int]:
    kind, suffix = find_upload_kind(head)
    if kind not in kinds:
        found, expected = f"a {kind}", f"a {' or a '.join(kinds)}"
        raise DataError(UPLOAD, found=found, expected=expected, fix="choose another file")
    return folder / f"upload{suffix}", MAX_PHOTO_BYTES if kind == "photo" else MAX_VIDEO_BYTES


async def read_json_body(request: Request) -> Any:
    """Return the JSON value in the body of a request.

    Raises DataError if it is too long or invalid.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_JSON_BYTES:
            raise DataError(
                "request",
                found=f"more than {MAX_JSON_BYTES} bytes",
                expected=f"at most {MAX_JSON_BYTES}",
                fix="send fewer values",
            )
    return parse_json("request", data.decode("utf-8", "replace"), "JSON")


def parse_form(model: type[StrictModel], values: Any) -> Any:
    """Check the values of a request by a model, and return an instance of the model.

    Raises ConfigError for the first wrong value.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "request"
        raise ConfigError(key, found=first["input"], expected=first["msg"]) from None


def parse_query_json(model: type[StrictModel], request: Request, key: str) -> Any:
    """Check the JSON value of a key in a request's query string by a model; without the key, the model's defaults.

    Raises DataError for invalid JSON, ConfigError for the first wrong value.
    """
    return parse_form(model, parse_json("request", request.query_params.get(key) or "{}", "JSON"))


def read_query(request: Request) -> dict[str, str]:
    """Return the values of a request's query string that are not empty."""
    return {key: text for key, text in request.query_params.items() if text}


def send_page(page: str) -> Response:
    """Return a reply that the browser saves as an HTML file."""
    headers = {"content-disposition": 'attachment; filename="stadia-result.html"'}
    return Response(page, media_type="text/html", headers=headers)
