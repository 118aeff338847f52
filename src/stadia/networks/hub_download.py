"""Download a repository of the Hugging Face hub. An interrupted file resumes, and its checksum is verified."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
from huggingface_hub.errors import HfHubHTTPError

from stadia.core.errors import CheckpointError, summarize_exception
from stadia.core.progress import SHOWN_PROGRESS

UNFINISHED = ".stadia-part"
"""Suffix of an unfinished download, which can resume. (The client of the hub would delete its own unfinished files.)"""

MEGABYTE = 1e6  # bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face hub, and its place in the local cache.

    name: name of the file in the repository.
    size: number of bytes.
    digest: SHA-256 of a large file, or git's SHA-1 hash of a small one.
    blob: path in the cache, whose file name is the digest.
    """

    name: str
    size: int
    digest: str
    blob: Path

    @property
    def partial(self) -> Path:
        """Return the path of the file's unfinished download."""
        return self.blob.with_name(self.blob.name + UNFINISHED)

    def matches(self, path: Path) -> bool:
        """Return whether the content of the file at `path` has the checksum that the hub announced."""
        is_large = len(self.digest) == hashlib.sha256().digest_size * 2
        hasher = hashlib.sha256() if is_large else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hasher).hexdigest() == self.digest


def find_cache(repository: str) -> Path:
    """Return the folder of a repository in the local cache of the Hugging Face hub; it may not exist."""
    return Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def count_downloaded_bytes(repository: str) -> int:
    """Return how many bytes of a repository are in the local cache, including unfinished downloads."""
    return sum(path.stat().st_size for path in (find_cache(repository) / "blobs").glob("*"))


def fetch_missing_files(source: str, repository: str, revision: str | None, patterns: Sequence[str]) -> None:
    """Download the files of a repository that the local cache lacks, so that `snapshot_download` finds them.

    If the hub does not reply, nothing is downloaded.

    source: the network's name as the user wrote it, for messages.
    repository: name of the repository on the hub, ORG/NAME.
    revision: commit, or None for the newest.
    patterns: wildcard patterns of the names of needed files.

    Raises CheckpointError if the connection breaks or a checksum differs, and HfHubHTTPError if the hub refuses.
    """
    try:
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    except HfHubHTTPError:
        raise
    except Exception as error:  # The classes of connection errors differ between versions of the client.
        log.debug("%s: the hub did not reply (%s)", repository, summarize_exception(error))
        return
    blobs = find_cache(repository) / "blobs"
    wanted = [entry for entry in info.siblings or () if any(fnmatch(entry.rfilename, one) for one in patterns)]
    files = [_read_entry(entry, blobs) for entry in wanted]
    missing = [file for file in files if file is not None and not file.blob.exists()]
    if not missing:
        return
    blobs.mkdir(parents=True, exist_ok=True)
    if not SHOWN_PROGRESS.is_silent:
        total = sum(file.size for file in missing) / MEGABYTE
        log.warning("downloading %.0f MB of %s/%s", total, huggingface_hub.constants.ENDPOINT, repository)
    for file in missing:
        _download(source, repository, info.sha, file)


def _read_entry(entry: Any, blobs: Path) -> HubFile | None:
    digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
    if not digest or entry.size is None:  # a hub of another kind: its client downloads the file
        return None
    return HubFile(entry.rfilename, entry.size, digest, blobs / digest)


def _download(source: str, repository: str, commit: str, file: HubFile) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, tqdm

    try:
        with file.partial.open("ab") as stream:
            if stream.tell() < file.size:
                http_get(
                    huggingface_hub.hf_hub_url(repository, file.name, revision=commit),
                    stream,
                    resume_size=stream.tell(),
                    headers=build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.name,
                    tqdm_class=partial(tqdm, disable=True) if SHOWN_PROGRESS.is_silent else None,
                )
    except HfHubHTTPError:
        raise
    except Exception as error:  # The classes of connection errors differ between versions of the client.
        done = file.partial.stat().st_size if file.partial.exists() else 0
        found = f"a download of {file.name} that broke after {done / MEGABYTE:.1f} MB ({summarize_exception(error)})"
        fix = "start the same command again, which continues the download"
        raise CheckpointError(source, found=found, expected=f"{file.size / MEGABYTE:.1f} MB", fix=fix) from error
    if not file.matches(file.partial):
        file.partial.unlink()
        found, fix = f"{file.name} with another checksum, which was deleted", "start the same command again"
        raise CheckpointError(source, found=found, expected=f"the hub's checksum {file.digest}", fix=fix)
    file.partial.replace(file.blob)
