"""Pages in the browser: `stadia app` for your picture or video and the runs of this machine, `stadia view` in 3D."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.options import RUNS, ForceOption, InputSettings, argument, flag, option, refuse_options
from stadia.cli.output import echo
from stadia.core.errors import ConfigError, DataError, StadiaError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def app(
    context: typer.Context,
    networks: Annotated[
        list[str] | None, argument("Runs, checkpoints or networks; by default base, and the runs of --runs.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder whose runs are listed.")] = RUNS,
    data: Annotated[Path, typer.Option(help="The folder whose data the page may check.")] = Path(),
    results: Annotated[
        Path | None, option("The folder that keeps photos and videos across a restart; by default in the cache.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve; 0.0.0.0 for other machines.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve; 0 chooses a free one.")] = 7860,
    token: Annotated[
        str | None, option("Secret that browsers need, at least 16 characters; random by default.")
    ] = None,
    no_token: Annotated[bool, flag("--no-token", "Let every user of this machine open the page.")] = False,
    public: Annotated[
        str | None,
        option("Let everybody who opens this host name use photos and videos, and nothing else.", metavar="HOST"),
    ] = None,
    open_browser: Annotated[
        bool | None, flag("--open/--no-open", "Open the page in the browser (default: in a terminal on a desktop).")
    ] = None,
) -> None:
    """Open the app in the browser: photos, videos, runs, checks. Needs the extra `depth`."""
    from urllib.parse import urlencode

    for name, folder in (("--runs", runs), ("--data", data)):
        if not folder.is_dir() and folder != RUNS:
            raise ConfigError(name, found=f"no folder {folder}", expected="a folder", fix="check the path")
    if public:
        idle = ("runs", "data", "results", "token", "no_token")
        refuse_options(context, idle, found="no effect with --public", expected="a page for this machine alone")
    secret = None if public else _choose_token(token, host, no_token)
    from stadia.io.input_files import find_cache_folder
    from stadia.predict.networks import DEFAULT_NETWORK
    from stadia.web.networks import list_runs_with_weights
    from stadia.web.server import make_app, serve

    names = list(networks or ()) or [DEFAULT_NETWORK, *([] if public else list_runs_with_weights(runs))]
    for name in networks or ():
        _check_network(name)
    if public:
        application = make_app(names, public_host=public)
    else:
        results = (results or find_cache_folder() / "app-results").absolute()
        application = make_app(names, runs=runs, data=data, results=results, token=secret)

    def show_address(address: str) -> None:
        page = f"{address}?{urlencode({'token': secret})}" if secret else address
        typer.echo(f"page: {page}")  # with its token, which `echo` masks: a person opens this address
        echo(f"networks: {len(names)}. Ctrl-C ends it.", err=True)
        if has_desktop() if open_browser is None else open_browser:
            import webbrowser

            webbrowser.open_new_tab(page)

    serve(application, host, port, show_address)


def has_desktop() -> bool:
    """Return whether a person at this machine's screen started the command in a terminal."""
    has_screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return sys.stdout.isatty() and bool(has_screen) and "SSH_CONNECTION" not in os.environ


def _choose_token(token: str | None, host: str, no_token: bool) -> str | None:
    import secrets

    if no_token and token is not None:
        raise ConfigError("--no-token", found="--token", expected="one of the two", fix="remove one of them")
    if no_token and host not in LOOPBACK:
        found, expected = f"--host {host}, open to other machines", "a token"
        raise ConfigError("--no-token", found=found, expected=expected, fix="remove --no-token")
    if no_token:
        return None
    if token is None or token == "random":
        return secrets.token_urlsafe(24)
    if len(token) < 16 or not token.isascii() or not token.isprintable():
        found, expected = f"{len(token)} characters", "at least 16, of ASCII"
        raise ConfigError("--token", found=found, expected=expected, fix="remove --token for a random one")
    return token


def _check_network(name: str) -> None:
    from stadia.predict.networks.published_networks import is_network_name

    if not Path(name).exists() and not is_network_name(name):
        found, expected = "no such run or network", "a run, a checkpoint, or a published network"
        raise ConfigError(name, found=found, expected=expected, fix="see `stadia list networks`")


def view(
    context: typer.Context,
    data: Annotated[Path, argument("A dataset, a folder of images, a map, a run, or any program's poses.")],
    overrides: InputSettings = None,
    predictions: Annotated[Path | None, option("A folder of `stadia predict` of the same frames.")] = None,
    images: Annotated[Path | None, option("The images of a result; by default those next to it.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=500, help="Frames, evenly spread.")] = 60,
    host: Annotated[str, typer.Option(help="Address to serve.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve.")] = 8080,
    out: Annotated[Path | None, option("Write the page as one .html file to share, and serve nothing.")] = None,
    force: ForceOption = False,
) -> None:
    """Show a dataset, a prediction, a map, a run or the result of any program in 3D, in the browser."""
    from stadia.data.video.video_map import RECORD
    from stadia.io.atomic_files import write_text
    from stadia.io.output_files import check_replaceable
    from stadia.report.run_files import is_run_folder
    from stadia.web.scene import show_page

    if out is None:
        refuse_options(context, ["force"], found="no effect without --out", expected="a file of --out")
    else:
        found = "no effect with --out, which serves nothing"
        refuse_options(context, ["host", "port"], found=found, expected="a page that is served")
        out = check_replaceable(out, "report", inputs=[data, predictions], force=force)
    if images is not None:
        found = "no effect with --images"
        refuse_options(context, ("overrides", "predictions", "frames"), found=found, expected="the poses of a program")
    if kind := "a run" if is_run_folder(data) else "a map" if (data / RECORD).is_file() else "":
        of_data = ("overrides", "predictions", "frames", "images")
        refuse_options(context, of_data, found=f"no effect on {kind}", expected="a dataset or a folder of images")
    page = _make_page(data, overrides or [], predictions, images, frames)
    if out is not None:
        write_text(out, page)
        echo(f"page: {out}")
        return
    show_page(page, host, port, lambda address: echo(f"page: {address}"))


def _make_page(data: Path, overrides: list[str], predictions: Path | None, images: Path | None, frames: int) -> str:
    from stadia.data import open_recordings
    from stadia.data.config import parse_source_options
    from stadia.data.video.video_map import RECORD, read_map
    from stadia.io.input_files import is_existing_path, read_text
    from stadia.io.records.read import find_format
    from stadia.report.report_page import build_report
    from stadia.report.run_files import is_run_folder
    from stadia.web.scene import collect_map, collect_scene, render_result_scene, render_scene

    if is_run_folder(data):
        with tempfile.TemporaryDirectory() as folder:
            return read_text(build_report(data, Path(folder) / "report.html"), expected="a report")
    if (data / RECORD).is_file():
        return render_scene(data.name, collect_map(read_map(data)))
    if (data / "predictions.json").is_file():
        fix = f"stadia view INPUT --predictions {data}"
        raise ConfigError(data, found="a folder of predictions", expected="what was predicted", fix=fix)
    is_result = predictions is None and not overrides and is_existing_path(data) and find_format(data) is not None
    if images is not None:
        return render_result_scene(data, images)
    try:
        recordings = open_recordings(data, **parse_source_options(overrides))
        if not recordings:
            raise DataError(data, found="no recording", expected="one", fix="check the path")
        scene = collect_scene(recordings[0], predictions, frames)
    except StadiaError:
        if not is_result:
            raise
        return render_result_scene(data)
    points = sum(len(frame.points) for frame in scene.frames)
    echo(f"{recordings[0].name}: {len(scene.frames)} frames, {points} points; Ctrl-C ends it", err=True)
    return render_scene(recordings[0].name, scene)
