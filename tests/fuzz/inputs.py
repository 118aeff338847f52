"""Strategies of nearly right files: sound ones with a part replaced, and formats built from hostile parts."""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from benchmarks.campaign.damage import TEXT
from hypothesis import strategies as st
from tests.fuzz.targets import CORPUS

from stadia.files.image_io import PNG_END, PNG_SIGNATURE

WORDS = (
    *(b"NaN", b"inf", b"-1", b"0", b"1e308", b"1e400", b"9" * 5000, b"9223372036854775808", b"null", b"true", b'"a"'),
    *(b"[1, 2]", b"{}", b"[]", b"\0", b"\x1b[31m", b"\xff", "\u00b2".encode(), "\u2028".encode(), b'"\\ud800"'),
    *(b"../../etc/passwd", b"/dev/zero", b"[" * 2000, b"&a", b"*a", b"!!timestamp x", b"\n", b",", b" ", b"#"),
)
NUMBERS = st.sampled_from([0, 1, 2, 13, 255, 65535, 1 << 16, 2**31 - 1, 2**32 - 1])
HOSTILE_VALUES = st.one_of(
    st.sampled_from(["", "..", "/", "a\0b", "\ud800", "\x1b[2J", "nan", "x" * 300, "1" * 5000]),
    st.sampled_from([None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("-inf"), 0.5]),
    st.sampled_from([[], {}, [[]], [[0]], {"": []}, [1, [2, 3]], {"1": {"2": 3}}, [0] * 16, [[0] * 3] * 3]),
)


def list_seeds(name: str) -> list[bytes]:
    """Return the files of a target's corpus, but those that once broke a promise: they need not be of its format."""
    files = sorted((CORPUS / name).glob("*"))
    return [path.read_bytes() for path in files if not path.name.startswith("crash-")]


def make_inputs(name: str) -> st.SearchStrategy[bytes]:
    """Return a strategy of nearly right inputs of a target."""
    seeds = list_seeds(name)
    strategies = [_damage(seeds)]
    if all(_is_json(seed) for seed in seeds):
        strategies.append(st.sampled_from(seeds).flatmap(_replace_value))
    if all(seed.isascii() for seed in seeds):
        strategies.append(st.builds(_replace_words, st.sampled_from(seeds), st.lists(_place_and_word(), max_size=3)))
    if name in BUILT:
        strategies.append(BUILT[name])
    return st.one_of(strategies)


def _place_and_word() -> st.SearchStrategy[tuple[int, bytes]]:
    return st.tuples(st.integers(0, 1 << 16), st.sampled_from(WORDS))


@st.composite
def _damage(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["cut", "drop", "twice", "insert", "flip", "word", "splice", "text"]))
        if kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + length :]
        elif kind == "twice":
            data = data[: at + length] + data[at:]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
        elif kind == "flip":
            data = data[:at] + bytes(255 - byte for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == "word":
            data = data[:at] + draw(st.sampled_from(WORDS)) + data[at:]
        elif kind == "splice":
            data = data[:at] + draw(st.sampled_from(seeds))[at:]
        else:
            data = TEXT[draw(st.sampled_from(["bom", "crlf", "list-only", "map-only", "scalar"]))](data, None)  # type: ignore[arg-type]
    return data


def _replace_words(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Replace words of a text: numbers, names, whatever stands between spaces, commas and colons."""
    for place, word in changes:
        found = list(re.finditer(rb"[^\s,:\[\]{}]+", data))
        if found:
            old = found[place % len(found)]
            data = data[: old.start()] + word + data[old.end() :]
    return data


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict | list)
    except ValueError:
        return False


def _list_places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        yield from _list_places(entry, (*path, key))


@st.composite
def _replace_value(draw: st.DrawFn, seed: bytes) -> bytes:
    """Replace, remove or wrap one value of a JSON file; its other values stay right."""
    value = {"": json.loads(seed)}
    path = draw(st.sampled_from(list(_list_places(value))[1:]))
    inner: Any = value
    for key in path[:-1]:
        inner = inner[key]
    kind = draw(st.sampled_from(["replace", "remove", "wrap"]))
    if kind == "remove" and len(path) > 1:
        del inner[path[-1]]
    else:
        inner[path[-1]] = [inner[path[-1]]] if kind == "wrap" else draw(HOSTILE_VALUES)
    return json.dumps(value[""]).encode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@st.composite
def _build_png(draw: st.DrawFn) -> bytes:
    sides = st.sampled_from([0, 1, 2, 5, 8, 30_000, 2**31 - 1, 2**32 - 1])
    bits, color = draw(st.sampled_from([0, 1, 2, 4, 8, 16, 99])), draw(st.integers(0, 7))
    header = struct.pack(">IIBBBBB", draw(sides), draw(sides), bits, color, 0, 0, draw(st.integers(0, 2)))
    kinds = st.sampled_from([b"IDAT", b"PLTE", b"tRNS", b"tEXt", b"iCCP", b"gAMA", b"eXIf", b"acTL", b"fcTL", b"fdAT"])
    chunks = [_chunk(b"IHDR", header)]
    for kind in draw(st.lists(kinds, max_size=4)):
        content = draw(st.binary(max_size=60))
        chunks.append(_chunk(kind, zlib.compress(content) if kind == b"IDAT" else content))
    return PNG_SIGNATURE + b"".join(chunks) + draw(st.sampled_from([PNG_END, b""]))


@st.composite
def _build_jpeg(draw: st.DrawFn) -> bytes:
    data = b"\xff\xd8"
    for marker in draw(st.lists(st.integers(0, 255), max_size=6)):
        content = draw(st.binary(max_size=30))
        length = draw(st.sampled_from([len(content) + 2] * 3 + [0, 1, 2, 65535]))
        data += bytes((255, marker)) + struct.pack(">H", length) + content
    return data + b"\xff\xd9"


NPY_KINDS = "<f4 >f8 |b1 <u2 |O <c8 <U9 <M8[s] <f2 <f16 |V8 a3 i4,i4"


@st.composite
def _build_npy(draw: st.DrawFn) -> bytes:
    kinds = [*NPY_KINDS.split(), [["a", "<f4"]]]
    sides = st.sampled_from([0, 1, 2, 3, -1, 10**6, 2**31, 2**63, 10**30])
    header = {
        "descr": draw(st.sampled_from(kinds)),
        "fortran_order": draw(st.sampled_from([True, False, 1, "a"])),
        "shape": tuple(draw(st.lists(sides, max_size=4))),
    }
    if draw(st.booleans()):
        header[draw(st.sampled_from(["shape", "extra", "descr"]))] = draw(HOSTILE_VALUES)
    text = draw(st.sampled_from([repr(header), repr(header)[:-1], "(" * 300, "__import__('os').abort()"])).encode()
    version = draw(st.sampled_from([1, 1, 2, 3, 9]))
    size = draw(st.sampled_from([len(text), len(text), 0, 9999, 65535]))
    data = draw(st.binary(max_size=64)) * draw(st.sampled_from([1, 1, 50]))
    return b"\x93NUMPY" + bytes((version, 0)) + size.to_bytes(2 if version == 1 else 4, "little") + text + b"\n" + data


@st.composite
def _build_npz(draw: st.DrawFn) -> bytes:
    stream = io.BytesIO()
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from(methods))) as archive:
        for number in range(draw(st.integers(0, 3))):
            name = draw(st.sampled_from(["depth_m.npy", "../a.npy", "a", "\x1b[2J.npy", "x" * 300]))
            archive.writestr(f"{number}{name}" if number else name, draw(_build_npy()))
    data = bytearray(stream.getvalue())
    for _ in range(draw(st.integers(0, 2))):  # sizes, flags and offsets of the list of members
        at = draw(st.integers(max(len(data) - 90, 0), len(data) - 4))
        data[at : at + 4] = struct.pack("<I", draw(NUMBERS))
    return bytes(data)


@st.composite
def _build_ply(draw: st.DrawFn) -> bytes:
    layout = draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian", "other"]))
    lines = ["ply", f"format {layout} 1.0"]
    for name in draw(st.lists(st.sampled_from(["vertex", "face", "edge"]), max_size=3)):
        count = draw(st.sampled_from(["0", "1", "3", "-1", "9" * 30, "\u00b2", "2147483648"]))
        lines.append(f"element {name} {count}")
        kinds = st.sampled_from(["float x", "float y", "double z", "list uchar int vertex_indices", "list float int a"])
        lines += [f"property {kind}" for kind in draw(st.lists(kinds, max_size=4))]
    body = draw(st.binary(max_size=100) | st.sampled_from([b"0 0 1\n" * 3 + b"3 0 1 2\n", b"nan 1e400 x\n"]))
    return "\n".join([*lines, "end_header\n"]).encode() + body


@st.composite
def _build_checkpoint(draw: st.DrawFn) -> bytes:
    seed = list_seeds("checkpoint")[0]
    (length,) = struct.unpack_from("<Q", seed)
    header = json.loads(seed[8 : 8 + length])
    stadia = json.loads(header["__metadata__"]["stadia"])
    inner: Any = draw(
        st.sampled_from([stadia, stadia["state"], stadia["checksums"], header, header["state_dict/weight"]])
    )
    inner[draw(st.sampled_from([*inner, "$items", "$tuple", "$float", "$tensor"]))] = draw(HOSTILE_VALUES)
    if isinstance(header.get("__metadata__"), dict) and "stadia" in header["__metadata__"]:
        header["__metadata__"]["stadia"] = json.dumps(stadia)
    text = json.dumps(header).encode()
    return struct.pack("<Q", draw(st.sampled_from([len(text)] * 4 + [0, 2**63]))) + text + seed[8 + length :]


YAML_PIECES = (
    *("a: 1\n", "- b\n", "a: &x [*x]\n", "b: *x\n", "? [1]\n: 2\n", "<<: {a: 1}\n", "!!python/object:os.system x\n"),
    *("a: !!int abc\n", "a: !!float x\n", "a: !!bool x\n", "a: 0x" + "f" * 90 + "\n", "a: 1:2:3\n", "a: .nan\n"),
    *("--- a\n", "...\n", "a: |\n  b\n", "a: 'b\n", "{a: [", "a: 2020-99-99\n", "a: !!timestamp 1\n", "seeds: [a]\n"),
    *("\t", "%YAML 9\n", "\ufeff"),
)

BUILT: dict[str, st.SearchStrategy[bytes]] = {
    "checkpoint": _build_checkpoint(),
    "depth_npz": _build_npz(),
    "image_header": _build_png() | _build_jpeg(),
    "jpeg": _build_jpeg(),
    "npy": _build_npy(),
    "npz": _build_npz(),
    "ply": _build_ply(),
    "png": _build_png(),
    "rgb": _build_jpeg(),
} | dict.fromkeys(
    ("yaml", "study_yaml", "search_space", "euroc_camera"),
    st.lists(st.sampled_from(YAML_PIECES), max_size=8).map(lambda pieces: "".join(pieces).encode()),
)
