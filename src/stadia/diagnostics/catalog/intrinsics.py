"""Ways to fail that are in K."""

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "K01",
        "K is not an intrinsic matrix",
        Stage.DATA,
        symptom="Warped images are empty or smeared from the first step.",
        cause="K was transposed, flattened in another order, or holds something else",
        fix="write K as [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels",
        measured="Finite, fx and fy above zero, skew below 1 % of fx, the last row (0, 0, 1).",
        seen="MATLAB's cameraParameters.IntrinsicMatrix, which is transposed",
    ),
    Entry(
        "K02",
        "K is normalized, but used on pixels",
        Stage.DATA,
        symptom="Warping changes nothing: the loss equals that of the unwarped image to three digits.",
        cause="K was divided by the image's width and height",
        fix="multiply its first row by the width and its second row by the height",
        measured="fx, fy, cx and cy all of the order of 1.",
        seen="a public D3VO re-implementation: K / (1241, 376) on a pixel grid",
    ),
    Entry(
        "K03",
        "The principal point is far from the center",
        Stage.DATA,
        symptom="Stereo trains, but neighbors in time do not; point clouds are sheared.",
        cause="cx and cy are exchanged, a crop was not subtracted, or K is of another camera",
        fix="subtract the crop's offset from cx and cy, or take K of this camera",
        measured=(
            "cx / W and cy / H outside 0.35 to 0.65, which they are of a crop, too. So the poses are asked: matches lie"
            " on the epipolar lines that they give through the right K. Silent where they lie nearer through K as given"
            " than through one with another center (in the middle, or of a crop at the right and bottom), stops where"
            " they lie twice as far, warns where there are no poses or they do not tell. Without poses stops where cx"
            " and cy fit exchanged, or lie outside the image by more than 0.1 of it."
        ),
        seen="KITTI's benchmark crop of 1216x352, whose offset was not subtracted",
    ),
    Entry(
        "K04",
        "K is that of an image of another size",
        Stage.DATA,
        symptom=(
            "Stereo looks trained but its depth is off by the factor of the sizes (1.94 at 640, 2.43 at 512 px for"
            " KITTI); neighbors in time do not train at all."
        ),
        cause="images were resized and K was not, or K was resized twice",
        fix=(
            "resize K with the image: f' = f s, c' = (c + 0.5) s - 0.5, x and y apart (stadia.geometry.camera.resize"
            " does both)"
        ),
        measured=(
            "The size of the sampled images against that of their camera. Then 2 cx + 1 and 2 cy + 1 are the size that"
            " K was made for. Spoken of where both differ from the image's the same way, by 1.3, or by 1.12 where both"
            " factors agree within 10 %: silent where the poses confirm K as given (as for K03: it may be that of a"
            " crop), stops where they confirm K rescaled, warns elsewhere. Warns where a known camera's image has"
            " another focal length."
        ),
        seen="a training diary: a focal length of 950 px, that of the 1392 px wide original, at 512 px",
    ),
    Entry(
        "K05",
        "The field of view is implausible",
        Stage.DATA,
        symptom="Neighbors in time do not train, or the motion is a multiple of the true one.",
        cause="K is in other units (millimetres), or of another lens",
        fix="calibrate, or compute fx = W / (2 tan(horizontal field of view / 2))",
        measured="fx / W: warns outside 0.3 to 1.6 (118 to 35 degrees), stops outside 0.15 to 6.",
        seen="focal lengths of a data sheet, in millimetres",
    ),
    Entry(
        "K06",
        "The focal length contradicts the turns",
        Stage.DATA,
        symptom="Motion in curves is too large or too small by one factor, and depth bends there.",
        cause="fx and fy are of another size or another lens, while the principal point is right",
        fix="multiply fx and fy by the factor found, or calibrate",
        measured=(
            "Rotation between frames by matches under K, against the rotation that the poses give: with a wrong focal"
            " length they differ by one factor. Spoken of where the turns are large enough to tell: the factor less 1.5"
            " times its error, by how much the steps differ from it, warns from 1.4, stops from 1.7."
        ),
        seen="two-view geometry: a pixel displacement is focal length times angle",
    ),
    Entry(
        "K07",
        "Left and right K differ on a rectified pair",
        Stage.DATA,
        symptom="Vertical offsets between left and warped right, growing away from the center.",
        cause="K of the unrectified cameras (KITTI K_02 and K_03) is used on rectified images",
        fix="use the rectified projection (KITTI P_rect_02 and P_rect_03): both sides share one K",
        measured=(
            "fx, fy and cy of the sides differ by more than 0.1 % of the width while the rig has no rotation. Where"
            " matches lie in other rows as well, the images are not rectified."
        ),
        seen="a training diary: 'left and right have different intrinsics' was logged as a fix, and was the bug",
    ),
)
