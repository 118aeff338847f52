"""Describe a map in lines of text for the command line."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from stadia.core.verdict import Verdict
from stadia.data.frame_selection import KEY_MOTION, KeyFrames
from stadia.data.video.video_camera import CAMERA_ADVICE
from stadia.data.video.video_map import MASK, find_map_folder
from stadia.judge.map_verdict import CAMERA, PATH, MapVerdict
from stadia.sfm.camera_intervals import MAX_FOCAL_DEVIATION, MIN_TURN_DEG
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.learned_matching import has_matcher
from stadia.sfm.map_files import VideoMap, describe_intervals, find_photo_lens, find_rotating
from stadia.sfm.map_video import MappedVideo
from stadia.sfm.road_sweep import find_travel_direction
from stadia.sfm.sparse_map import FrameStatus, LensCamera, count_status

MAX_KEY_SHARE = 0.9
"""Share of the images of a folder above which it is not worth a line that the others are no keyframes."""


def describe_keys(keys: KeyFrames, stream: FrameStream) -> Iterator[str]:
    """Yield a line about how many images of a folder are keyframes, and why the others are not.

    keys: the keyframes.
    stream: the images.
    """
    count = keys.frames - stream.first
    if stream.source.is_dir() and len(keys.keys) < MAX_KEY_SHARE * count:
        yield (
            f"  keyframes: the map is made of {len(keys.keys)} of {count} images. The others moved too little"
            f" since the last keyframe (at least {KEY_MOTION:.1%} of the width), or have no detail"
        )


def describe_map(mapped: MappedVideo) -> Iterator[str]:
    """Yield lines of text that describe a map: frames with a pose, camera, road, masks, lost frames, verdict.

    Lines with something to consider start with "note: ".
    """
    folder, stream, found, poses = mapped.folder, mapped.stream, mapped.found, mapped.poses
    sparse, frames = found.sparse, found.placed[stream.first :]
    status = count_status(frames)
    placed = len(frames) - status.get(FrameStatus.LOST, 0) - status.get(FrameStatus.INTERPOLATED, 0)
    yield (
        f"{folder}: {placed} of {len(frames)} frames placed, {len(sparse.frames)} keyframes,"
        f" {len(sparse.points)} points, {sparse.point_deviations()[1]:.2f} px"
    )
    yield f"  {describe_camera(found, stream)}"
    if found.lenses and stream.photos is not None:
        for (height, width), lens in zip(stream.photos.sizes[1:], found.lenses[1:], strict=True):
            focal_px = find_photo_lens(found, lens).resized(height, width).focal_px
            yield f"  photos of {width}x{height} have another camera: focal length {focal_px:.6g} px"
    yield from describe_keys(found.keys, stream)
    yield f"  frames: {', '.join(f'{count} {name}' for name, count in status.items())}"
    if rotating := find_rotating(found, poses):
        yield f"  frames that turn without moving: {len(rotating)}"
    if (road := found.road) is not None:
        way = "up" if road.pitch_deg >= 0 else "down"
        yield (
            f"  road: {road.height:.4g} +- {1.96 * road.deviation:.2g} (95 %) below the camera, in units of the path;"
            f" the camera points {way} {abs(road.pitch_deg):.1f} degrees"
        )
        if folder == find_map_folder(stream.source):
            yield f"  metres: stadia predict {stream.source} --scale-from map=HEIGHT (of the camera over the road)"
    elif find_travel_direction(poses.T_world_camera) is not None:
        yield (
            "note: no road was found below the camera, so its height gives no metres. A measured distance does:"
            " stadia predict VIDEO --scale-from point=X,Y:METRES; on a drive also speed=SPEED or"
            " object=car:1.5@yolox_nano.onnx"
        )
    if stream.masks is not None:
        bare = sum(not stream.masks.has_near(int(index), stream.mask_distance) for index in sparse.frames)
        yield f"  masks: left cars and people out of {len(sparse.frames) - bare} keyframes"
        near = f" within {stream.mask_distance} frames" if stream.mask_distance else ""
        if bare:
            yield f"note: {bare} keyframes have no mask{near}, so moving things were used there"
    if found.static is not None:
        yield f"  {MASK}: left out {found.static.mean():.1%} of the image, which never moves"
    if found.readout is not None and found.readout.is_rolling:
        share, interval = found.readout.frames, 1.96 * found.readout.deviation
        rows = f"rolling shutter: the rows are read over {abs(share):.2f} +- {interval:.2g} (95 %) of a frame"
        if found.sparse.readout:
            yield f"  {rows}; path and points are corrected"
        else:
            yield f"note: {rows}. Path and points bend if the camera turns fast: no correction fits the matches better"
    lost = status.get(FrameStatus.LOST, 0)
    for part in found.parts:
        yield f"note: {len(part)} frames from {part[0].index} to {part[-1].index} form a part of their own (map.json)"
        lost -= len(part)
    if found.parts and not has_matcher():
        yield "note: learned features can join parts: pip install 'stadia[matching]'"
    if lost:
        advice = ". Try --masks if cars or people hide the scene" if stream.masks is None else ""
        names = [frame.name for frame in frames if frame.status is FrameStatus.LOST]
        shown = f" ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})" if stream.photos is not None else ""
        count = "1 frame has" if lost == 1 else f"{lost} frames have"
        yield f"note: {count} no pose{shown}: damaged, or too few points{advice}"
    if found.verdict is not None:
        yield from describe_verdict(found.verdict)


def describe_camera(found: VideoMap, stream: FrameStream) -> str:
    """Return one line about the map's camera: given by the user, estimated with its 95 % interval, or not determined
    and why.
    """
    estimate = found.estimate
    focal_px = estimate.camera.resized(stream.height, stream.width).focal_px
    scale = focal_px / estimate.camera.focal_px
    fov_deg = math.degrees(2 * math.atan(stream.width / 2 / focal_px))
    if estimate.intervals is None:
        return f"camera: focal length {focal_px:.6g} px, given"
    if estimate.origin != "estimated":
        turn, deviation = estimate.intervals.turn_deg, estimate.intervals.deviations["focal_px"]
        relative = 1.96 * deviation / estimate.camera.focal_px
        why = f"the camera turns by only {turn:.1f} of {MIN_TURN_DEG:g} degrees"
        if turn >= MIN_TURN_DEG:
            spread = f"{relative:.0%}" if relative < 2 else "any factor"
            why = f"it may be off by {spread}; at most {1.96 * MAX_FOCAL_DEVIATION:.0%} is accepted"
        return (
            f"camera: {estimate.origin}, {fov_deg:.0f} degrees from left to right,"
            f" because the video does not show it ({why}). {CAMERA_ADVICE}"
        )
    low, high = describe_intervals(found, scale)["focal_px"]
    k1, k2, *_ = estimate.camera.distortion
    corner = np.array([[stream.width / 2 / focal_px, stream.height / 2 / focal_px, 1.0]])
    straight = LensCamera(1.0, (0.0, 0.0), (0.0, 0.0, 0.0, 0.0), 1, 1).project(corner)
    bent = LensCamera(1.0, (0.0, 0.0), estimate.camera.distortion, 1, 1).project(corner)
    shift_px = focal_px * float(np.linalg.norm(bent - straight))
    return (
        f"camera: focal length {focal_px:.1f} px (95 %: {low:.0f} to {high:.0f}), {fov_deg:.1f} degrees;"
        f" distortion k1 {k1:.3f}, k2 {k2:.3f}, {shift_px:.1f} px in the corners"
    )


def describe_verdict(verdict: MapVerdict) -> Iterator[str]:
    """Yield lines with the grades of a map's path and camera, their reasons, the measured error, and the purposes."""
    error, evidence = verdict.evidence.error, verdict.evidence
    texts = {
        "standing": "the camera stands: {value:.0%} of the matches do not move",
        "open_focal": "one plane explains the matches, as if the camera only turned, and its focal length is open by"
        " +- {value:.0%}: give it (stadia camera --fov), or film from more sides",
        "placed": "{value:.0%} of the frames have a pose",
        "covered": "only {value:.0%} of the frames have a pose: too few to tell a path from things that move"
        " (data.frames=[0,100] maps a part)",
        "held_out_px": "too few matches to hold some out, so nothing checks it",
        "error": f"its matches fit no path: {error.reason}",
        "purposes": "; ".join(f"{purpose.purpose.key}: {purpose.reason}" for purpose in verdict.purposes),
        "zoomed": "the camera zooms: a change of focal length explains {value:.0%} of the matches",
        "road_drift": "the camera's height over the road changes by a factor of {value:.2f} along the path: the lens"
        " zooms, or the scale drifts (data.frames=[0,100] maps a part with a fixed lens)",
        "planar": "one plane explains {value:.0%} of the matches, so it does not show the camera",
        "is_camera_determined": "the video does not show it",
        "focal_error": "held-out matches show another focal length",
        "path": "it comes from an unusable path",
    }

    def list_texts(of: str) -> list[str]:
        return [texts[reason.field].format(value=reason.value) for reason in verdict.list_reasons(of)]

    measured = error.describe()
    plain = f"matches held out of the map fit by {evidence.held_out_px:.2f} px"
    yield f"verdict: {verdict.path}: {'; '.join(list_texts(PATH)) or plain}"
    if error.is_measured:
        path = ", ".join(f"{name} {measured[name]}" for name in ("rotation", "position", "drift") if name in measured)
        yield f"  error of the path: {path}"
        for words, holds in (("good for", True), ("not good for", False), ("left open", None)):
            if names := verdict.list_purposes(holds):
                yield f"  {words}: {', '.join(names)}"
    known = "given" if evidence.has_camera else "the video shows it"
    yield f"verdict of the camera: {verdict.camera}: {'; '.join(list_texts(CAMERA)) or known}"
    if "focal length" in measured:
        yield f"  error of the camera: focal length {measured['focal length']}"
    if verdict.path == Verdict.UNUSABLE:
        yield "note: predict, adapt and train do not use this map"
