"""Receive the files of one drop: photos of a scene, or the result of another program with its images."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2

from stadia.core.errors import ConfigError, DataError
from stadia.geometry.numpy_camera import focal_px_from_fov
from stadia.io.image_files import IMAGE_SUFFIXES, read_rgb
from stadia.io.image_io import write_image
from stadia.io.video_decoding import VIDEO_SUFFIXES, stream_video
from stadia.web.decoding import DecodedPhoto, DecodedVideo, decode_photo, shrink_image
from stadia.web.forms import UPLOAD
from stadia.web.video import VideoJob

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

PAGE = "report/result.html"

_UNSAFE = re.compile(r"[^\w.\- ]")


@dataclass
class Drop:
    """Files that a user dropped together.

    job: its folder, and the work on it.
    size: bytes of its files.
    count: number of its files.
    skipped: number of files that were left out, because their name was there already or their kind is unknown.
    fixed: the corrected result; None without one.
    """

    job: VideoJob
    size: int = 0
    count: int = 0
    skipped: int = 0
    fixed: Path | None = None

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

    def list_files(self, folder: Path) -> list[Path]:
        """Return the files of one of its folders, in order."""
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def place(self, name: str) -> Path | None:
        """Return where a file is stored: by its last name alone, so that it stays in the folder of the drop.

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
            raise DataError(UPLOAD, found=f"more than {MAX_DROP_FILES} files", expected="less", fix="drop fewer")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            while chunk := read(CHUNK_BYTES):
                self.size += len(chunk)
                if self.size > MAX_DROP_BYTES:
                    found = f"more than {MAX_DROP_BYTES >> 20} MB"
                    raise DataError(UPLOAD, found=found, expected="less", fix="drop fewer or smaller files")
                stream.write(chunk)

    def unpack(self, path: Path) -> None:
        """Store the files of a .zip archive, each by its last name; links and encrypted files are refused or left out.

        Raises DataError for a damaged or too large archive.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                if len(members) > 5 * MAX_DROP_FILES or sum(one.file_size for one in members) > 4 * MAX_DROP_BYTES:
                    found = f"{len(members)} files in an archive"
                    raise DataError(UPLOAD, found=found, expected="less", fix="pack only the result and its images")
                for member in members:
                    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
                    if not member.is_dir() and not is_link and self.place(member.filename) is not None:
                        with archive.open(member) as stream:
                            self.add(member.filename, stream.read)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            found, fix = f"an archive that cannot be unpacked ({type(error).__name__})", "pack it again as .zip"
            raise DataError(UPLOAD, found=found, expected="a .zip archive", fix=fix) from error

    def write_frames(self, folder: Path, max_side: int, max_frames: int) -> tuple[DecodedVideo, list[str]]:
        """Write the photos of the drop as numbered frames into a folder; those of another shape than the first are left
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

    def describe(self) -> dict[str, object]:
        """Return what was dropped and the progress of the work on it, as JSON."""
        results = [path.name for path in self.list_files(self.result)]
        videos = [path.name for path in self.list_files(self.videos)]
        counts = {"images": len(self.list_files(self.images)), "videos": videos, "skipped": self.skipped}
        has_page = (self.job.folder / PAGE).is_file()
        return {
            "results": results,
            **counts,
            "has_page": has_page,
            "has_fixed": bool(self.fixed),
            **self.job.describe(),
        }

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
            raise ConfigError("images", found="none", expected="the images of the result", fix="drop them or the video")
        result = given[0] if len(given) == 1 and not (self.result / "depth").is_dir() else self.result
        words = ["check", str(result), "--images", str(self.images if has_images else videos[0])]
        words += ["--report", str((self.job.folder / PAGE).parent), "--fix", str(self.job.folder / "fixed" / "result")]
        if fov_deg is not None:
            width = next(stream_video(videos[0])).image.shape[1] if videos else 0
            width = read_rgb(self.list_files(self.images)[0]).shape[1] if has_images else width
            words += ["--camera", f"fx={focal_px_from_fov(fov_deg, width):.6g}"]
        elif camera is not None and result != self.result:
            words += ["--camera", str(camera)]
        return words


def pack_folder(path: Path) -> bytes:
    """Return a .zip archive of a file, or of the files in a folder and its subfolders."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path.parent))
    return stream.getvalue()
