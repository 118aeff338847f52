"""The camera's drive along the road, with weaving, bumps, roll and pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stadia.core.seeds import generator
from stadia.data.rendering.mesh import Points
from stadia.data.roadworld.road import Course

_LATERAL_ACCELERATION = 3.0  # m/s^2, comfortable in a turn


@dataclass(frozen=True, slots=True)
class Drive:
    """The drive over F frames: s, d (F,) along and across the road; T_world_camera (F, 4, 4); road_plane (F, 4).

    road_plane: unit normal in the camera's frame, towards the camera, and the camera's height over that plane in
        metres: road points p satisfy normal . p + height = 0.
    """

    s: Points
    d: Points
    T_world_camera: Points
    road_plane: Points


def _draw_smooth_noise(
    random: np.random.Generator, time_s: Points, deviation: float, hertz: tuple[float, float]
) -> Points:
    """Draw a smooth zero-mean motion (F,): three sines of random frequency and phase with this standard deviation."""
    total = np.zeros_like(time_s)
    for _ in range(3):
        total += np.sin(2 * np.pi * random.uniform(*hertz) * time_s + random.uniform(0, 2 * np.pi))
    return deviation * np.sqrt(2 / 3) * total


def speeds(
    seed: int, course: Course, frames: int, speed_m_per_frame: tuple[float, float], frame_rate_hz: float
) -> Points:
    """Compute s (F,) of each frame: a varying cruising speed, lower before turns."""
    random = generator(seed, "camera", "speed")
    cruise = random.uniform(*speed_m_per_frame)
    change = _draw_smooth_noise(random, np.arange(frames) / frame_rate_hz, 0.10, (0.05, 0.25))
    ahead = np.array(
        [np.abs(course.curvature_per_m[i : i + 24]).max() for i in range(len(course.s))]
    )  # 12 m of foresight
    limit = np.sqrt(_LATERAL_ACCELERATION / np.maximum(ahead, 1e-6)) / frame_rate_hz
    s = np.zeros(frames)
    pace = min(cruise, float(np.interp(0.0, course.s, limit)))
    for i in range(1, frames):
        goal = min(cruise * (1 + change[i]), float(np.interp(s[i - 1], course.s, limit)))
        pace += 0.3 * (goal - pace)
        s[i] = s[i - 1] + max(pace, 0.6 * speed_m_per_frame[0])
    return s


def _rotation_from_euler(pitch: float, yaw: float, roll: float) -> Points:
    """Return the rotation about y by yaw, then x by pitch, then z by roll (intrinsic).

    Positive: right, up, clockwise.
    """
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def drive(seed: int, course: Course, s: Points, lane_m: float, height_m: float, frame_rate_hz: float) -> Drive:
    """Drive the camera in the middle of the right lane, on average `height_m` over the road."""
    random = generator(seed, "camera", "motion")
    time = np.arange(len(s)) / frame_rate_hz
    d = 0.5 * lane_m + _draw_smooth_noise(random, time, 0.12, (0.05, 0.25))
    yaw = np.gradient(d, s) if len(s) > 1 else np.zeros(1)
    yaw = yaw + _draw_smooth_noise(random, time, 0.004, (0.2, 0.6))
    pitch = random.uniform(-0.02, 0.01) + _draw_smooth_noise(random, time, 0.005, (0.5, 1.6))
    roll = random.uniform(-0.008, 0.008) + _draw_smooth_noise(random, time, 0.006, (0.3, 1.2))
    height = height_m + _draw_smooth_noise(random, time, 0.010, (0.8, 2.0))
    poses, planes = np.empty((len(s), 4, 4)), np.empty((len(s), 4))
    for i in range(len(s)):
        T = course.frame(s[i], d[i])
        up = -T[:3, 1]
        T[:3, 3] += height[i] * up
        T[:3, :3] = T[:3, :3] @ _rotation_from_euler(pitch[i], yaw[i], roll[i])
        poses[i] = T
        planes[i, :3], planes[i, 3] = T[:3, :3].T @ up, height[i]
    return Drive(s, d, poses, planes)
