"""Every file from outside is read by `io.input_files` and `io.image_io`: this finds a reader that does not."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.source_trees import list_nodes

SOURCE = Path(__file__).parents[2] / "src" / "stadia"
BOUNDARY = ("io/input_files.py", "io/yaml_files.py", "io/array_files.py", "io/image_io.py", "io/atomic_files.py")

FORBIDDEN = {
    "read_text": "read_text of io.input_files",
    "read_bytes": "read_bytes of io.input_files",
    "np.load": "read_npy or read_npz of io.array_files",
    "np.loadtxt": "read_lines of io.input_files",
    "np.genfromtxt": "read_lines of io.input_files",
    "np.fromfile": "read_npy of io.array_files",
    "cv2.imread": "read_image of io.image_io",
    "cv2.imdecode": "decode_image of io.image_io",
    "cv2.imwrite": "write_image of io.image_io",
    "cv2.VideoCapture": "io.video_decoding",
    "yaml.safe_load": "read_yaml of io.yaml_files",
    "yaml.load": "read_yaml of io.yaml_files",
    "json.load": "read_json of io.input_files",
    "json.loads": "parse_json or parse_json_lines of io.input_files",
    "csv.reader": "read_csv of io.input_files",
    "csv.DictReader": "read_csv of io.input_files",
    "zipfile.ZipFile": "read_npz of io.array_files",
    "av.open": "io.video_decoding",
    "open": "open_input of io.input_files",
    "typer.echo": "echo of cli.output",
    "Console": "Terminal of core.terminal",
    "expanduser": "expand_home of io.input_files",
    "os.path.expanduser": "expand_home of io.input_files",
}
"""Call -> what to use instead. A method is named without its object."""

ALLOWED = {
    # "file.py:call": "why the file is not from outside",
    "cli/main.py:typer.echo": "its own help, in colors",
    "cli/app.py:typer.echo": "the address of the page with its token, which `echo` masks",
    "cli/output.py:typer.echo": "without control characters",
    "io/video_decoding.py:av.open": "after check_input_file, without playlists, protocols and huge frames",
    "core/memory.py:read_text": "files of the kernel about this process",
    "judge/catalog/__init__.py:read_text": "the catalog of findings ships with the package",
    "report/run_files.py:read_text": "the labels ship with the package",
    "web/server.py:read_text": "the page and its style sheets ship with the package",
    "training/loop/run_folder.py:json.loads": "a copy of values as JSON has them",
    "core/config.py:json.loads": "a copy of values as JSON has them, and words of the command line",
    "evaluation/plots/videos.py:av.open": "a video that is written",
    "networks/hub_download.py:open": "a file that this process downloaded, only to hash it",
    "predict/live/sources.py:av.open": "a camera or stream that the user names; images are bounded by size and time",
    "evaluation/point_clouds.py:open": "a cloud that this process wrote",
    "training/loop/processes.py:json.loads": "facts that the processes of one training exchange",
    "web/drops.py:zipfile.ZipFile": "an upload whose members and sizes are limited; an archive that is written",
    "web/gallery_routes.py:zipfile.ZipFile": "an archive that is written",
    "web/gallery_routes.py:open": "a kept result of this app, which is sent",
    "io/output_files.py:zipfile.ZipFile": "an archive that is written",
    "report/point_cloud_figures.py:json.loads": "a figure that this process made",
    "cli/result_page.py:read_bytes": "the corrected file that this process wrote",
    "scale/grammar.py:csv.reader": "rows without a header, of text that read_text read",
}


def _name_call(node: ast.Call) -> str:
    """Return `np.load`, `open` or, for a method, `read_text`."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        full = ast.unparse(function)
        return full if full in FORBIDDEN else function.attr
    return ""


def _is_read(node: ast.Call, name: str) -> bool:
    """Return whether a call reads: `open` without a mode that writes, and `read_text` of a path, not our function."""
    if name in ("read_text", "read_bytes"):
        return isinstance(node.func, ast.Attribute)
    if name != "open":
        return True
    if isinstance(node.func, ast.Attribute):
        takes_a_mode_alone = all(isinstance(arg, ast.Constant) for arg in node.args)
        if not takes_a_mode_alone or ast.unparse(node.func.value) in ("self", "super()", "reader"):
            return False  # Run.open(path), network.open(source, options)
    modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return not any(set(mode) & set("wax") and len(mode) <= 3 for mode in modes)


def _list_calls(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Call) and (name := _name_call(node)) in FORBIDDEN and _is_read(node, name):
            yield node.lineno, name


@pytest.mark.slow
def test_every_file_from_outside_is_read_at_the_boundary() -> None:
    """Also, no call is allowed that is not made any more."""
    found, used = [], set[str]()
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        for line, name in _list_calls(list_nodes(path)):
            used.add(f"{place}:{name}")
            if place not in BOUNDARY and f"{place}:{name}" not in ALLOWED:
                found.append(f"{place}:{line}: {name}; use {FORBIDDEN[name]}")
    assert not found, "\n".join(found)
    assert set(ALLOWED) <= used
