"""Messages between a process and its sandbox: a length, a JSON header, then the bytes of arrays.

Both sides check them; neither unpickles.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAX_HEADER_BYTES = 1 << 20  # of a message, without its arrays
_PREFIX = struct.Struct("<QQ")  # bytes of the header, and of all


def pack_message(value: Any) -> list[bytes]:
    """Return a value as the pieces of a message. Raises TypeError for a value that none can hold."""
    pieces: list[bytes] = []
    header = json.dumps(_encode(value, pieces)).encode()
    return [_PREFIX.pack(len(header), len(header) + sum(map(len, pieces))), header, *pieces]


def unpack_message(header: bytes, data: bytearray) -> Any:
    """Return the value of a message. Raises ValueError, TypeError or LookupError where it is none."""
    stream = io.BytesIO(data)
    value = _decode(json.loads(header), data, stream)
    if stream.tell() != len(data):
        raise ValueError("bytes that no array claims")
    return value


def _encode(value: Any, pieces: list[bytes]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Path):
        return {"path": os.fspath(value)}
    if isinstance(value, bytes):
        pieces.append(value)
        return {"bytes": len(value)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        pieces.append(np.ascontiguousarray(value).tobytes())
        return {"array": [value.dtype.str, list(value.shape)]}
    if isinstance(value, list):
        return [_encode(entry, pieces) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(entry, pieces) for entry in value]}
    if isinstance(value, dict):
        return {"map": [[_encode(key, pieces), _encode(entry, pieces)] for key, entry in value.items()]}
    raise TypeError(f"no message can hold {type(value).__name__}")


def _decode(value: Any, data: bytearray, stream: io.BytesIO) -> Any:
    if isinstance(value, list):
        return [_decode(entry, data, stream) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "float":
            return float(content)
        case "path":
            return Path(content)
        case "bytes":
            return bytes(_take(data, stream, int(content)))
        case "array":
            dtype, shape = np.dtype(str(content[0])), tuple(int(side) for side in content[1])
            if dtype.kind not in "biuf" or dtype.itemsize > 8 or min(shape, default=0) < 0:
                raise ValueError(f"an array of {dtype} and shape {shape}")
            return np.frombuffer(_take(data, stream, math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        case "tuple":
            return tuple(_decode(entry, data, stream) for entry in content)
        case "map":
            return {_decode(key, data, stream): _decode(entry, data, stream) for key, entry in content}
    raise ValueError(f"'{kind}'")


def _take(data: bytearray, stream: io.BytesIO, size: int) -> memoryview:
    start = stream.tell()
    if not 0 <= size <= len(data) - start:
        raise ValueError(f"{size} of {len(data) - start} bytes")
    stream.seek(size, os.SEEK_CUR)
    return memoryview(data)[start : start + size]


def read_message(stream: Any, max_bytes: int) -> Any:
    """Read a message of at most this size. Raises EOFError at the end of the stream, ValueError for a larger one."""
    header_bytes, size = _PREFIX.unpack(_read_exactly(stream, _PREFIX.size))
    if not header_bytes <= size or header_bytes > MAX_HEADER_BYTES or size > max_bytes + MAX_HEADER_BYTES:
        raise ValueError(f"{size} bytes, where {max_bytes} are accepted")
    header = _read_exactly(stream, header_bytes)
    return unpack_message(bytes(header), _read_exactly(stream, size - header_bytes))


def _read_exactly(stream: Any, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        chunk = stream.read(min(size - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def write_message(stream: BinaryIO, value: Any) -> None:
    """Write a value as a message, at once."""
    for piece in pack_message(value):
        stream.write(piece)
    stream.flush()
