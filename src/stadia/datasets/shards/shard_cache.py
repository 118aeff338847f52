"""Read parts of shards from a folder, or from a store through local copies of limited total size."""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import suppress
from pathlib import Path

from stadia.core.errors import DataError, StadiaError
from stadia.datasets.config import CacheConfig
from stadia.datasets.frame_store import find_cache_folder, lock_beside
from stadia.datasets.shards.shard_index import FIX, ShardIndex
from stadia.files.atomic_files import open_atomic
from stadia.files.input_files import open_input
from stadia.files.remote_store import RemoteStore, is_url

MIN_SHARDS = 2  # a sample at the end of a shard reads its neighbor from the next one


class DamagedShardError(DataError):
    """A shard is missing, or differs from its index. `data.damaged=skip` leaves out its samples."""


class ShardReader:
    """Reads images and depth of shards. Cheap to pickle; processes of one machine share the copies.

    A new copy is compared with its hash in the index, and each part that is read with its CRC-32. A damaged copy is
    fetched once more. The least recently used copies are removed first.

    files: the shards of a folder, by number; empty for a store.
    """

    def __init__(self, store: RemoteStore, index: ShardIndex, cache: CacheConfig) -> None:
        self.store, self.shards = store, index.shards
        self.is_local = not is_url(store.url)
        self.max_bytes = int(cache.shard_gb * 1e9)
        content = hashlib.sha256("".join(shard.sha256 for shard in index.shards).encode()).hexdigest()[:24]
        self._copies = str(find_cache_folder(cache) / "shards" / content)
        self.files = [Path(store.url) / shard.name for shard in index.shards] if self.is_local else []
        self.damaged: dict[int, str] = {}

    @property
    def folder(self) -> Path:
        """Return the folder of the copies."""
        return Path(self._copies)

    def read(self, shard: int, offset: int, length: int, crc: int) -> bytes:
        """Return a part of a shard. Raises DamagedShardError if the shard is missing or damaged."""
        name = self.store.join(self.shards[shard].name)
        if shard in self.damaged:
            raise DamagedShardError(name, found=self.damaged[shard], expected="the shard of the index", fix=FIX)
        for attempt in (1, 2):
            part = self._read_part(shard, offset, length)
            if len(part) == length and zlib.crc32(part) == crc:
                return part
            if self.is_local or attempt == 2:
                break
            with suppress(OSError):
                self._path(shard).unlink()
        found = f"{length} damaged bytes at {offset}" if len(part) == length else "a truncated shard"
        raise self._note_damage(shard, found)

    def prefetch(self, shard: int) -> None:
        """Copy a shard of a store before its first sample is read, which raises its faults."""
        if not self.is_local and shard not in self.damaged:
            with suppress(StadiaError):
                self._fetch(shard)

    def _note_damage(self, shard: int, found: str) -> DamagedShardError:
        self.damaged[shard] = found
        name = self.store.join(self.shards[shard].name)
        return DamagedShardError(name, found=found, expected="the shard of the index", fix=FIX)

    def _path(self, shard: int) -> Path:
        if self.is_local:
            return self.files[shard]
        return self.folder / Path(self.shards[shard].name).name

    def _read_part(self, shard: int, offset: int, length: int) -> bytes:
        if self.is_local and not self._path(shard).is_file():
            raise self._note_damage(shard, "no such file")
        while True:
            path = self._path(shard) if self.is_local else self._fetch(shard)
            try:
                with open_input(path, expected="a shard", max_bytes=1 << 34) as stream:
                    stream.seek(offset)
                    return stream.read(length)
            except DataError:
                if self.is_local or path.exists():  # another process may have removed it
                    raise

    def _fetch(self, shard: int) -> Path:
        path = self._path(shard)
        if not path.exists():
            with lock_beside(path):
                if not path.exists():
                    self._copy(shard, path)
        with suppress(OSError):
            os.utime(path)
        return path

    def _copy(self, shard: int, path: Path) -> None:
        entry = self.shards[shard]
        for _ in range(2):
            try:
                data = self.store.fetch(entry.name, max_bytes=entry.bytes)
            except DataError as error:
                if error.found == "no such file":
                    raise self._note_damage(shard, error.found) from error
                raise
            is_whole = len(data) == entry.bytes
            if is_whole and hashlib.sha256(data).hexdigest() == entry.sha256:
                break
        else:
            found = "content with another SHA-256" if is_whole else f"{len(data)} of {entry.bytes} bytes"
            raise self._note_damage(shard, found)
        self._make_room(entry.bytes)
        with open_atomic(path) as stream:
            stream.write(data)

    def _make_room(self, wanted: int) -> None:
        copies = list[tuple[float, int, Path]]()
        for path in self.folder.glob("*.bin"):
            with suppress(OSError):
                status = path.stat()
                copies.append((status.st_mtime, status.st_size, path))
        copies.sort()
        total = sum(size for _, size, _ in copies) + wanted
        while total > self.max_bytes and len(copies) >= MIN_SHARDS:
            _, size, path = copies.pop(0)
            with suppress(OSError):
                path.unlink()
            total -= size
