"""Receive the files of one drop: photos of a scene, or the result of another program with its images."""

import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.geometry.cameras import focal_px_from_fov
from stadia.io.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.io.image_io import write_image
from stadia.io.input_files import open_input, read_bytes
from stadia.io.output_files import pack_files
from stadia.io.records.json_scenes import find_transforms, move_transforms
from stadia.io.video_decoding import VIDEO_SUFFIXES, stream_video
from stadia.web.app_state import AppState, get_state
from stadia.web.decoding import DecodedPhoto, DecodedVideo, decode_photo, shrink_image
from stadia.web.forms import UPLOAD, parse_form, read_json_body, read_query, receive_file
from stadia.web.gallery import CHECK_FOLDERS, ResultRecord
from stadia.web.guards import require_session
from stadia.web.run_routes import MAX_REPORT_BYTES, REPORT_POLICY
from stadia.web.sessions import find_kept
from stadia.web.video import MAX_VIDEO_FRAMES, MAX_VIDEO_SIDE, VideoJob, run_command
from stadia.web.video_routes import VideoForm, ending, set_store, show_preview, work_on_frames

MAX_DROP_BYTES = 512 << 20
"""Largest sum of the files of a drop, unpacked, bytes."""

MAX_DROP_FILES = 2000

MIN_PHOTOS = 3
"""Fewest photos that become one model."""

RESULT_SUFFIXES = (".txt", ".json", ".bin", ".csv", ".tum", ".npy", ".npz", ".glb", ".xml", ".yaml", ".yml", ".pose")
"""Files of results of other programs, and calibrations."""

CAMERA_SUFFIXES = (".yaml", ".yml", ".xml")
"""Suffixes of files that can only be calibrations."""

CAMERA_NAMES = ("k", "intrinsics", "intrinsic", "calib", "calibration")
"""Names of calibrations among files of other suffixes."""

PHOTO_RATE_HZ = 1.0
"""Rate at which the page plays photos."""

CHUNK_BYTES = 1 << 20

PAGE = f"{CHECK_FOLDERS[0]}/result.html"

_UNSAFE = re.compile(r"[^\w.\- ]")


@dataclass
class Drop:
    """Files that a user dropped together.

    job: its folder, and the work on it.
    size: bytes of its files.
    count: number of its files.
    skipped: number of files that were left out, because their name was there already or their kind is unknown.
    fixed: the corrected result, and its camera if it is another file; empty without one.
    about: of a stored verdict, whose files are gone, what was dropped; else empty.
    """

    job: VideoJob
    size: int = 0
    count: int = 0
    skipped: int = 0
    fixed: Sequence[Path] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the result."""
        results = self.count_files()["results"]
        return "" if not results else results[0] if len(results) == 1 else f"{results[0]} and {len(results) - 1} more"

    @property
    def page(self) -> Path:
        """Return the page of its verdict."""
        return self.job.folder / PAGE

    @property
    def has_page(self) -> bool:
        """Return whether it was judged."""
        return self.page.is_file()

    @property
    def result(self) -> Path:
        """Return the folder of the files of a result."""
        return self.job.folder / "result"

    @property
    def images(self) -> Path:
        """Return the folder of its images."""
        return self.job.folder / "images"

    @property
    def videos(self) -> Path:
        """Return the folder of its videos."""
        return self.job.folder / "videos"

    @property
    def corrected(self) -> Path:
        """Return the folder of the corrected result."""
        return self.job.folder / CHECK_FOLDERS[1]

    def list_files(self, folder: Path) -> list[Path]:
        """Return the files of one of its folders, in order."""
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def place(self, name: str) -> Path | None:
        """Return the path of a stored file: by its last name alone, so that it stays in the folder of the drop.

        name: name, or path within a folder or archive, as the user's computer states it.

        Returns None for a file to be left out.

        Examples:
            >>> Drop(VideoJob(Path("/drop"))).place("scene/images/../../a b.JPG")
            PosixPath('/drop/images/a b.JPG')
            >>> Drop(VideoJob(Path("/drop"))).place("scene/depth/000001.png")
            PosixPath('/drop/result/depth/000001.png')
        """
        given = PurePosixPath(name.replace("\\", "/"))
        safe = _UNSAFE.sub("_", given.name)[-120:]
        suffix, parent = Path(safe).suffix.lower(), given.parent.name.lower()
        if safe.startswith(".") or "mask" in parent:
            return None
        if "depth" in parent and suffix in (".png", ".npy", ".npz"):
            return self.result / "depth" / safe
        if suffix in RESULT_SUFFIXES:
            return self.result / safe
        if suffix in IMAGE_SUFFIXES:
            return self.images / safe
        return self.videos / safe if suffix in VIDEO_SUFFIXES else None

    def add(self, name: str, read: Callable[[int], bytes]) -> None:
        """Store one file, or count it as left out.

        name: as for `place`.
        read: returns at most so many bytes of the file, b"" at its end.

        Raises DataError if the drop is too large.
        """
        path = self.place(name)
        if path is None or path.exists():
            self.skipped += 1
            return
        self.count += 1
        if self.count > MAX_DROP_FILES:
            raise DataError(
                UPLOAD, found=f"more than {MAX_DROP_FILES} files", expected="fewer files", fix="drop every second image"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            while chunk := read(CHUNK_BYTES):
                self.size += len(chunk)
                if self.size > MAX_DROP_BYTES:
                    found, most = f"more than {MAX_DROP_BYTES >> 20} MB", f"at most {MAX_DROP_BYTES >> 20} MB together"
                    raise DataError(UPLOAD, found=found, expected=most, fix="drop fewer or smaller files")
                stream.write(chunk)

    def unpack(self, path: Path) -> None:
        """Store the files of a .zip archive, each by its last name; links and encrypted files are refused or left out.

        Raises DataError for a damaged or too large archive.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                most_files, most_bytes = 5 * MAX_DROP_FILES, 4 * MAX_DROP_BYTES
                size = sum(one.file_size for one in members)
                if len(members) > most_files or size > most_bytes:
                    found = f"an archive of {len(members)} files and {size >> 20} MB"
                    expected = f"at most {most_files} files and {most_bytes >> 20} MB"
                    raise DataError(UPLOAD, found=found, expected=expected, fix="pack only the result and its images")
                for member in members:
                    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
                    if not member.is_dir() and not is_link and self.place(member.filename) is not None:
                        with archive.open(member) as stream:
                            self.add(member.filename, stream.read)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            found, fix = f"an archive that cannot be unpacked ({type(error).__name__})", "pack it again as .zip"
            raise DataError(UPLOAD, found=found, expected="a .zip archive", fix=fix) from error

    def write_frames(self, folder: Path, max_side: int, max_frames: int) -> tuple[DecodedVideo, list[str]]:
        """Write the photos of the drop as numbered frames into a folder; files of another shape than the first are left
        out.

        folder: the new folder.
        max_side: longest side of the frames, pixels.
        max_frames: most photos.

        Returns the frames, and notes about what was left out. Raises DataError for a damaged photo, or fewer than
        MIN_PHOTOS of one shape.
        """
        folder.mkdir()
        first: DecodedPhoto | None = None
        paths, count, size = self.list_files(self.images), 0, (0, 0)
        for path in paths[:max_frames]:
            decoded = decode_photo(path)
            first = first or decoded
            if decoded.image.shape != first.image.shape:
                continue
            image = shrink_image(decoded.image, max_side)
            size = (image.shape[0], image.shape[1])
            write_image(folder / f"{count:06d}.jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
            count += 1
        if count < MIN_PHOTOS:
            found, expected = f"{count} photos of one shape", f"at least {MIN_PHOTOS} of one scene"
            raise DataError(UPLOAD, found=found, expected=expected, fix="drop more photos of one camera")
        left_out = len(paths) - count
        notes = [f"note: {left_out} of {len(paths)} photos are left out: another shape, or too many"] * (left_out > 0)
        fov_deg = None if first is None else first.fov_deg
        return DecodedVideo(count, 1, size, PHOTO_RATE_HZ, fov_deg, False), notes

    def count_files(self) -> Mapping[str, Any]:
        """Return what was dropped: names of the files of the result, the number of images, and names of videos."""
        results = [path.name for path in self.list_files(self.result)]
        videos = [path.name for path in self.list_files(self.videos)]
        return self.about or {"results": results, "images": len(self.list_files(self.images)), "videos": videos}

    def describe(self) -> dict[str, object]:
        """Return what was dropped and the progress of the work on it, as JSON."""
        job = self.job.describe()  # Before the rest: a job that is done has all of its files.
        known = {"skipped": self.skipped, "is_stored": bool(self.about), "has_fixed": bool(self.fixed)}
        return {**self.count_files(), **known, "has_page": self.has_page, **job}

    def read_image(self) -> NDArray[np.uint8]:
        """Return one of its images, or the first frame of its video (H, W, 3) RGB."""
        images = self.list_files(self.images)
        return (
            read_rgb(images[len(images) // 2]) if images else next(stream_video(self.list_files(self.videos)[0])).image
        )

    def find_camera(self) -> Path | None:
        """Return the calibration among the files of the result; None without one."""
        for path in self.list_files(self.result):
            is_named = path.suffix.lower() in CAMERA_SUFFIXES or path.stem.lower() in CAMERA_NAMES
            if is_named and path.suffix.lower() in (*CAMERA_SUFFIXES, ".txt", ".json"):
                return path
        return None

    def name_check(self, fov_deg: float | None) -> list[str]:
        """Return the words of the command that judges the result by its images.

        fov_deg: horizontal field of view that the user entered, degrees; None takes the camera of the result, or the
            calibration next to it.

        Raises ConfigError if the result or its images are missing.
        """
        results, camera = self.list_files(self.result), self.find_camera()
        videos, has_images = self.list_files(self.videos), bool(self.list_files(self.images))
        given = [path for path in results if path != camera]
        if not given:
            fix = "drop a COLMAP folder or .zip, transforms.json, or a trajectory"
            raise ConfigError("result", found="none", expected="the result of another program", fix=fix)
        if not has_images and not videos:
            raise ConfigError(
                "images",
                found="none",
                expected="the images that the dropped poses belong to",
                fix="drop the images or the video too",
            )
        result = given[0] if len(given) == 1 and not (self.result / "depth").is_dir() else self.result
        words = ["check", str(result), "--images", str(self.images if has_images else videos[0])]
        words += ["--report", str(self.page.parent), "--fix", str(self.corrected / result.name)]
        if fov_deg is not None:
            width = next(stream_video(videos[0])).image.shape[1] if videos else 0
            width = read_rgb(self.list_files(self.images)[0]).shape[1] if has_images else width
            words += ["--camera", f"fx={focal_px_from_fov(fov_deg, width):.6g}"]
        elif camera is not None and result != self.result:
            words += ["--camera", str(camera)]
        return words


class FileForm(StrictModel):
    """A file of a drop; its name, which may be a path on the user's computer."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]


class ResultForm(StrictModel):
    """How to judge a result.

    fov_deg: horizontal field of view of its camera, degrees; None takes the camera in the files.
    """

    fov_deg: Annotated[float, Field(ge=5, le=160)] | None = None


async def add_drop(request: Request) -> Response:
    """Start a drop, whose files are sent one by one."""
    session, state = require_session(request), get_state(request)
    folder = await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder))
    return JSONResponse({"drop": session.keep_drop(Drop(VideoJob(Path(folder), state="open")))})


async def add_file(request: Request) -> Response:
    """Receive one file of a drop; the files of a .zip archive are stored in its place."""
    drop, form = _find_open(request), parse_form(FileForm, read_query(request))
    with tempfile.TemporaryDirectory(dir=drop.job.folder) as folder:
        path = Path(folder) / "upload"
        await receive_file(request, path, MAX_DROP_BYTES)

        def store() -> None:
            if form.name.lower().endswith(".zip"):
                drop.unpack(path)
                return
            with open_input(path, expected="an upload", max_bytes=MAX_DROP_BYTES) as stream:
                drop.add(form.name, stream.read)

        try:
            await run_in_threadpool(store)
        except DataError:
            await _remove(request)
            raise
    return JSONResponse(drop.describe())


async def show_drop(request: Request) -> Response:
    """Reply with what was dropped, the progress of the work on it, and its end."""
    return JSONResponse(await run_in_threadpool(_find(request).describe))


async def cancel_drop(request: Request) -> Response:
    """End the work on a drop, and remove its files."""
    _find(request)
    await _remove(request)
    return JSONResponse({})


async def check_drop(request: Request) -> Response:
    """Judge the result of another program by its images, after the reply; the body holds a ResultForm."""
    drop, state = _find_open(request), get_state(request)
    form = parse_form(ResultForm, await read_json_body(request))
    words = await run_in_threadpool(drop.name_check, form.fov_deg)
    drop.job.state, drop.job.error = "waiting", ""
    session, key = require_session(request).key, request.path_params["key"]
    state.video_queue.submit(judge_drop, drop, words, partial(store_check, state, session, key))
    return JSONResponse({})


def store_check(state: AppState, session: str, key: str, drop: Drop) -> None:
    """Store a verdict on disk, if the server has a folder for results."""
    if state.gallery is not None:
        record = ResultRecord(kind="check", name=drop.name, time_s=time.time(), about=dict(drop.count_files()))
        state.gallery.save_check(session, key, record, drop.job.folder, drop.read_image())


def judge_drop(drop: Drop, words: list[str], store: Callable[[Drop], None]) -> None:
    """Run the command that judges a result, and store the verdict; the drop stays, so that a file can be added."""
    job = drop.job
    with ending(job):
        job.started = time.monotonic()
        job.go_on("checking")
        shutil.rmtree(drop.corrected, ignore_errors=True)  # of an earlier verdict
        why = run_command(job, [*words, "--force"])
        if not drop.has_page:
            job.state, job.error = "open", why or "the result cannot be judged"
            return
        drop.fixed = sorted(drop.corrected.glob("*"))
        for file in filter(None, map(find_transforms, drop.fixed)):
            move_transforms(
                file, file.parent, drop.result
            )  # The user puts it next to the images, where the given one is.
        store(drop)
        job.state = "done"


async def model_drop(request: Request) -> Response:
    """Make one model of the photos of a drop, after the reply; it is shown as a video. The body holds a VideoForm."""
    session, state, drop = require_session(request), get_state(request), _find_open(request)
    form = parse_form(VideoForm, await read_json_body(request))
    count = len(drop.list_files(drop.images))
    folder = await run_in_threadpool(lambda: tempfile.mkdtemp(dir=state.folder))
    job = VideoJob(Path(folder), name=f"{count} photos", network=form.network)
    key = session.keep_video(job)
    set_store(state, session.key, key, job)
    session.drops.pop(request.path_params["key"])
    state.video_queue.submit(make_model, state, job, drop, form)
    return JSONResponse({"video": key})


def make_model(state: AppState, job: VideoJob, drop: Drop, form: VideoForm) -> None:
    """Map and predict the photos of a drop, and remove the drop."""
    with ending(job):
        job.go_on("decoding")
        try:
            decoded, notes = drop.write_frames(job.frames, MAX_VIDEO_SIDE, MAX_VIDEO_FRAMES)
        finally:
            drop.job.close()
        show_preview(state, job, read_rgb(job.frames / "000000.jpg"), form)
        work_on_frames(state, job, decoded, form, notes)


async def show_page(request: Request) -> Response:
    """Reply with the page of a verdict; its policy gives it no access to this page or its cookies."""
    data = await run_in_threadpool(_read_page, request)
    return Response(data, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def download_page(request: Request) -> Response:
    """Reply with the page of a verdict as a file."""
    headers = {"content-disposition": 'attachment; filename="stadia-verdict.html"'}
    return Response(await run_in_threadpool(_read_page, request), media_type="text/html", headers=headers)


def _read_page(request: Request) -> bytes:
    drop = _find(request)
    if not drop.has_page:
        raise ConfigError("verdict", found="none yet", expected="a verdict", fix="wait for it")
    return read_bytes(drop.page, expected="a page", max_bytes=MAX_REPORT_BYTES)


async def download_fixed(request: Request) -> Response:
    """Reply with the corrected result in a .zip archive."""
    fixed = _find(request).fixed
    if not fixed:
        raise ConfigError(
            "corrected files",
            found="none",
            expected="a result with a convention that can be corrected",
            fix="read its verdict",
        )
    headers = {"content-disposition": 'attachment; filename="stadia-corrected.zip"'}
    return Response(await run_in_threadpool(pack_files, *fixed), media_type="application/zip", headers=headers)


async def _remove(request: Request) -> None:
    drop: Any = require_session(request).drops.pop(request.path_params["key"], None)
    if drop is not None:
        await run_in_threadpool(drop.job.close)


def _find(request: Request) -> Drop:
    """Return the drop of a request: one in memory, or a verdict on disk."""
    session, key, gallery = require_session(request), request.path_params["key"], get_state(request).gallery
    if key not in session.drops and gallery is not None:
        stored = gallery.find(session.key, key, "check")
        if stored is not None:
            drop = Drop(VideoJob(stored.folder, name=stored.record.name, state="done"), about=stored.record.about)
            drop.job.is_stored = True
            drop.fixed = sorted(drop.corrected.glob("*"))
            session.keep_drop(drop, key)
    found: Drop = find_kept(session.drops, key, UPLOAD)
    return found


def _find_open(request: Request) -> Drop:
    drop = _find(request)
    if drop.about:
        raise ConfigError(
            UPLOAD, found="a verdict whose files are gone", expected="files", fix="drop the result and its images again"
        )
    if drop.job.state not in ("open", "done"):
        raise ConfigError(UPLOAD, found=f"state {drop.job.state}", expected="open", fix="wait for it")
    return drop
