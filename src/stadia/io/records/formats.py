"""The formats of poses: which numbers each program writes, under which names, with which axes and direction.

A pose of any program is a row of numbers. `Format.columns` names them, and `stadia.io.records.poses.make_poses` turns
them into camera-to-world matrices with OpenCV's camera axes. A format of rows, JSON or arrays is one entry of a table
of this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stadia.geometry.conventions import LLFF as LLFF_AXES
from stadia.geometry.conventions import OPENCV, OPENGL, Axes, Direction


@dataclass(frozen=True)
class Format:
    """How a program writes the pose of an image.

    program: name of the program; "" for numbers that several programs write.
    columns: names of the numbers of one pose, in order: t (time), frame, x y z, qw qx qy qz, rx ry rz (rotation
        vector), R (9 numbers, row by row), matrix (12 or 16 numbers of [R | t], row by row) and other words, which are
        not used.
    keys: keys of these numbers in JSON, or names of the array in an .npz, of which the first is used. "a.b" is the key
        b inside a.
    is_scattered: whether each number has a key of its own.
    name: key of the image's name; "" if there is none.
    time: key of the time; "" if there is none. The size of the times determines their unit.
    axes: axes of the program's cameras.
    direction: direction of its poses.
    source: where the program describes its format.
    """

    program: str
    columns: str
    keys: tuple[str, ...] = ()
    is_scattered: bool = False
    name: str = ""
    time: str = ""
    axes: Axes = OPENCV
    direction: Direction = Direction.CAMERA_TO_WORLD
    source: str = ""

    @property
    def is_opengl(self) -> bool:
        """Return whether the camera axes are OpenGL's."""
        return self.axes is OPENGL

    @property
    def is_inverted(self) -> bool:
        """Return whether poses are world-to-camera."""
        return self.direction is Direction.WORLD_TO_CAMERA

    @property
    def has_matrix(self) -> bool:
        """Return whether a matrix contains both the rotation and the position."""
        return "matrix" in self.columns


class TrajectoryFormat(StrEnum):
    """Formats of trajectories that a user can name.

    kitti: 12 numbers per row, the upper 3x4 block of T_world_camera; 13 with a frame number first; 16 or 17 with the
        last row of the matrix.
    tum: t x y z qx qy qz qw.
    euroc: t x y z qw qx qy qz and more columns, as EuRoC, OKVIS and VINS write them.
    transforms: nerfstudio's transforms.json, with the camera axes of OpenGL.
    colmap: images.txt of COLMAP, with world-to-camera poses.
    """

    KITTI = "kitti"
    TUM = "tum"
    EUROC = "euroc"
    TRANSFORMS = "transforms"
    COLMAP = "colmap"


JSON_PROGRAMS = (
    "a transforms.json of nerfstudio, or poses of Record3D, OpenSfM, Meshroom, 3D Gaussian Splatting, ScanNet++,"
    " PandaSet, nuScenes or ROS"
)
DESCRIPTIONS = {
    TrajectoryFormat.KITTI: "12 numbers, the upper 3x4 of a camera-to-world pose, or a frame number and these 12",
    TrajectoryFormat.TUM: "8 numbers, t x y z qx qy qz qw",
    TrajectoryFormat.EUROC: "t x y z qw qx qy qz",
    TrajectoryFormat.TRANSFORMS: JSON_PROGRAMS,
    TrajectoryFormat.COLMAP: "an images.txt of COLMAP",
}
ANY_TRAJECTORY = (
    "rows of KITTI (12 numbers), TUM (t x y z qx qy qz qw) or EuRoC (t x y z qw qx qy qz), COLMAP, transforms.json,"
    " g2o, .npy, or a folder of 4x4 files"
)

# -- rows

W2C = Direction.WORLD_TO_CAMERA

TUM = Format("tum", "t x y z qx qy qz qw", source="cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats")
EUROC = Format("euroc", "t x y z qw qx qy qz", source="EuRoC MAV data set, state_groundtruth_estimate0")
KITTI = Format("kitti", "matrix", source="KITTI odometry, devkit/readme.txt")
KITTI_NUMBERED = Format("kitti", "frame matrix", source="KITTI-360, data_poses")
VIRTUAL_KITTI = Format("Virtual KITTI", "frame camera matrix", direction=W2C, source="Virtual KITTI 2, extrinsic.txt")
KAPTURE = Format("kapture", "t device qw qx qy qz x y z", direction=W2C, source="kapture, kapture_format.adoc")
ARKIT_SCENES = Format("ARKitScenes", "t rx ry rz x y z", direction=W2C, source="ARKitScenes, DATA.md: .traj")
G2O = Format("g2o", "id x y z qx qy qz qw", keys=("VERTEX_SE3:QUAT",), source="g2o, VertexSE3::read")
COLMAP = Format("COLMAP", "qw qx qy qz x y z camera", direction=W2C, source="colmap.github.io/format.html: images.txt")
RECORD3D = Format("Record3D", "qx qy qz qw x y z", axes=OPENGL, source="nerfstudio, record3d_utils.py")
LLFF = Format("LLFF", "matrix", axes=LLFF_AXES, source="LLFF, README: poses_bounds.npy, 3x5 numbers and two depths")
POSITION_FIRST = Format("", "x y z qx qy qz qw")
ROTATION_FIRST = Format("", "qx qy qz qw x y z")
METASHAPE = Format("Metashape", "matrix", source="Metashape, camera.transform in the XML of cameras")
MATRIX_FILE = Format("", "matrix", source="ScanNet and 7-Scenes: one 4x4 camera-to-world matrix a file")
MVSNET = Format("MVSNet", "matrix", direction=W2C, source="MVSNet, README: cam.txt, `extrinsic`")

# -- JSON

POLYCAM = Format("Polycam", "matrix", tuple(f"t_{row}{column}" for row in range(3) for column in range(4)),
                 is_scattered=True, axes=OPENGL, source="nerfstudio, polycam_utils.py")  # fmt: skip
SCANNER_APP = Format("3D Scanner App", "matrix", ("cameraPoseARFrame",), time="time", axes=OPENGL)
JSON_FORMATS = (
    Format("nerfstudio", "matrix", ("transform_matrix",), name="file_path", axes=OPENGL,
           source="docs.nerf.studio/quickstart/data_conventions.html"),
    Format("nerfstudio or ARKit", "matrix", ("transform",), name="file_path", axes=OPENGL),
    Format("nerfstudio", "matrix", ("camera_to_world",), axes=OPENGL),
    Format("Isaac Sim", "matrix", ("cameraViewTransform",), axes=OPENGL, direction=W2C),
    POLYCAM,
    SCANNER_APP,
    Format("ScanNet++", "matrix", ("aligned_pose",), time="timestamp"),
    Format("3D Gaussian Splatting", "R x y z", ("rotation", "position"), name="img_name"),
    Format("OpenSfM", "rx ry rz x y z", ("rotation", "translation"), direction=W2C),
    Format("nuScenes", "qw qx qy qz x y z", ("rotation", "translation"), time="timestamp"),
    Format("PandaSet", "qw qx qy qz x y z", ("heading", "position")),
    Format("Nerfies", "R x y z", ("orientation", "position")),
    Format("ROS", "qw qx qy qz x y z", ("orientation", "position")),
    Format("ROS", "qw qx qy qz x y z", ("pose.orientation", "pose.position"), time="header.stamp"),
    Format("ROS", "qw qx qy qz x y z", ("transform.rotation", "transform.translation"), time="header.stamp"),
    Format("ROS", "qw qx qy qz x y z", ("pose.orientation", "pose.position")),
    Format("Meshroom", "R x y z", ("pose.transform.rotation", "pose.transform.center"), name="poseId",
           source="AliceVision: the rotation has the columns of world-to-camera"),
)  # fmt: skip
"""The keys of each program whose poses can be read. The first entry whose keys an image has is used."""

# -- arrays

NPZ_FORMATS = (
    Format("VGGT, Depth Anything 3", "matrix", ("extrinsic", "extrinsics", "w2c", "w2cs", "world_to_camera",
           "world2cam", "T_camera_world"), direction=W2C,
           source="VGGT, demo_gradio.py; Depth Anything 3, utils/export/npz.py"),
    Format("MapAnything, DUSt3R, MASt3R, MegaSaM, CUT3R", "matrix", ("camera_poses", "cams2world", "cam2world",
           "cam2worlds", "cam_c2w", "c2w", "c2ws", "poses", "pose", "im_poses", "camera_pose", "T_world_camera"),
           source="MapAnything, infer; DUSt3R, get_im_poses; MegaSaM and CUT3R, their .npz"),
)  # fmt: skip
"""Names of the array of poses. The first entry with a name that the archive has is used."""

NPZ_INTRINSICS = ("intrinsic", "intrinsics", "K", "Ks", "camera_intrinsics")
"""Names of K (N, 3, 3) or (3, 3)."""

NPZ_FOCALS = ("focals", "focal", "focal_lengths")
"""Names of focal lengths (N,), (N, 1) or (N, 2) in pixels, as DUSt3R's get_focals returns them."""

NPZ_CENTERS = ("principal_points", "pps", "pp")
"""Names of principal points (N, 2) in pixels."""

NPZ_DEPTH = ("depth", "depths", "depth_z", "depthmaps", "depth_maps", "depth_map")
"""Names of depth maps (N, H, W), (N, H, W, 1) or (N, 1, H, W)."""

NPZ_POINTS = ("pts3d", "world_points", "points")
"""Names of the points of each pixel in the world, (N, H, W, 3)."""

NPZ_IMAGES = ("images", "image", "imgs", "img_no_norm", "rgb")
"""Names of images (N, H, W, 3) or (N, 3, H, W)."""
