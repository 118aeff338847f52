"""Collect the page of `stadia check RESULT --images --report` from a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stadia.io.records.reconstruction import Reconstruction
    from stadia.judge.reconstructions.check_reconstruction import ReconstructionVerdict
    from stadia.judge.reconstructions.worst_pairs import PartnerMatches, ShownPair
    from stadia.report.point_cloud_figures import PointCloudFigure, ViewMatches
    from stadia.report.reconstruction_page import PairPicture, ShownCause, ShownPurpose
    from stadia.sfm.image_matches import ImageMatches

MAX_CORRECTED_BYTES = 16 << 20
"""Largest archive of a corrected result in a page, bytes."""


MAX_VIEWS = 40
"""Most images in the row below the 3D view."""

MAX_RADII = 8.0
"""Largest distance of a shown point from the middle of the scene, in radii of the scene."""


@dataclass(frozen=True)
class Correction:
    """A result with its mistakes undone.

    path: its file or folder.
    camera: the file of its camera; None if the result has the camera, or it did not change.
    reconstruction: its cameras and poses.
    verdict: the verdict on it.
    """

    path: Path
    camera: Path | None
    reconstruction: Reconstruction
    verdict: ReconstructionVerdict


def write_page(
    path: Path,
    title: str,
    reconstruction: Reconstruction,
    matches: ImageMatches,
    verdict: ReconstructionVerdict,
    fix: Correction | None,
) -> None:
    """Write the page about a result.

    path: file to write.
    title: name of the result.
    reconstruction: its cameras and poses.
    matches: matches between its images.
    verdict: the verdict on it.
    fix: the corrected result; None without one.
    """
    import numpy as np

    from stadia.geometry.poses import find_centers
    from stadia.judge.reconstructions.worst_pairs import show_repaired_pair, show_worst_pairs
    from stadia.report.reconstruction_page import ReconstructionPage, write_reconstruction_page
    from stadia.sfm.match_triangulation import pose_images

    worst = show_worst_pairs(reconstruction, matches)
    repaired = None if fix is None else show_repaired_pair(reconstruction, fix.reconstruction, matches)
    first = worst[:1] if repaired is None else repaired
    pictures = _draw(matches, [*first, *worst[1:]])
    measured = verdict.error if verdict.search.found is None else verdict.error_after_fix
    path.parent.mkdir(parents=True, exist_ok=True)
    write_reconstruction_page(
        path,
        ReconstructionPage(
            title=title,
            grade=verdict.grade,
            finding=describe_finding(verdict),
            errors=measured.describe(),
            measured_after=verdict.search.found is not None,
            causes=_list_causes(verdict),
            purposes=_list_purposes(verdict, fix),
            details=_list_details(verdict),
            corrected=b"" if fix is None else pack_correction(fix, reconstruction.path),
            corrected_name="" if fix is None else f"{reconstruction.path.name}, whose verdict is {fix.verdict.grade}",
            pair=pictures[: len(first)],
            positions=np.asarray(find_centers(pose_images(reconstruction, matches).T_camera_world), float),
            rows=_list_rows(verdict),
            others=pictures[len(first) :],
            cloud=make_scene(reconstruction, matches, verdict, fix),
        ),
    )


def make_scene(
    reconstruction: Reconstruction, matches: ImageMatches, verdict: ReconstructionVerdict, fix: Correction | None
) -> PointCloudFigure:
    """Return the 3D view: the points that matches give, the cameras as given, and as corrected if they are.

    The given cameras are aligned with the corrected ones by their positions.
    """
    import numpy as np

    from stadia.geometry.align import umeyama
    from stadia.geometry.poses import invert_pose
    from stadia.judge.reconstructions.worst_pairs import match_partners
    from stadia.report.point_cloud_figures import GIVEN_COLOR, SceneCamera, SceneView, pack_scene, place_upright
    from stadia.sfm.match_triangulation import pose_images, triangulate_features, view_matches

    given = pose_images(reconstruction, matches)
    posed = given if fix is None else pose_images(fix.reconstruction, matches)
    view = view_matches(posed, matches)
    sparse, of_feature = triangulate_features(view)
    T_world_camera = invert_pose(posed.T_camera_world)
    T_view_world, radius = place_upright(sparse.points, T_world_camera)
    rows = np.unique(np.linspace(0, len(posed.images) - 1, MAX_VIEWS).round().astype(int))
    images = matches.read_images(posed.images[rows].tolist())
    colors, is_seen = np.zeros((len(sparse.points), 3), np.uint8), np.zeros(len(sparse.points), bool)
    for row in rows:
        of_row = (view.features.rows == row) & (of_feature >= 0)
        image, pixels = images[posed.images[row]], np.rint(view.features.xy[of_row]).astype(int)
        limits = np.array(image.shape[1::-1]) - 1
        x, y = np.clip(pixels, 0, limits).T
        colors[of_feature[of_row]], is_seen[of_feature[of_row]] = image[y, x], True
    points = sparse.points @ T_view_world[:3, :3].T + T_view_world[:3, 3]
    is_seen &= np.linalg.norm(points, axis=1) < MAX_RADII * radius

    def place(T: NDArray[np.float64], row: int, color: tuple[int, int, int]) -> SceneCamera:
        width, height = posed.sizes[row].tolist()
        return SceneCamera(posed.K[row], height, width, T_view_world @ T, color)

    cameras = [place(T, row, (255, 255, 255)) for row, T in enumerate(T_world_camera)]
    lines = [(np.array([camera.T_world_camera[:3, 3] for camera in cameras]), (150, 150, 150))]
    if fix is not None:
        T_given = invert_pose(given.T_camera_world)
        _, both, both_given = np.intersect1d(posed.images, given.images, return_indices=True)
        moved = umeyama(T_given[both_given, :3, 3], T_world_camera[both, :3, 3], "sim3").transform_poses(
            T_given[both_given]
        )
        cameras += [place(T, row, GIVEN_COLOR) for row, T in zip(both.tolist(), moved, strict=True)]
    counts = np.bincount(sparse.observed[:, 0], minlength=len(posed.images))
    agreement = {image.index: image for image in verdict.images}
    indices = posed.images[rows].tolist()
    partners = match_partners(reconstruction, matches, indices)
    views = []
    for row in rows.tolist():
        found = agreement.get(int(posed.images[row]))
        about = f"{counts[row]} points"
        if found is not None:
            about += f"; as given, {found.agree} matches agree and {found.contradict} contradict"
        index = int(posed.images[row])
        matched = _show_matches(matches, index, partners[index], indices) if index in partners else None
        views.append(SceneView(matches.names[index], about, images[index], cameras[row], matched))
    return pack_scene(
        points[is_seen].astype(np.float32),
        colors[is_seen],
        "units of the result",
        lines=lines,
        cameras=cameras,
        views=views,
        radius=radius,
    )


def _show_matches(matches: ImageMatches, index: int, partner: PartnerMatches, indices: Sequence[int]) -> ViewMatches:
    """Return the matches of an image with its partner for the 3D view, whose images are those of some indices."""
    import numpy as np

    from stadia.report.point_cloud_figures import ViewMatches

    names = matches.names[index], matches.names[partner.other]
    share = partner.agrees.mean()
    about = f"{names[0]} and {names[1]}: {partner.count} matches, of which {share:.0%} agree with the poses as given"
    places = np.hstack([partner.xy / matches.sizes[index], partner.xy_other / matches.sizes[partner.other]])
    return ViewMatches(indices.index(partner.other), about, places, partner.agrees)


def describe_finding(verdict: ReconstructionVerdict) -> str:
    """Return the most important sentence of a verdict."""
    count = f"{len(verdict.images)} of {verdict.count} images have a pose"
    if verdict.causes:
        text = verdict.causes[0].what
        return f"{text[:1].upper()}{text[1:]}."
    if verdict.error.reason:
        return f"The error cannot be measured: {verdict.error.reason}."
    if verdict.grade == "usable":
        return f"Poses and cameras agree with the images: {count}, and no cause of an error was found."
    return f"No single cause explains the error of the poses; {count}."


def pack_correction(fix: Correction, given: Path) -> bytes:
    """Return a .zip archive of a corrected result, whose paths are those of the given one; empty if it is too large."""
    from stadia.io.output_files import pack_files
    from stadia.io.records.json_scenes import find_transforms, move_transforms

    path, cameras = fix.path, [] if fix.camera is None else [fix.camera]
    if path.is_dir():
        data = pack_files(path, *cameras)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / (given.name if given.is_file() else path.name)
            copy.write_bytes(path.read_bytes())
            if (file := find_transforms(copy)) is not None:
                move_transforms(file, path.parent, given.parent)
            data = pack_files(copy, *cameras)
    return data if len(data) <= MAX_CORRECTED_BYTES else b""


def _draw(matches: ImageMatches, pairs: Sequence[ShownPair]) -> list[PairPicture]:
    from stadia.report.reconstruction_page import PairPicture

    images = matches.read_images([end for pair in pairs for end in (pair.first, pair.second)])
    return [
        PairPicture(
            title=f"{matches.names[pair.first]} and {matches.names[pair.second]}: "
            f"{(~pair.agrees).sum()} of {len(pair.agrees)} matches contradict",
            first=images[pair.first],
            second=images[pair.second],
            xy_first=pair.xy_first,
            xy_second=pair.xy_second,
            agrees=pair.agrees,
            lines=list(zip(pair.shown, pair.lines, strict=True)),
        )
        for pair in pairs
    ]


def _list_causes(verdict: ReconstructionVerdict) -> list[ShownCause]:
    from stadia.report.reconstruction_page import ShownCause

    found, causes = verdict.search.found, list[ShownCause]()
    for number, cause in enumerate(verdict.causes):
        gain = ""
        if found is not None and number == 0:
            gain = f"{found.fits:.0%} of all matches fit then, {found.fits_given:.0%} now"
        elif cause.gain is not None:
            gain = f"held-out matches miss by {cause.gain.after_px:.2f} px then, {cause.gain.before_px:.2f} px now"
            gain += "; most of the error has another cause" if cause.gain.is_far_off else ""
        causes.append(ShownCause(cause.what, cause.fix, gain, cause.images if len(cause.images) > 2 else ()))
    return causes


def _list_purposes(verdict: ReconstructionVerdict, fix: Correction | None) -> list[ShownPurpose]:
    from stadia.report.reconstruction_page import ShownPurpose

    after = {} if fix is None else {one.purpose.key: one.holds for one in fix.verdict.purposes}
    return [
        ShownPurpose(one.purpose.key, one.holds, one.reason, None if one.holds else after.get(one.purpose.key))
        for one in verdict.purposes
    ]


def _list_details(verdict: ReconstructionVerdict) -> list[str]:
    lines = [f"{len(verdict.images)} of {verdict.count} images have a pose"]
    if verdict.error.parts > 1:
        lines.append(f"matches join the images only within {verdict.error.parts} groups")
    if verdict.search.found is not None:
        lines += [f"or: {other}; these images show no difference" for other in verdict.search.found.others]
    if verdict.depth is not None:
        lines.append(f"depth maps: {verdict.depth.verdict}: {verdict.depth.reason} ({verdict.depth.basis})")
    return [*lines, *(f"note: {note}" for note in verdict.notes)]


def _list_rows(verdict: ReconstructionVerdict) -> list[dict[str, object]]:
    of_images = {image.index: image for image in verdict.error_after_fix.images}
    rows = []
    for image in verdict.images:
        found = of_images.get(image.index)
        rotation = "" if found is None else f"{found.rotation_deg.show()}°"
        position = "" if found is None else f"{found.position_share.show(100)} %"
        rows.append({**asdict(image), "share": image.share, "rotation": rotation, "position": position})
    return rows
