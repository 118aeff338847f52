"""Ways to fail that are in the rig and in the poses."""

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "E01",
        "The baseline has the wrong sign",
        Stage.DATA,
        symptom=(
            "The stereo loss stays at that of the unwarped image; depth goes to its far limit, where the mistake costs"
            " least."
        ),
        cause="T_left_right was given where T_right_left is needed",
        fix=(
            "invert it: T_right_left takes points of the left camera to the right one, and its t_x is minus the"
            " baseline"
        ),
        measured=(
            "Matches of left and right: x_left - x_right has the sign of -t_x. With few matches: a sweep of planes both"
            " ways."
        ),
        seen="a training diary: points were projected to the right of the right camera",
    ),
    Entry(
        "E02",
        "Left and right are swapped",
        Stage.DATA,
        symptom="As with a wrong sign of the baseline: the stereo loss does not move.",
        cause="the folders of the two cameras are exchanged",
        fix="exchange them: in the left image near things stand further to the right",
        measured=(
            "Matches of left and right: x_left - x_right is below zero, while t_x of T_right_left is below zero as it"
            " must be."
        ),
        seen="own recordings, where left and right are named by the eye that looks at the cameras from the front",
    ),
    Entry(
        "E03",
        "The baseline has the wrong length",
        Stage.DATA,
        symptom="Everything trains, and every depth is off by one factor: images alone cannot tell.",
        cause="a nominal baseline, another unit, or P3[0,3] / f without KITTI's P2[0,3] (0.47 m where it is 0.53)",
        fix="use the calibrated distance of the two cameras, in metres",
        measured=(
            "0.02 to 3 m; then fx times baseline against the poses and the ground truth: the median ratio of lengths,"
            " warns from 5 %, stops from 8 % beyond two standard errors. Without poses and ground truth nobody can"
            " check it."
        ),
        seen="0.47056 m for KITTI's 0.53273, in the unit test of a public project",
    ),
    Entry(
        "E04",
        "The rig's transform does not fit the images",
        Stage.DATA,
        symptom="Warped right images are shifted up or down, or turned.",
        cause=(
            "images are not rectified; or they are, and the raw extrinsics (KITTI: 1.71 degrees, 21 px) are used; or"
            " frames of body and camera are mixed (EuRoC T_BS1 inv(T_BS0), whose baseline lies along y)"
        ),
        fix="rectify both images and use the rectified rig: no rotation, and t = (-baseline, 0, 0)",
        measured=(
            "Median distance of left-right matches to the epipolar line that K and T_right_left give: warns from 0.1 %"
            " of the width, stops from 0.2 %, or at once where the baseline is not along x. Usual wrong forms are named"
            " where they fit: a baseline along another axis, raw extrinsics on rectified images, a transposed rotation,"
            " Euler angles in the other order, images that are not rectified."
        ),
        seen="public code that composed EuRoC's and KITTI raw's extrinsics the wrong way round",
    ),
    Entry(
        "E05",
        "A pose is not a rigid motion",
        Stage.DATA,
        symptom="Warps by the poses are scaled or sheared; odometry scores are not finite.",
        cause="rows and columns are exchanged, numbers are missing, or a quaternion was read in another order",
        fix="write each pose as 3 x 4 [R | t] by rows, R a rotation",
        measured=(
            "Of every frame that has a pose: finite, R^T R = I within 0.001, determinant 1, last row (0, 0, 0, 1)."
        ),
        seen="quaternions read as x, y, z, w that were w, x, y, z",
    ),
    Entry(
        "E06",
        "Poses are inverted",
        Stage.DATA,
        symptom="The reference trajectory runs backwards, or winds up in curves; supervised motion has the wrong sign.",
        cause="world-to-camera (extrinsic) matrices were given as camera-to-world",
        fix=(
            "invert each pose: T_world_camera takes points of the camera to the world, its last column is where the"
            " camera is"
        ),
        measured=(
            "Direction of motion between frames by the poses, against the direction by matches (perspective-n-points"
            " where depth is known, the essential matrix elsewhere, but where one homography explains 90 % of the"
            " matches, since a plane has two such matrices). Warns from 30, stops from 60 degrees (median), and where"
            " turns are off by 0.8 of themselves (median, a turn counting 0.7 degrees at least); names the convention"
            " that fits."
        ),
        seen="COLMAP and OpenCV give world-to-camera, KITTI and TUM camera-to-world",
    ),
    Entry(
        "E07",
        "Poses have other axes",
        Stage.DATA,
        symptom="The reference trajectory rises into the air where the camera drives ahead, or turns the other way.",
        cause=(
            "poses are of a body or of a graphics camera (x forward; y up), not of a camera with x right, y down, z"
            " forward"
        ),
        fix="multiply each pose by the rotation from the camera's axes to those of the poses",
        measured="As E06; each of the 48 ways to name and turn three axes is tried.",
        seen="NeRF and Blender cameras (y up, z back); ROS, IMU and LiDAR frames (x forward, z up)",
    ),
    Entry(
        "E08",
        "Poses have another unit",
        Stage.DATA,
        symptom="Odometry scores are off by a round factor, or every segment is shorter than 100 m.",
        cause="translations are in millimetres or centimetres, or up to scale (monocular SLAM)",
        fix="multiply the translations so that they are metres",
        measured=(
            "Median speed up to 80 m/s; then the length of motions by the poses over their length by the rig and by the"
            " ground truth: warns from 5 % against a rig and 15 % against ground truth, stops from 8 and 30 %."
        ),
        seen="BOP poses are in millimetres; trajectories of monocular SLAM have no unit",
    ),
    Entry(
        "E09",
        "Poses contradict the images",
        Stage.DATA,
        symptom="Warps by the poses do not resemble the target, in no convention.",
        cause="poses belong to other frames (another rate, another start), or to another sensor",
        fix="associate poses with images by timestamp, not by row number, and move them from the sensor to the camera",
        measured="As E06, where no convention fits.",
        seen="a training diary: EuRoC's ground truth of 200 Hz, read by row number for images of 20 Hz",
    ),
)
