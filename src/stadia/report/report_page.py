"""Write report.html: one self-contained file about a run's folder."""

import base64
import functools
import getpass
import hashlib
import json
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from stadia import __version__
from stadia.core.errors import DataError, StadiaError
from stadia.io.atomic_files import write_text
from stadia.io.image_io import read_image
from stadia.io.input_files import read_json, read_text, safe_join
from stadia.report import figures, score_tables
from stadia.report.figures import MIN_CURVE_STEPS, Chart
from stadia.report.quality_summary import describe_quality, make_tiles, make_verdict
from stadia.report.run_comparison import compare_runs
from stadia.report.run_files import (
    METRES,
    EvidenceLayout,
    PanelLabel,
    RunFiles,
    arrange_evidence,
    as_list,
    check_inside,
    describe_depth_scale,
    describe_scale_source,
    describe_status,
    explain_sheets,
    find_previous_run,
    flatten_mapping,
    format_duration,
    format_number,
    label_validation_image,
    read_run,
    step_from_filename,
)

MAX_BYTES = 64 << 20
MAX_MAPS, MAX_DRAWN, MAX_SHEETS = 6, 3, 9
# This percentile of inverse depth gets the brightest color, so that a few near pixels do not darken the rest.
NEAR_PERCENTILE = 95
PNG_PER_METRE = 256.0  # Depth images of predictions have 256 levels per metre.
MIN_TICK_GAP = 12.0  # percent of the color scale between two labels
COLOR_STOPS = 9  # number of colors of the scale; colors between them are interpolated
BASELINES = ("mean-depth",)  # recipes without training


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def embed_image_file(path: Path, name: str, run: RunFiles) -> EmbeddedImage | None:
    """Return a PNG as a JPEG at most `SHEET_WIDTH` wide. An invalid file adds a line to `unreadable`."""
    image = decode_png(path, cv2.IMREAD_COLOR, run.folder)
    if image is None:
        run.unreadable.append(f"{name}: not a valid PNG, or a link out of the run")
        return None
    return encode_jpeg(image, SHEET_WIDTH)


@dataclass(frozen=True)
class DepthFigure:
    """The predicted depth of a frame in colors.

    picture: the image of the frame, or None.
    ticks: (position in percent, label) of the color scale.
    """

    frame: str
    picture: EmbeddedImage | None
    depth: EmbeddedImage
    ticks: list[tuple[float, str]]
    unit: str


def embed_predicted_depth(run: RunFiles) -> list[DepthFigure]:
    """Return the depth in colors for the middle frame of each scored prediction, at most `MAX_MAPS`."""
    shown: dict[str, DepthFigure] = {}
    for path in sorted(run.folder.glob("predictions/**/predictions.json")):
        try:
            record = read_json(check_inside(run.folder, path))
            if not record["finished"] or record["recipe"] in BASELINES or len(shown) == MAX_MAPS:
                continue
            if (path.parent / "drawn").is_dir():  # shown by `embed_drawn_predictions`
                continue
            name = str(record["entries"][len(record["entries"]) // 2])
            depth = decode_png(safe_join(path.parent / "depth", f"{name}.png"), cv2.IMREAD_UNCHANGED, run.folder)
            picture = decode_png(safe_join(path.parent / "images", f"{name}.png"), cv2.IMREAD_COLOR, run.folder)
        except _UNREADABLE as error:
            _list_unreadable(path, error, run)
            continue
        if depth is not None and depth.ndim == 2 and depth.dtype == np.uint16:  # inverse depth has no such image
            frame, is_metric = f"{record['source']}/{name}", record.get("depth_scale") == METRES
            shown.setdefault(frame, _make_depth_figure(frame, depth, picture, is_metric=is_metric))
    return list(shown.values())


def _make_depth_figure(
    frame: str, depth: NDArray[np.uint16], picture: NDArray[np.uint8] | None, *, is_metric: bool
) -> DepthFigure:
    """Color depth (H, W) in counts of a PNG, 0 = none, and label the scale in metres or in nearest depths."""
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape), where=depth > 0)
    top = float(np.percentile(inverse[depth > 0], NEAR_PERCENTILE)) if depth.any() else 1.0
    near = 1 / (top * PNG_PER_METRE) if is_metric else 1.0
    return DepthFigure(
        frame,
        None if picture is None else encode_jpeg(picture, MAP_WIDTH),
        encode_jpeg(_color_shares(inverse / top), MAP_WIDTH),
        choose_depth_ticks(near),
        "metres" if is_metric else "relative, 1 is the nearest",
    )


def choose_depth_ticks(near: float) -> list[tuple[float, str]]:
    """Return (percent, label) of round depths on a scale of inverse depth that goes from `near` to infinity."""
    ticks = [(0.0, f"{near:.3g}")]
    power = math.floor(math.log10(near))
    for depth in (m * 10.0**exponent for exponent in range(power, power + 3) for m in (1, 2, 5)):
        at = 100 * (1 - near / depth)
        if ticks[-1][0] + MIN_TICK_GAP <= at <= 100 - MIN_TICK_GAP:
            ticks.append((at, f"{depth:g}"))
    return [*ticks, (100.0, "∞")]


def describe_color_scale() -> str:
    """Return the colors of the scale from near to far, as a CSS gradient."""
    bgr = _color_shares(np.linspace(1, 0, COLOR_STOPS)[None])[0]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r}, {g}, {b})" for b, g, r in bgr.tolist()) + ")"


_UNREADABLE = (StadiaError, OSError, ValueError, LookupError, TypeError)


def _list_unreadable(path: Path, error: Exception, run: RunFiles) -> None:
    reason = error.found if isinstance(error, StadiaError) else repr(error)
    run.unreadable.append(f"{path.relative_to(run.folder)}: {reason}")


def embed_drawn_predictions(run: RunFiles) -> list[tuple[str, EmbeddedImage]]:
    """Return (source/name, drawn prediction) of predictions that are spread evenly, at most `MAX_MAPS`."""
    drawn: list[tuple[str, EmbeddedImage]] = []
    for folder in sorted(run.folder.glob("predictions/**/drawn")):
        files = sorted(folder.glob("*.png"))
        for file in files[:: -(-len(files) // MAX_DRAWN) or 1]:
            name = str(file.relative_to(run.folder / "predictions").with_suffix(""))
            if len(drawn) < MAX_MAPS and (image := embed_image_file(file, name, run)) is not None:
                drawn.append((name.replace("/drawn/", "/"), image))
    return drawn


def _color_shares(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Color (H, W) inverse depth, 1 = nearest, as (H, W, 3) BGR: bright is near, black is none."""
    gray = (np.clip(shares, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_MAGMA), np.uint8)


def decode_png(path: Path, flags: int, folder: Path) -> NDArray[Any] | None:
    """Return an image in a run's folder, (H, W) or (H, W, C), or None.

    It is None if the file is missing, outside the folder, truncated or too large.
    """
    try:
        return read_image(check_inside(folder, path), flags, max_bytes=MAX_BYTES)
    except DataError:
        return None


def encode_jpeg(image: NDArray[Any], max_width: int) -> EmbeddedImage:
    """Return an image (H, W, 3) BGR as a JPEG at most `max_width` pixels wide."""
    height, width = image.shape[:2]
    if width > max_width:
        height, width = max(1, round(height * max_width / width)), max_width
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return EmbeddedImage("data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode(), width, height)


# -- Point clouds of scored frames: data for the page's script, which draws them.

MAX_CLOUDS, MAX_CLOUD_PIXELS = 2, 65_536


@dataclass(frozen=True)
class PointCloudFigure:
    """A point cloud of the page.

    points: base64 of depth (h, w) uint16 with 0 for unknown, then of RGB (h, w, 3).
    view: camera and unit as JSON.
    """

    name: str
    frame: str
    unit: str
    points: str
    view: str


def load_point_clouds(run: RunFiles) -> list[PointCloudFigure]:
    """Return at most MAX_CLOUDS point clouds of a run. Unreadable files add a line to `unreadable`."""
    clouds: dict[tuple[str, str], PointCloudFigure] = {}
    for camera in sorted(run.folder.glob("clouds/*/camera.json")):
        try:
            if len(clouds) < MAX_CLOUDS:
                cloud = _load_point_cloud(camera, run.folder)
                clouds.setdefault((cloud.frame, cloud.points), cloud)
        except _UNREADABLE as error:
            _list_unreadable(camera.parent, error, run)
    return list(clouds.values())


def _load_point_cloud(camera: Path, run: Path) -> PointCloudFigure:
    about = read_json(check_inside(run, camera))
    depth = decode_png(camera.parent / "depth.png", cv2.IMREAD_UNCHANGED, run)
    image = decode_png(camera.parent / "image.png", cv2.IMREAD_COLOR, run)
    is_depth = depth is not None and depth.dtype == np.uint16 and depth.ndim == 2
    if depth is None or image is None or not is_depth or image.shape != (*depth.shape, 3):
        raise ValueError("the folder needs a 16-bit depth.png and an image.png of the same size")
    count = np.count_nonzero(depth)
    if depth.size > MAX_CLOUD_PIXELS or not count:
        raise ValueError(f"{depth.size} pixels with {count} points, expected 1 to {MAX_CLOUD_PIXELS}")
    (fx, _, cx), (_, fy, cy), _ = np.asarray(about["K"], np.float64).tolist()
    per_count = float(about["depth_per_count"])
    if not all(map(math.isfinite, (fx, fy, cx, cy, per_count))) or min(fx, fy, per_count) <= 0:
        raise ValueError(f"a camera of {(fx, fy, cx, cy, per_count)}")
    name, frame, scale = f"{camera.parent.name}: {about['frame']}", str(about["frame"]), about["depth_scale"]
    return pack_point_cloud(name, frame, depth, image[..., ::-1], (fx, fy, cx, cy), per_count, scale)


def pack_point_cloud(
    name: str,
    frame: str,
    counts: NDArray[np.uint16],
    image: NDArray[np.uint8],
    camera: tuple[float, float, float, float],
    per_count: float,
    depth_scale: str,
) -> PointCloudFigure:
    """Return the point cloud of a picture for the script of the page.

    counts: (H, W) uint16 depth; 0 means unknown.
    image: (H, W, 3) picture.
    camera: fx, fy, cx and cy for this size.
    per_count: depth of one count.
    """
    fx, fy, cx, cy = camera
    view = {"rows": counts.shape[0], "columns": counts.shape[1], "perCount": per_count}
    view |= {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
    unit = "m" if depth_scale == METRES else "units of depth"
    points = base64.b64encode(counts.astype("<u2").tobytes() + image.tobytes()).decode()
    return PointCloudFigure(name=name, frame=frame, unit=unit, points=points, view=json.dumps(view))


# -- Images that the training logged.


def embed_image_sheets(run: RunFiles) -> list[tuple[int, EmbeddedImage]]:
    """Return at most `MAX_SHEETS` image sheets with their steps, spread evenly over the run."""
    count = len(run.images)
    chosen = sorted({round(i * (count - 1) / (MAX_SHEETS - 1)) for i in range(MAX_SHEETS)}) if count else []
    images = ((run.images[i][0], _embed_run_image(run.images[i][1], run)) for i in chosen)
    return [(step, image) for step, image in images if image is not None]


def embed_validation_images(run: RunFiles) -> list[tuple[PanelLabel, int, EmbeddedImage]]:
    """Return (label, step, image) of the last image of each kind of validation image."""
    last = {path.parent.name: path for path in sorted(run.folder.glob("images/*/step-*.png"))}
    images = ((name, step_from_filename(path), _embed_run_image(path, run)) for name, path in last.items())
    return [(label_validation_image(name), step, image) for name, step, image in images if image is not None]


def _embed_run_image(path: Path, run: RunFiles) -> EmbeddedImage | None:
    return embed_image_file(path, path.relative_to(run.folder).as_posix(), run)


# -- page

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
SHARED_FOLDER = Path(__file__).parent / "shared"  # files that the app serves too: colors, type, and points in 3D

POINTS_SCRIPT, PAGE_SCRIPT = SHARED_FOLDER / "points.js", TEMPLATE_FOLDER / "report.js"

SEVERITIES = ("stop", "warn", "note")
NOT_CHECKED_FAMILY = "N"  # codes of checks that could not run, as in `diagnostics.finding.Family`
MAX_PATCH_LINES = 400
MAIN_CURVES = 4  # unfolded: the loss, its terms, validation
MAX_NAMES = 3  # recordings of a finding
MAX_SHORT_SERIES = 12  # listed by name; more are counted
PATH_METRICS = ("path_m", "ate_m", "ate_rmse_m")  # scores of a camera's path


def build_report(
    run: Path, out: Path | None = None, *, private: bool = False, warn: Callable[[str], object] = lambda line: None
) -> Path:
    """Write the report of a run as one self-contained HTML file, and return its path. The run may be unfinished.

    run: folder of the run.
    out: file to write; by default RUN/report.html.
    private: whether to show command line, absolute paths and uncommitted code.
    warn: called with a line for each file that is lost or unreadable.

    Raises DataError if the folder is not a run.
    """
    files = read_run(run)
    before = find_previous_run(files)
    if not private:
        files, before = hide_private_parts(files), before and hide_private_parts(before)
    path = out or files.folder / "report.html"
    page = _render_page(files, before)
    for line in [*files.lost, *files.unreadable]:
        warn(str(line))
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))  # names of any bytes, half of a surrogate pair
    return path


@functools.cache
def make_environment() -> Environment:
    """Return the environment of the templates, which are compiled once per process."""
    options: Any = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDER), **options)
    sheets = SHARED_FOLDER / "theme.css", TEMPLATE_FOLDER / "report.css"
    environment.globals["style"] = "".join(read_text(sheet, expected="a part of the page") for sheet in sheets)
    return environment


def embed_scripts(paths: Sequence[Path]) -> dict[str, str]:
    """Return the text of scripts and its hash, which the security policy of the page names."""
    script = "".join(read_text(path, expected="a part of the page") for path in paths)
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}


def render_charts(charts: Sequence[Chart]) -> list[str]:
    """Return charts with their legends as HTML. The app shows them, too."""
    macros = make_environment().get_template("macros.html").module
    return [str(macros.chart_card(chart)) for chart in charts]  # type: ignore[attr-defined]


def _render_page(run: RunFiles, before: RunFiles | None) -> str:
    template = make_environment().get_template("report.html")
    depth_scale, findings = _describe_depth_scale(run), list_findings(run)
    clouds = load_point_clouds(run)
    scores = score_tables.merge_equal_scores(run.scores)
    facts = {
        key: value
        for key, value in flatten_mapping(run.facts.to_json()).items()
        if not key.startswith(("environment", "time."))
    }
    series = [s for s in run.series if not figures.is_calibration(s)]
    return template.render(
        name=run.folder.resolve().name,
        run=run,
        stadia_version=__version__,
        model=run.facts.recipe_facts.model or "",
        status=describe_status(run.facts.status, run.facts.predictions),
        trained_on=_describe_training(run),
        facts=_list_run_facts(run),
        error=run.facts.error,
        depth_scale=depth_scale,
        quality=describe_quality(run, predicts_depth=depth_scale is not None),
        verdict=make_verdict(run),
        tiles=make_tiles(run),
        findings=findings,
        not_checked=list_unchecked(run),
        severities={s: count for s in SEVERITIES if (count := sum(f.get("severity") == s for f, *_ in findings))},
        short_series=figures.list_short_series(series, run.spreads),
        curves=figures.make_curves(series, figures.list_stages(run)),
        main_curves=MAIN_CURVES,
        max_short_series=MAX_SHORT_SERIES,
        min_curve_steps=MIN_CURVE_STEPS,
        layers=figures.make_layer_plots(run.spreads),
        time_spent=figures.summarize_time(run.facts.time),
        uncertainty=[
            *figures.make_sparsification_plots(scores),
            *filter(None, [figures.make_calibration_plot(run.series)]),
        ],
        sheets=embed_image_sheets(run),
        sheet_notes=explain_sheets(s.name for s in series),
        of_validation=embed_validation_images(run),
        predicted=embed_predicted_depth(run),
        color_scale=describe_color_scale(),
        has_depth_scores=score_tables.has_depth_scores(run),
        drawn=embed_drawn_predictions(run),
        clouds=clouds,
        receipts=score_tables.list_scale_receipts(run),
        score_tables=score_tables.make_score_tables(scores),
        image_scores=score_tables.make_image_scores(score_tables.leave_out_mirrored(scores)),
        paths=score_tables.make_path_figures(run.scores),
        changes=compare_runs(before, run) if before is not None else None,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        environment={name: value for name, value in flatten_mapping(asdict(run.facts.environment)).items() if value},
        provenance=facts,
        patch="\n".join(run.patch.splitlines()[:MAX_PATCH_LINES]),
        **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if clouds else [PAGE_SCRIPT]),
    )


def _describe_depth_scale(run: RunFiles) -> tuple[str, str] | None:
    facts = run.facts.recipe_facts
    depth_scales = (
        run.result.get("depth_scale"),
        facts.depth_scale,
        *(s.get("depth_scale") for s in run.scores.values()),
    )
    depth_scale = next(filter(None, depth_scales), None)
    if depth_scale is None and run.facts.status == "finished":
        return None
    keys = (key for values in (run.result, *run.scores.values()) for key in flatten_mapping(values))
    has_path = any(key.rsplit(".", 1)[-1] in PATH_METRICS for key in keys)
    label, meaning = describe_depth_scale(depth_scale, facts.scale_from, path=has_path)
    source = describe_scale_source(depth_scale, facts.rests_on, facts.no_metres)
    fits = score_tables.describe_alignments(run.scores)
    return label, " ".join(filter(None, (meaning, source, fits)))


def _describe_training(run: RunFiles) -> str:
    path, steps = run.facts.data.get("path"), run.steps
    name = Path(path).name if isinstance(path, str) else ""
    on_data = f" on {name}" if name not in ("", "…") else ""  # a home folder is hidden
    return f"trained{on_data}" + (f", {format_number(steps)} step{'s' * (steps != 1)}" if steps is not None else "")


def _list_run_facts(run: RunFiles) -> list[str]:
    started, finished = (_parse_time(text) for text in (run.facts.started, run.facts.finished))
    facts = [f"{started.day} {started:%B %Y, %H:%M}"] if started else []
    if time_text := _describe_duration(run, started, finished):
        facts.append(time_text)
    if (steps := run.steps) is not None:
        facts.append(f"{format_number(steps)} step{'s' * (steps != 1)}{_describe_best_step(run, steps)}")
    if run.recipe_class:
        facts.append(f"trained by the class {run.recipe_class}")
    if weights := run.facts.weights:
        facts.append(", ".join(f"{name.replace('_', ' ')} {origin}" for name, origin in weights.items()))
    if licence := run.facts.recipe_facts.licence:
        facts.append(f"licence of the published weights: {licence}")
    return facts


def _describe_duration(run: RunFiles, started: datetime | None, finished: datetime | None) -> str:
    if parts := len(run.facts.resumed):
        times = run.facts.time
        is_whole = times is not None and times.steps == run.steps  # The times cover all parts of the run.
        took = f"took {format_duration(times.wall_s)} to train and validate, " if times and is_whole else ""
        return f"{took}in {parts + 1} parts"
    if started and finished and (seconds := finished.timestamp() - started.timestamp()) >= 0:
        return f"took {format_duration(seconds)} to train and validate"
    return ""


def _describe_best_step(run: RunFiles, steps: int) -> str:
    best = run.facts.judged.steps if run.facts.judged else None
    return f" (best checkpoint: step {best})" if best is not None and best < steps else ""


def _parse_time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


# -- Findings.


def list_findings(run: RunFiles) -> list[tuple[dict[str, Any], str, EvidenceLayout, EmbeddedImage | None]]:
    """Return (finding, where, evidence, image) in written order, without skipped checks."""
    shown = []
    for finding in run.findings:
        if not _is_skipped_check(finding):
            evidence = finding.get("evidence")
            arranged = arrange_evidence(evidence if isinstance(evidence, dict) else {})
            shown.append((finding, _format_where(finding), arranged, _embed_evidence_image(arranged.image, run)))
    return shown


def list_unchecked(run: RunFiles) -> list[tuple[str, str]]:
    """Return (what was not checked and why, where) of each skipped check."""
    skipped = filter(_is_skipped_check, run.findings)
    return [(str(finding.get("measured") or ""), _format_where(finding)) for finding in skipped]


def _is_skipped_check(finding: dict[str, Any]) -> bool:
    return str(finding.get("code")).startswith(NOT_CHECKED_FAMILY) and finding.get("severity") == "note"


def _format_where(finding: dict[str, Any]) -> str:
    names = list(map(str, as_list(finding.get("where"))))
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _embed_evidence_image(name: str, run: RunFiles) -> EmbeddedImage | None:
    if not name:
        return None
    try:
        return embed_image_file(safe_join(run.folder, name), name, run)
    except (DataError, OSError, ValueError) as error:
        run.unreadable.append(f"{name}: {error.found if isinstance(error, DataError) else error}")
        return None


# -- What a shared report leaves out.

_NO_NAMES = ("root", "user", "localhost")
_MIN_NAME_CHARS = 3
_MAX_CHARS = 10_000  # A longer text is cut

_CLOSING = r"\s/\\'\"`,;()\[\]{}<>|"
_PATH = re.compile(
    rf"(?<![\w.<…/])(?:/|~[\w.-]*/)(?:[^{_CLOSING}]+/)+[^{_CLOSING}]*"  # absolute, or of a home folder
    rf"|(?<![\w])~[\w.-]*/[^{_CLOSING}]+"
    rf"|(?<![\w])[A-Za-z]:\\(?:[^{_CLOSING}]+\\)*[^{_CLOSING}]*"
)
_WHOLE_PATH = re.compile(r"(?:/|~|[A-Za-z]:\\)[^\n/\\]*[/\\][^\n]*")  # may have spaces
_SCHEME = re.compile(r"file:/{2}")
_HOME = re.compile(r"/(?:home|Users)/[^/]+/?|[A-Za-z]:\\Users\\[^\\]+\\?")


def hide_private_parts(run: RunFiles) -> RunFiles:
    """Return the run without patch, command line, absolute paths, and the names of user and machine."""
    hide = make_hider()
    facts = _walk(replace(run.facts, command=""), hide)
    values = {name: _walk(getattr(run, name), hide) for name in ("config", "result", "scores", "findings")}
    return replace(run, facts=facts, **values, patch="", unreadable=[hide(line) for line in run.unreadable])


def make_hider() -> Callable[[str], str]:
    """Return a function that hides absolute paths, and the names of user and machine, in a text."""
    names = {platform.node(), platform.node().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError):  # The user's number may have no name.
        names.add(getpass.getuser())
    kept = sorted(name for name in names if len(name) >= _MIN_NAME_CHARS and name not in _NO_NAMES)
    words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, kept))})(?!\w)") if kept else None

    def hide(text: str) -> str:
        text = _SCHEME.sub("", text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …")
        text = (
            _shorten_path(text)
            if _WHOLE_PATH.fullmatch(text)
            else _PATH.sub(lambda match: _shorten_path(match[0]), text)
        )
        return words.sub("…", text) if words else text

    return hide


def _shorten_path(path: str) -> str:
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return "…" if _HOME.fullmatch(path) or last.startswith("~") else f"…/{last}"


def _walk(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list | tuple):
        return type(value)(_walk(item, hide) for item in value)
    if isinstance(value, dict):
        return {hide(str(key)): _walk(item, hide) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _walk(getattr(value, field.name), hide) for field in fields(value)})
    return value


SHOWN_WIDTH = 1280  # largest width of its pictures
_COUNTS = 65535  # largest value of depth in 16 bits


@dataclass(frozen=True, kw_only=True)
class ResultPage:
    """What a page shows about one predicted picture or video.

    images: text and image (H, W, 3) RGB, such as the picture and its depth in colors.
    verdict: word of the verdict, or "" for data.
    lines: lines of the verdict, as `verdict_lines` returns them.
    trust: what users may rely on.
    facts: texts by name, such as network, licence and camera.
    scale_from: source of the metres.
    measured: sentences about what was measured, below the images.
    video: an MP4; b"" for a picture.
    colors, ticks: CSS colors of the color bar from near to far, and (share of its length, label) of its labels; empty
        without a bar.
    cloud: point cloud, or None.
    """

    title: str
    images: Sequence[tuple[str, NDArray[np.uint8]]]
    verdict: str
    lines: Sequence[str]
    trust: str
    facts: Mapping[str, str]
    depth_scale: str = ""
    scale_from: str = ""
    measured: Sequence[str] = ()
    video: bytes = b""
    colors: Sequence[str] = ()
    ticks: Sequence[tuple[float, str]] = ()
    cloud: PointCloudFigure | None = None


def render_result(page: ResultPage) -> str:
    """Return the page as HTML. Text is escaped and contains no path of this machine. The page loads nothing."""
    hide = make_hider()
    lines = [hide(line.strip()) for line in page.lines if not line.startswith("predictions: ")]
    skipped = [line.removeprefix("not checked: ") for line in lines if line.startswith("not checked: ")]
    return (
        make_environment()
        .get_template("result.html")
        .render(
            page=replace(page, trust=hide(page.trust), facts={name: hide(text) for name, text in page.facts.items()}),
            images=[(text, _embed(image)) for text, image in page.images],
            video=base64.b64encode(page.video).decode(),
            findings=[line for line in lines if not line.startswith("not checked: ")],
            skipped=skipped,
            scale=describe_depth_scale(page.depth_scale, page.scale_from) if page.depth_scale else None,
            ticks=sorted(page.ticks),
            stadia_version=__version__,
            **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if page.cloud is not None else []),
        )
    )


def _embed(image: NDArray[np.uint8]) -> EmbeddedImage:
    return encode_jpeg(image[..., ::-1], SHOWN_WIDTH)


def fit_cloud_size(height: int, width: int) -> tuple[int, int]:
    """Return a (height, width) with the same aspect ratio and at most MAX_CLOUD_PIXELS pixels.

    Examples:
        >>> fit_cloud_size(720, 1280)
        (192, 341)
    """
    factor = min(1.0, math.sqrt(MAX_CLOUD_PIXELS / (height * width)))
    return max(int(height * factor), 1), max(int(width * factor), 1)


def make_point_cloud(
    name: str, image: NDArray[np.uint8], depth: NDArray[np.float32], K: NDArray[np.float64], depth_scale: str
) -> PointCloudFigure | None:
    """Return the point cloud of a picture for its page; None without depth.

    image: (H, W, 3) RGB.
    depth: (h, w) of size `fit_cloud_size`; 0 means unknown.
    K: (3, 3) intrinsics of the picture.
    """
    if not depth.any():
        return None
    (height, width), (rows, columns) = image.shape[:2], depth.shape
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    per_count = float(depth.max()) / _COUNTS
    counts = np.clip(np.rint(depth / per_count), 0, _COUNTS).astype(np.uint16)
    across, down = columns / width, rows / height
    center = (K[0, 2] + 0.5) * across - 0.5, (K[1, 2] + 0.5) * down - 0.5
    camera = (K[0, 0] * across, K[1, 1] * down, *center)
    return pack_point_cloud(name, name, counts, np.asarray(small, np.uint8), camera, per_count, depth_scale)


SHEET_WIDTH, MAP_WIDTH, JPEG_QUALITY = 1280, 640, 88
