"""Train a radiance field on poses that are called good or not good for splats, and compare its views with photos.

    python benchmarks/splats.py [--seed 0] [--steps 500] [--side 160] [--json FILE]

The poses of a rendered chair (20 images) are disturbed in several ways and strengths, judged for splats, and repaired.
A grid of densities and colors is trained on four of five images with the poses as given, as repaired, and as they are
right; the others are rendered from the same file of poses. The peak signal-to-noise ratio (PSNR, dB) shows what wrong
poses cost. The grid is a stand-in for Gaussian splats, which need a GPU: both fit colors along the rays of given poses.

The photos lie in ../shared, or next to the folder of STADIA_REAL_DATA.
"""

# mypy: disable-error-code="misc, no-untyped-call, no-untyped-def"

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from disturbed_results import DISTURBANCES, Case, Disturbed, Recording, open_recording
from harness import make_parser, print_table, write_results
from numpy.typing import NDArray
from torch.nn import functional as F

from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.purposes import PURPOSES
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction
from stadia.sfm.match_triangulation import pose_images, triangulate_view, view_matches

CASES = tuple(
    Case(name, strength)
    for name, strengths in {
        "rotation-noise": (0.1, 0.3, 1.0),
        "position-noise": (0.002, 0.01, 0.03),
        "focal-length": (1.02, 1.1),
        "aspect": (1.1,),
        "principal-point": (40,),
        "drift": (5,),
        "stretched-axis": (1.1,),
        "swapped-images": (0.25,),
    }.items()
    for strength in strengths
)
GRID, SAMPLES, RAYS = 80, 80, 1024
CHANNELS = 3
RATE, TOTAL_VARIATION = 0.1, 2e-3
"""Rate of learning (Adam), and weight of the differences of neighbors."""


class Field(torch.nn.Module):
    """A grid of densities and colors in a cube, in front of white."""

    def __init__(self, middle: NDArray[np.float64], half: float) -> None:
        super().__init__()
        self.middle, self.size = torch.tensor(middle, dtype=torch.float32), half
        self.values = torch.nn.Parameter(torch.zeros(1, 1 + CHANNELS, GRID, GRID, GRID))

    def forward(self, origins: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
        """Return the colors (N, 3) along rays (N, 3) from origins (N, 3)."""
        origins = (origins - self.middle) / self.size
        corners = torch.stack(((-1 - origins) / ways, (1 - origins) / ways))
        near = corners.amin(0).amax(-1).clamp(min=0)
        far = torch.maximum(corners.amax(0).amin(-1), near)
        step = (far - near) / SAMPLES
        offset = torch.rand(len(origins), 1) if self.training else torch.full((len(origins), 1), 0.5)
        along = near[:, None] + step[:, None] * (torch.arange(SAMPLES) + offset)
        at = origins[:, None] + along[..., None] * ways[:, None]
        found = F.grid_sample(self.values, at[None, None], align_corners=True)[0, :, 0]
        density = F.softplus(found[0] - 4) * GRID * step[:, None] * torch.linalg.norm(ways, dim=-1)[:, None]
        passed = torch.exp(-torch.cumsum(density, 1))
        weight = torch.cat((torch.ones_like(passed[:, :1]), passed[:, :-1]), 1) - passed
        return torch.einsum("ns,cns->nc", weight, torch.sigmoid(found[1:])) + passed[:, -1:]


def list_rays(result: Reconstruction, row: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return origins (side^2, 3) and directions of the pixels of an image that is reduced to side x side pixels."""
    width, height = result.sizes[row]
    x, y = np.meshgrid((np.arange(side) + 0.5) * width / side - 0.5, (np.arange(side) + 0.5) * height / side - 0.5)
    K, T = result.K[row], np.linalg.inv(result.T_camera_world[row])
    ways = (
        np.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)), -1).reshape(-1, 3) @ T[:3, :3].T
    )
    return torch.tensor(np.broadcast_to(T[:3, 3], ways.shape).copy()).float(), torch.tensor(ways).float()


def measure_psnr(
    result: Reconstruction, pictures: torch.Tensor, middle: NDArray[np.float64], half: float, steps: int, seed: int
) -> float:
    """Train a field on four of five images, and return the PSNR of the others, dB."""
    torch.manual_seed(seed)
    side = pictures.shape[1]
    rays = [list_rays(result, row, side) for row in range(len(pictures))]
    is_held = np.arange(len(pictures)) % 5 == 2
    kept = np.flatnonzero(~is_held)
    origins, ways = (torch.cat([rays[row][part] for row in kept]) for part in (0, 1))
    colors = pictures[kept].reshape(-1, CHANNELS)
    field = Field(middle, half)
    optimizer = torch.optim.Adam(field.parameters(), RATE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * 0.1 ** (step / steps)
        at = torch.randint(len(colors), (RAYS,))
        loss = F.mse_loss(field(origins[at], ways[at]), colors[at])
        if step % 8 == 0:
            smooth = sum(field.values.diff(dim=axis).square().mean() for axis in (2, 3, 4))
            loss = loss + 8 * TOTAL_VARIATION * smooth
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    field.eval()
    errors = []
    with torch.no_grad():
        for row in np.flatnonzero(is_held):
            seen = torch.cat([field(*part) for part in zip(*(one.split(RAYS) for one in rays[row]), strict=True)])
            errors.append(float(F.mse_loss(seen, pictures[row].reshape(-1, CHANNELS))))
    return float(-10 * np.log10(np.mean(errors)))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--side", type=int, default=160, help="width and height of the pictures, pixels")
    parser.add_argument("--work", type=Path, help="folder for matches, which are kept")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as temporary:
        recording: Recording = open_recording("chair", options.work or Path(temporary))
        images = recording.matches.read_images(range(len(recording.matches.names)))
        small = [cv2.resize(images[row], 2 * (options.side,), interpolation=cv2.INTER_AREA) for row in sorted(images)]
        pictures = torch.tensor(np.stack(small)).float() / 255
        view = view_matches(pose_images(recording.truth, recording.matches), recording.matches)
        points = triangulate_view(view, 2.0).points
        low, high = np.quantile(points, (0.02, 0.98), axis=0)
        middle, half = (low + high) / 2, 0.65 * float((high - low).max())

        def train(result: Reconstruction) -> float:
            return round(measure_psnr(result, pictures, middle, half, options.steps, options.seed), 2)

        right = train(recording.truth)
        print(f"right poses: {right:.2f} dB", flush=True)
        for case in (None, *CASES):
            made: Disturbed | None = Disturbed(recording.truth)
            if case is not None:
                seeds = (options.seed, *case.disturbance.encode(), round(1000 * case.strength))
                made = DISTURBANCES[case.disturbance].disturb(recording, case.strength, np.random.default_rng(seeds))
            assert made is not None
            verdict = judge_reconstruction(made.result, recording.matches, [PURPOSES["splats"]])
            (purpose,) = verdict.purposes
            rows.append(
                {
                    "disturbance": "none" if case is None else case.disturbance,
                    "strength": 0 if case is None else case.strength,
                    "good for splats": {True: "yes", False: "no", None: "open"}[purpose.holds],
                    "reason": purpose.reason,
                    "PSNR given": right if case is None else train(made.result),
                    "PSNR fixed": None if verdict.fixed is None else train(verdict.fixed),
                    "PSNR right": right,
                }
            )
            print(rows[-1], flush=True)
            if options.json is not None:
                write_results(options.json, rows)
    print_table(rows)
    for answer in ("yes", "open", "no"):
        lost = [row["PSNR right"] - row["PSNR given"] for row in rows if row["good for splats"] == answer]
        if lost:
            print(f"{answer}: {len(lost)} cases lose {np.median(lost):.1f} dB (median), {max(lost):.1f} at most")
    fixed = [(row["PSNR given"], row["PSNR fixed"]) for row in rows if row["PSNR fixed"] is not None]
    if fixed:
        given, after = np.mean(fixed, 0)
        print(f"{len(fixed)} repaired: {given:.1f} dB as given, {after:.1f} dB then, {right:.1f} dB if right")


if __name__ == "__main__":
    main()
