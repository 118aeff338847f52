"""The formats of poses and cameras: which numbers each program writes, under which names, in which units and axes.

A pose of any program is a row of numbers. `Format.columns` names them, and `stadia.io.records.poses.make_poses` turns
them into camera-to-world matrices with OpenCV's camera axes. `CameraFormat` names the numbers of a camera. A format of
rows, JSON or arrays is one entry of a table of this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from stadia.geometry.conventions import LLFF as LLFF_AXES
from stadia.geometry.conventions import OPENCV, OPENGL, Axes, Direction


@dataclass(frozen=True)
class Format:
    """How a program writes the pose of an image.

    program: name of the program; "" for numbers that several programs write.
    columns: names of the numbers of one pose, in order: t (time), frame, x y z, qw qx qy qz, rx ry rz (rotation
        vector), heading pitch roll or omega phi kappa (degrees), R (9 numbers, row by row), R.T (9 numbers, column by
        column), matrix (12 numbers of [R | t], row by row), last_row (the numbers 0 0 0 1 after them), matrix.T (16
        numbers, column by column) and other words, which are not used.
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
KITTI_4X4 = Format("kitti", "matrix last_row", source="KITTI-360, cam0_to_world.txt")
KITTI_COLUMNS = Format("kitti", "matrix.T", source="Eigen: a matrix in memory")
REDWOOD = Format("Redwood", "matrix last_row", source="redwood-data.org/indoor/fileformat.html: .log")
VIRTUAL_KITTI = Format("Virtual KITTI", "frame camera matrix", direction=W2C, source="Virtual KITTI 2, extrinsic.txt")
REALESTATE = Format(
    "RealEstate10K", "t fx fy cx cy zero zero matrix", direction=W2C, source="google.github.io/realestate10k/download"
)
"""Rows of 19 numbers; fx, fy, cx and cy are shares of the width and height of the images."""

KAPTURE = Format("kapture", "t device qw qx qy qz x y z", direction=W2C, source="kapture, kapture_format.adoc")
ARKIT_SCENES = Format("ARKitScenes", "t rx ry rz x y z", direction=W2C, source="ARKitScenes, DATA.md: .traj")
G2O = Format("g2o", "id x y z qx qy qz qw", keys=("VERTEX_SE3:QUAT",), source="g2o, VertexSE3::read")
COLMAP = Format("COLMAP", "qw qx qy qz x y z camera", direction=W2C, source="colmap.github.io/format.html: images.txt")
RECORD3D = Format("Record3D", "qx qy qz qw x y z", axes=OPENGL, source="nerfstudio, record3d_utils.py")
WRITE_COLMAP_TEXT = "write text: colmap model_converter --input_path MODEL --output_path OUT --output_type TXT"
"""The fix of a COLMAP model that is not read."""

LLFF = Format("LLFF", "matrix", axes=LLFF_AXES, source="LLFF, README: poses_bounds.npy, 3x5 numbers and two depths")
POSITION_FIRST = Format("", "x y z qx qy qz qw")
ROTATION_FIRST = Format("", "qx qy qz qw x y z")
MATRIX = Format("", "matrix")
METASHAPE = Format("Metashape", "matrix", source="Metashape, camera.transform in the XML of cameras")
MATRIX_FILE = Format("", "matrix", source="ScanNet and 7-Scenes: one 4x4 camera-to-world matrix a file")
MVSNET = Format("MVSNet", "matrix", direction=W2C, source="MVSNet, README: cam.txt, `extrinsic`")

# -- JSON

POLYCAM = Format("Polycam", "matrix", tuple(f"t_{row}{column}" for row in range(3) for column in range(4)),
                 is_scattered=True, axes=OPENGL, source="nerfstudio, polycam_utils.py")  # fmt: skip
SCANNER_APP = Format("3D Scanner App", "matrix", ("cameraPoseARFrame",), time="time", axes=OPENGL)
OPENSFM = Format("OpenSfM", "rx ry rz x y z", ("rotation", "translation"), direction=W2C,
                 source="opensfm.org/docs/dataset.html: reconstruction.json")  # fmt: skip
ODM = Format("ODM", "rx ry rz x y z", source="OpenDroneMap/ODM, opendm/shots.py: a rotation vector of world-to-camera")
OPENMVS = Format("OpenMVS", "R.T x y z", source="openMVS, libs/MVS/Interface.h: the rotation is world-to-camera")
GAUSSIAN_SPLATTING = Format("3D Gaussian Splatting", "R x y z", ("rotation", "position"), name="img_name",
                            source="graphdeco-inria/gaussian-splatting, utils/camera_utils.py")  # fmt: skip
MESHROOM = Format("Meshroom", "R x y z", ("pose.transform.rotation", "pose.transform.center"), name="poseId",
                  source="AliceVision: the rotation has the columns of world-to-camera")  # fmt: skip
JSON_FORMATS = (
    Format("nerfstudio", "matrix", ("transform_matrix",), name="file_path", axes=OPENGL,
           source="docs.nerf.studio/quickstart/data_conventions.html"),
    Format("instant-ngp", "matrix", ("transform_matrix_start",), name="file_path", axes=OPENGL,
           source="instant-ngp, nerf_loader.cu: the pose at the start of a rolling shutter"),
    Format("nerfstudio or ARKit", "matrix", ("transform",), name="file_path", axes=OPENGL),
    Format("nerfstudio", "matrix", ("camera_to_world",), axes=OPENGL),
    Format("Isaac Sim", "matrix", ("cameraViewTransform",), axes=OPENGL, direction=W2C),
    POLYCAM,
    SCANNER_APP,
    Format("ScanNet++", "matrix", ("aligned_pose",), time="timestamp"),
    GAUSSIAN_SPLATTING,
    OPENSFM,
    Format("nuScenes", "qw qx qy qz x y z", ("rotation", "translation"), time="timestamp"),
    Format("PandaSet", "qw qx qy qz x y z", ("heading", "position")),
    Format("Nerfies", "R x y z", ("orientation", "position")),
    Format("ROS", "qw qx qy qz x y z", ("orientation", "position")),
    Format("ROS", "qw qx qy qz x y z", ("pose.orientation", "pose.position"), time="header.stamp"),
    Format("ROS", "qw qx qy qz x y z", ("transform.rotation", "transform.translation"), time="header.stamp"),
    Format("ROS", "qw qx qy qz x y z", ("pose.orientation", "pose.position")),
    MESHROOM,
)  # fmt: skip
"""The keys of each program whose poses can be read. The first entry whose keys an image has is used."""

OPENMVG = Format("OpenMVG", "R.T x y z", source="openMVG, sfm_data_io_cereal: the rotation is world-to-camera")
BUNDLER = Format("Bundler", "R x y z", axes=OPENGL, direction=W2C, source="Bundler v0.4, README: bundle.out")
VISUAL_SFM = Format("VisualSFM", "qw qx qy qz x y z", source="ccwu.me/vsfm/doc.html: the quaternion is inverted")
MIDDLEBURY = Format("Middlebury", "R x y z", direction=W2C, source="vision.middlebury.edu/mview/data: *_par.txt")
IDR = Format("IDR, NeuS, MonoSDF", "matrix", ("world_mat_0",), direction=W2C,
             source="IDR, DATA_CONVENTION.md: world_mat_k is K [R | t] of world-to-camera")  # fmt: skip
REALITY_CAPTURE = Format("RealityCapture", "x y z heading pitch roll", axes=OPENGL,
                         source="nerfstudio, realitycapture_utils.py: Rz(-heading) Rx(pitch) Ry(roll)")  # fmt: skip
OMEGA_PHI_KAPPA = Format("Pix4D, Metashape", "x y z omega phi kappa", axes=OPENGL,
                         source="support.pix4d.com, yaw, pitch, roll and omega, phi, kappa: Rx(omega) Ry(phi) Rz(kappa)"
                         )  # fmt: skip
REALITY_CAPTURE_XMP = Format("RealityCapture", "R.T x y z",
                             source="RealityCapture, XMP metadata: the rotation is world-to-camera")  # fmt: skip

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

# -- cameras

FIRST_PIXEL = 0.5
"""Position of the first pixel's center in COLMAP, nerfstudio and Metashape, in pixels; in OpenCV and stadia it is 0."""

RADTAN, EQUIDISTANT, FOV = "radial-tangential", "equidistant", "fov"
"""Distortion models: OpenCV's, Kannala and Brandt's (OpenCV's fisheye module), and that of one angle."""

COEFFICIENTS = {RADTAN: (4, 5, 8, 12, 14), EQUIDISTANT: (4,), FOV: (1,)}
"""Possible numbers of coefficients of each distortion model."""

MODELS = {  # names in Kalibr, ROS, EuRoC, ORB-SLAM, VINS, nerfstudio and the programs below, in lower case
    **dict.fromkeys(
        (RADTAN, "radtan", "plumb_bob", "rational_polynomial", "brown_conrady", "modified_brown_conrady", "opencv",
         "pinhole", "simple_pinhole", "simple_radial", "radial", "full_opencv", "perspective", "brown", "frame",
         "pinhole-radtan8", "radial1", "radial3", "brown3", "radialk1", "radialk3", "standard", "opencv_standard",
         "radialtangential", "telecam", "none"), RADTAN),
    **dict.fromkeys(
        (EQUIDISTANT, "fisheye", "kannala_brandt", "kannala_brandt4", "kannalabrandt", "kannalabrandt8", "kb4",
         "opencv_fisheye", "fisheye_opencv", "equidist", "fisheye4", "equidistant4"), EQUIDISTANT),
    FOV: FOV,
}  # fmt: skip
"""Distortion model ("radtan", "equidistant" or "fov", as stadia names them) by its name in other programs, in lower
case.
"""

RADIAL, FISHEYE = ("k1", "k2", "p1", "p2", "k3"), ("k1", "k2", "k3", "k4")


@dataclass(frozen=True)
class CameraFormat:
    """Which keys a program uses in its files for the numbers of a camera.

    program: name of the program; "" for keys that several programs use.
    K: keys of fx, fy, cx and cy. Empty keys of cx and cy mean the middle of the image.
    size: keys of width and height.
    lens: keys of the distortion coefficients in OpenCV's order.
    model: distortion model of the program's cameras.
    model_key: key whose value names the distortion model; "" if there is none.
    unit: unit of the numbers of K: pixels, shares of the longer image side, or shares of width (x) and height (y).
    center: the position that cx = cy = 0 refers to: the first pixel's center ("pixel"), a pixel before it ("one"), its
        outer corner ("corner"), or the middle of the image ("middle").
    also: keys that the program's cameras have too, if those of the numbers are common.
    name_key: key of the camera's name; "" if the name is the key of the camera's values.
    sensor_mm: the sensor's width in mm, or its key, if focal lengths are in mm; "" if they are not.
    """

    program: str
    K: tuple[str, ...]
    size: tuple[str, ...]
    lens: tuple[str, ...] = RADIAL
    model: str = RADTAN
    model_key: str = ""
    unit: Literal["pixels", "longer side", "sides"] = "pixels"
    center: Literal["pixel", "one", "corner", "middle"] = "pixel"
    also: tuple[str, ...] = ()
    name_key: str = ""
    sensor_mm: str | float = ""

    @property
    def required(self) -> tuple[str, ...]:
        """Return the keys that a camera must have. Metashape leaves out cx and cy if they are 0."""
        numbers = (*self.K[:2], *self.size) if self.program == "Metashape" else filter(None, self.K)
        sensor = self.sensor_mm if isinstance(self.sensor_mm, str) else ""
        return (*numbers, *self.also, *filter(None, [sensor]))


def place_keys(key: str, *indices: int | None) -> tuple[str, ...]:
    """Return the keys of numbers of a list by their places in it; None leaves a number out.

    Examples:
        >>> place_keys("dist", 0, None, 4)
        ('dist.0', '', 'dist.4')
    """
    return tuple("" if index is None else f"{key}.{index}" for index in indices)


METASHAPE_LENS = ("k1", "k2", "p2", "p1", "k3")  # its p1 and p2 are OpenCV's p2 and p1
CAMERA_FORMATS = (
    CameraFormat("Metashape", ("f_b1", "f", "cx", "cy"), ("resolution.width", "resolution.height"), METASHAPE_LENS,
                 model_key="@type", center="middle"),
    CameraFormat("Metashape", ("f", "f", "cx", "cy"), ("resolution.width", "resolution.height"), METASHAPE_LENS,
                 model_key="@type", center="middle"),
    CameraFormat("Metashape", ("f", "f", "cx", "cy"), ("width", "height"), METASHAPE_LENS, model_key="projection",
                 center="middle"),
    CameraFormat("OpenSfM", ("focal_x", "focal_y", "c_x", "c_y"), ("width", "height"), model_key="projection_type",
                 unit="longer side", center="middle"),
    CameraFormat("OpenSfM", ("focal", "focal", "", ""), ("width", "height"), model_key="projection_type",
                 unit="longer side", center="middle"),
    *(CameraFormat("VINS", tuple(f"projection_parameters.{key}" for key in K), ("image_width", "image_height"), lens,
                   model_key="model_type", name_key="camera_name")
      for K, lens in (
          (("fx", "fy", "cx", "cy"), tuple(f"distortion_parameters.{key}" for key in RADIAL[:4])),
          (("mu", "mv", "u0", "v0"), tuple(f"projection_parameters.k{order}" for order in (2, 3, 4, 5))),
          (("gamma1", "gamma2", "u0", "v0"), ()))),
    CameraFormat("ScanNet", ("fx_color", "fy_color", "mx_color", "my_color"), ("colorWidth", "colorHeight"), ()),
    CameraFormat("Azure Kinect", place_keys("Intrinsics.ModelParameters", 2, 3, 0, 1),
                 ("SensorWidth", "SensorHeight"),
                 place_keys("Intrinsics.ModelParameters", 4, 5, 13, 12, 6, 7, 8, 9),
                 unit="sides", center="corner", name_key="Purpose"),
    CameraFormat("Aria", place_keys("Projection.Params", 0, 0, 1, 2),
                 ("width", "height"), place_keys("Projection.Params", *range(3, 15)),
                 model_key="Projection.Name", name_key="Label"),
    CameraFormat("MATLAB", place_keys("IntrinsicMatrix", 0, 4, 6, 7), place_keys("ImageSize", 1, 0),
                 (*place_keys("RadialDistortion", 0, 1), *place_keys("TangentialDistortion", 0, 1),
                  "RadialDistortion.2"),
                 center="one", also=("RadialDistortion.0",)),
    CameraFormat("RealityCapture", ("FocalLength35mm", "FocalLength35mm", "PrincipalPointU", "PrincipalPointV"),
                 ("width", "height"), place_keys("DistortionCoeficients", 0, 1, 5, 4, 2), unit="longer side",
                 center="middle", sensor_mm=36.0),
    CameraFormat("3D Gaussian Splatting", ("fx", "fy", "", ""), ("width", "height"), (), center="middle",
                 also=("img_name",)),
    CameraFormat("Gyroflow", ("fisheye_params.camera_matrix.0", "fisheye_params.camera_matrix.4",
                              "fisheye_params.camera_matrix.2", "fisheye_params.camera_matrix.5"),
                 ("calib_dimension.w", "calib_dimension.h"), ("fisheye_params.distortion_coeffs",), EQUIDISTANT,
                 model_key="distortion_model"),
    CameraFormat("Meshroom", ("pxFocalLength.0", "pxFocalLength.1", "principalPoint.0", "principalPoint.1"),
                 ("width", "height"), ("distortionParams",), model_key="type"),
    CameraFormat("Meshroom", ("pxFocalLength", "pxFocalLength", "principalPoint.0", "principalPoint.1"),
                 ("width", "height"), ("distortionParams",), model_key="type"),
    CameraFormat("Argoverse", ("focal_length_x_px_", "focal_length_y_px_", "focal_center_x_px_", "focal_center_y_px_"),
                 ("width", "height"), place_keys("distortion_coefficients_", 0, 1, None, None, 2)),
    CameraFormat("A2D2", place_keys("CamMatrixOriginal", 0, 4, 2, 5), place_keys("Resolution", 0, 1), ("Distortion",),
                   model_key="Lens"),
    CameraFormat("Bundler", ("focal_bundler", "focal_bundler", "", ""), ("width", "height"), ("k1", "k2"),
                 center="middle"),
    CameraFormat("OpenMVG", ("focal_length", "focal_length", *place_keys("principal_point", 0, 1)),
                 ("width", "height"), ("fisheye",), EQUIDISTANT, also=("fisheye.0",)),
    *(CameraFormat("OpenMVG", ("focal_length", "focal_length", *place_keys("principal_point", 0, 1)),
                   ("width", "height"), place_keys(key, *order), also=(f"{key}.0",))
      for key, order in (("disto_k1", (0,)), ("disto_k3", (0, 1, None, None, 2)), ("disto_t2", (0, 1, 3, 4, 2)))),
)  # fmt: skip
"""The keys of each program whose files can be read. Entries with more specific keys come first, because the first fit
counts.
"""
