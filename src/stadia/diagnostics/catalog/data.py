"""Ways to fail that are in the data: frames, ground truth, splits."""

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "D01",
        "A frame cannot be read",
        Stage.DATA,
        symptom="Training dies in the middle of an epoch, on one worker, with a message that names no file.",
        cause="a file is missing, truncated, or not what its name says",
        fix="fetch the file again, or leave its frame out",
        measured=(
            "Every frame that a check looks at is read as training will read it; a refusal is passed on with the file's"
            " name. Images, K, depth, poses and times of the sampled frames must have the shape and type that every"
            " Recording's have. Of images of objects every file's first and last bytes, and up to 100 of each split"
            " whole."
        ),
        seen="interrupted downloads; public EuRoC V2_03 lacks many right images",
    ),
    Entry(
        "D02",
        "The same frame again",
        Stage.DATA,
        symptom=(
            "The photometric loss is near zero on some samples, depth there is arbitrary, and motion collapses towards"
            " zero."
        ),
        cause=(
            "frames were written twice: a converted video with a higher frame rate than its camera, a frozen stream, or"
            " an index mistake"
        ),
        fix=(
            "drop the repeated frames (for your own video leave `stride=auto`), or extract at the camera's own frame"
            " rate"
        ),
        measured=(
            "Digests of the decoded images over the recording (where it is long 120 frames in 4 windows, within 12 s). "
            "Warns from 2 % repeated frames, stops from 10 %."
        ),
        seen=(
            "a training diary: the frame number was read from the split file and not used, so ten frames of each drive"
            " were seen"
        ),
    ),
    Entry(
        "D03",
        "The camera hardly moves",
        Stage.DATA,
        symptom="Depth has holes of infinite distance, and the auto-mask removes most pixels.",
        cause="the camera stands still (traffic lights, hovering), or the frame rate is high for its speed",
        fix="drop static frames, take a larger stride, or train with the stereo partner",
        measured=(
            "Median optical flow of corners between neighbors on 320 px wide images; below 0.1 px a pair is static. "
            "Warns from a third of the pairs, stops from nine tenths (warns where there is a stereo partner)."
        ),
        seen="Monodepth2 (arXiv:1806.01260) filters them by hand; EuRoC hover",
    ),
    Entry(
        "D04",
        "Left and right are the same image",
        Stage.DATA,
        symptom="The stereo loss is 0.00000 from the first step, and depth goes to its far limit.",
        cause="both sides read the same folder or file",
        fix="point the right camera to its own images (KITTI: image_03 or image_1)",
        measured="Digests of the left and right image of one instant, and their matches: all without any displacement.",
        seen="github.com/nianticlabs/monodepth2/issues/271",
    ),
    Entry(
        "D05",
        "Ground truth is empty",
        Stage.DATA,
        symptom="Scores are NaN, or the best ever; a loss on depth is zero.",
        cause="the depth folder or its names do not belong to the images, or depth was written before it was computed",
        fix="check the path and the frame numbers of the ground truth; one file by hand first",
        measured=(
            "Known (finite, above zero) pixels of the maps at the sampled frames. Stops where half of the maps have"
            " none or one constant value; warns from one map."
        ),
        seen="a training diary: KITTI ground truth was all zero for most batches, and nobody knew for six weeks",
    ),
    Entry(
        "D06",
        "Ground truth at a wrong scale",
        Stage.DATA,
        symptom="Scores without scaling are absurd, while median-scaled ones look well.",
        cause=(
            "a unit or a file format's factor was not applied (millimetres, uint16 / 256), or a nominal baseline was"
            " not undone"
        ),
        fix="divide the ground truth by the factor found",
        measured=(
            "Median depth against 0.1 to 300 m; then against depth by the rig (matches of left and right) and against"
            " the poses (motion by perspective-n-points on the ground truth, over the length that the poses give)."
            " Where there is neither, and a level plane is seen in the lower middle of the image, the camera's height"
            " above it against 0.6 to 4 m, which warns."
        ),
        seen=(
            "the usual factors: 1000 and 100 (units), 256 (KITTI's PNG), 3.9 (millimetres read as KITTI's PNG), 5.4"
            " (Monodepth2's nominal baseline of 0.1 for 0.54 m)"
        ),
    ),
    Entry(
        "D07",
        "Ground truth does not fit the images",
        Stage.DATA,
        symptom="Scores are bad on every model, by the same amount.",
        cause="it belongs to other frames, to another camera, or it is disparity or inverse depth read as depth",
        fix="compare one map with its image by eye; check the frame numbers, the camera, and whether large means near",
        measured=(
            "The image of a neighbor warped by ground truth and the measured motion must resemble the target more than"
            " warped by a flat plane at the median depth. One motion of the camera must explain 45 % of the matches"
            " that have ground truth. With a rig, depth must be proportional to the rig's depth (rank correlation from"
            " 0.8 on, spread within 10 %, near and far alike within 10 %) and fit the map of its own frame best."
        ),
        seen=(
            "KITTI raw drives with missing LiDAR scans (frames 177 to 180 of 2011_09_26_drive_0009), counted on from"
            " there"
        ),
    ),
    Entry(
        "D08",
        "Ground truth has few levels",
        Stage.DATA,
        symptom="Scores stop improving at an error that is the step between two levels.",
        cause="depth went through an 8-bit or JPEG image made for looking",
        fix="use the original depth files (uint16 PNG, npy), not their visualization",
        measured=(
            "Distinct values in a map with more than 20 000 known pixels: 256 or fewer warns. More than 60 % whole"
            " metres, of at least 8 different ones, stops. Files of 8 bits and JPEGs are refused by name when they are"
            " read (D01)."
        ),
        seen=(
            "training diaries: masks and depth had been stored as JPEG; KITTI's 16-bit ground truth was read as 8 bits,"
            " half a metre too near on average"
        ),
    ),
    Entry(
        "B03",
        "Exposure changes between images that are compared",
        Stage.DATA,
        symptom="A source is never used, or the warp explains little though all geometry is right.",
        cause=(
            "a camera that exposes by itself, or two that do so each for itself: the loss compares colors, and takes"
            " light for motion"
        ),
        fix=(
            "set model.brightness=true, which learns a gain and an offset for each source; or record with a fixed"
            " exposure"
        ),
        measured=(
            "Quantiles of the brightness of neighbors in time, and of left and right, at the anchors: by what factor"
            " they differ, the median over pairs. A note above 11 %, a warning above 28 %; KITTI, 7-Scenes and"
            " RoadWorld have 2 %, EuRoC's cameras differ by 17 %."
        ),
        seen=(
            "a user's recording with exposures of .5 to 1.4, which trained to a source that is never used and was sent"
            " to look for a sign"
        ),
    ),
    Entry(
        "D09",
        "Splits share frames",
        Stage.DATA,
        symptom="Validation is better than any test on new data.",
        cause="the same images are listed in two splits, perhaps under other names",
        fix="split by recording (or drive), then list",
        measured=(
            "Size and digest of the images across splits, whatever their names; samples of large splits, which is "
            "said (N02). Warns from one shared frame, stops from 1 %."
        ),
        seen="pretrained depth networks whose training lists hold frames of the benchmark",
    ),
    Entry(
        "D10",
        "Splits hold neighboring frames",
        Stage.DATA,
        symptom="Validation measures how well the training frames were remembered.",
        cause="frames of one drive were dealt out to the splits one by one",
        fix="split by recording, or leave a gap of some metres of driving between blocks",
        measured=(
            "For 6 frames of a held-out split: the most similar of 400 training frames, confirmed by matches under one"
            " epipolar geometry, that have moved less than twice the way between neighbors. Warns from a quarter of the"
            " frames."
        ),
        seen="the Zhou split of KITTI: every validation frame has a training neighbor within one frame",
    ),
    Entry(
        "D11",
        "Ground truth of another size than its image",
        Stage.DATA,
        symptom="Training stops at a shape; or it learns depth that is shifted, and looks well on the image sheet.",
        cause="the images were cropped or resized, the ground truth was not (or the reverse)",
        fix=(
            "use the ground truth of the original images with the original images, and crop or resize both by the"
            " configuration"
        ),
        measured="Height and width of the maps at the sampled frames against those of the camera.",
        seen="KITTI's benchmark crop of 1216x352 beside full maps of 1242x375",
    ),
    Entry(
        "D12",
        "Ground truth of few frames",
        Stage.DATA,
        symptom="An epoch takes as long as ever and teaches a fraction; scores are means over a handful of images.",
        cause=(
            "ground truth was recorded at a lower rate, downloaded in part, or is named by other numbers than the"
            " images"
        ),
        fix="train and score on the frames that have it, or fetch the rest; compare the names of the files",
        measured="24 frames spread over the recording: warns where fewer than half, but some, have a map.",
        seen=(
            "KITTI's annotated depth leaves out the first and last five frames of a drive; NYU labels 1449 of 400 000"
            " frames"
        ),
    ),
    Entry(
        "D13",
        "Splits share drives",
        Stage.DATA,
        symptom="Validation is a little better than a test in another street.",
        cause="other frames of the same drive train: the same street, light and camera",
        fix=(
            "split by drive where scores are to hold for other places; nothing to do where blocks of your own video"
            " validate"
        ),
        measured=(
            "Recordings of one session in two splits that share no frame and no neighbors. A note where blocks of"
            " several recordings are held out; warns where two recordings of different names are of one drive."
        ),
        seen="KITTI odometry's sequences 00, 04, 05 and 07, which are drives of Eigen's test split",
    ),
    Entry(
        "D14",
        "Black bars around the image",
        Stage.DATA,
        symptom="Depth is arbitrary in the bars and beside them, and the auto-mask counts them as explained.",
        cause=(
            "a video that was fitted into another aspect, or a lens's frame; its K may be that of the image without"
            " bars"
        ),
        fix=(
            "crop them away (ffmpeg's cropdetect names the box), the camera with them: cx and cy become smaller by what"
            " is cut off"
        ),
        measured=(
            "Rows and columns from each edge of six images that are black (20 gray levels at most) and the same to 4"
            " levels in all of them, and end within two pixels. Warns from 2 % of the side."
        ),
        seen="dashcam video, letterboxed by the program that cut it",
    ),
    Entry(
        "D15",
        "Frames do not follow one another in time",
        Stage.DATA,
        symptom="Motion changes its sign from pair to pair, and is learnt as none.",
        cause=(
            "files sorted as text instead of as numbers, two cameras' streams in one list, or a clock that was set back"
        ),
        fix="sort by time, and leave out what is there twice",
        measured=(
            "Times of neighbors over the recording (where it is long of 120 frames in 4 windows). Warns from one that"
            " is not later than the frame before, stops from a tenth."
        ),
        seen="ground truth by image number instead of by time, 200 rows a second beside 20 images",
    ),
    Entry(
        "D16",
        "Times between frames are no video's",
        Stage.DATA,
        symptom="Speeds of next to nothing; poses are found for no frame, or for the wrong ones.",
        cause=(
            "times in nano-, micro- or milliseconds that are read as seconds, seconds that were divided once more, or"
            " images taken now and then instead of a video"
        ),
        fix="give times in seconds; leave out what is no video",
        measured="The median step from frame to frame: below .0005 s, or from 5 s on.",
        seen="a recording of a user's own, with times in nanoseconds as sensors write them.",
    ),
)
