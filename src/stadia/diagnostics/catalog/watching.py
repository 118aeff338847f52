"""What the watch reads of the networks of a video: sources, depth and its mapping, motion. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

_LASTING = "in 20 logged rows one after the other, from step 100 on"

ENTRIES = (
    Entry(
        "S22",
        "A source that is never used",
        Stage.TRAINING,
        symptom="Depth is learnt from some of the sources; the residual of the others falls with none of it.",
        cause=(
            "its pose or the rig's sign is wrong, so that another source explains every pixel better; or it is another"
            " image"
        ),
        fix="`stadia check DATA` for the rig (E01 to E04); train with that source alone: data.stereo, data.offsets",
        measured=(
            "train/explained_by/SOURCE: of the pixels that a warped source explains the share of each that teaches."
            " Below 2 % "
        )
        + _LASTING
        + "; 4 to 74 % in a training that learns",
        seen="a training diary: stereo depth that was ignored for a month while neighbors in time won everywhere",
    ),
    Entry(
        "S23",
        "The warp leaves the image",
        Stage.TRAINING,
        symptom="Warped images are streaks of a border; the loss is small, as next to nothing is compared.",
        cause=(
            "depth far too small or motion far too large: a sigmoid taken for depth, a pose without its scale, K of"
            " another size"
        ),
        fix=(
            "look at 'best warped source' in the report; leave model.translation_scale and start_depth_m as they are;"
            " `stadia check DATA`"
        ),
        measured="train/outside: the share of the pixels that no source sees. Above half "
        + _LASTING
        + "; .04 at most in a training that learns",
        seen="a training diary: a sigmoid used as depth, with all of it outside",
    ),
    Entry(
        "S24",
        "The right view's warp explains nothing",
        Stage.TRAINING,
        symptom="Depth of the left view learns, that of the right one does not, and both disagree.",
        cause=(
            "the right view is warped by the left one's transform instead of its inverse, or compared with the wrong"
            " image"
        ),
        fix="`stadia check DATA` for E01 and E02; leave loss.right_view at 0 until the left view learns",
        measured="train/warped_over_unwarped_right, as S20 of the left one: above .97 "
        + _LASTING
        + "; .35 to .57 in a training that learns",
        seen="a training diary: maps of the right view entered the left one's minimum",
    ),
    Entry(
        "M20",
        "Depth is one value all over",
        Stage.TRAINING,
        symptom="Images of depth are one color.",
        cause=(
            "the minimum of a loss that cannot be lowered by depth: geometry is wrong, smoothness rules, or a step was"
            " too large"
        ),
        fix="mend what an earlier finding says; lower optimizer.lr or loss.smoothness, and start again",
        measured="train/depth/spread: the deviation of an image's inverse depth over its mean. Below 5 % "
        + _LASTING
        + "; 37 to 61 % in a training that learns, 0 in one that collapsed",
        seen="a training diary: flat depth maps, whichever weight of the smoothness was tried",
    ),
    Entry(
        "M21",
        "Depth is at the least that there can be",
        Stage.TRAINING,
        symptom="Most of the image is a wall before the lens.",
        cause="model.min_depth_m is larger than what is seen, or predicted motion is too small for the true one",
        fix="lower model.min_depth_m; look at the findings about motion",
        measured="train/depth/at_nearest: the share of the pixels within 5 % of model.min_depth_m. Above a fifth "
        + _LASTING,
        seen="a training diary: a bad start, with disparities of 186 pixels",
    ),
    Entry(
        "M22",
        "Depth is at the largest that there can be",
        Stage.TRAINING,
        symptom="The image is infinitely far; only turns are explained.",
        cause=(
            "depth ran into the flat end of its sigmoid, where it has no slope: a step that was too large, or a motion"
            " of nothing"
        ),
        fix=(
            "lower optimizer.lr, start again from pretrained weights; or raise model.max_depth_m where the scene is"
            " that far"
        ),
        measured="train/depth/at_farthest: the share of the pixels within 5 % of model.max_depth_m. Above four fifths "
        + _LASTING
        + "; 0 in a training that learns, all in one that collapsed",
        seen="a mono training from random weights at ten times its rate: all of it at 100 m from step 60 on",
    ),
    Entry(
        "M23",
        "The unit of depth runs away",
        Stage.TRAINING,
        symptom=(
            "Depth grows or shrinks without end, and motion with it; checkpoints of one run have scales of their own."
        ),
        cause=(
            "a term that a smaller or larger unit lowers, such as smoothness of depth that is not divided by its mean"
        ),
        fix=(
            "set loss.smoothness_kind to one that is the same for all units; give the scale by a stereo pair or by"
            " heights"
        ),
        measured=(
            "train/depth/median: the median over 20 logged rows against that of the first 20 from step 100 on, more"
            " than a factor of 6 apart, further than a start may be (M01); a warm-up is not counted"
        ),
        seen="a training diary: smoothness of metric depth, which weighed 25 times what it should",
    ),
    Entry(
        "P21",
        "Predicted motion is nothing",
        Stage.TRAINING,
        symptom="Only turns are explained; depth has no parallax to learn from.",
        cause="the head's factor is too small, its last layer died, or the camera does stand still",
        fix="leave model.translation_scale as it is; `stadia check DATA` (D03); a larger stride",
        measured=(
            "train/motion/over_depth/SOURCE: the length of the translation over the median depth, the median of a"
            " batch. Below .1 % "
        )
        + _LASTING
        + "; 3.6 to 7.8 % in a training that learns, .1 to .3 % in one that collapsed",
        seen="a training diary: translations of .001 to .03 for weeks, and factors tried on them",
    ),
    Entry(
        "P22",
        "Predicted motion leaps",
        Stage.TRAINING,
        symptom="The path leaves the map; warped images are of somewhere else.",
        cause=(
            "no factor on what the pose network says, a learning rate that is too high, or frames that do not follow"
            " one another"
        ),
        fix="leave model.translation_scale as it is, lower optimizer.lr; `stadia check DATA` (D15)",
        measured="train/motion/over_depth/SOURCE: the length of the translation over the median depth. Above 1 "
        + _LASTING
        + "; .08 at most in a training that learns",
        seen="a training diary: 20 m a frame at a rate of 5e-4",
    ),
    Entry(
        "P23",
        "Turns that no camera makes",
        Stage.TRAINING,
        symptom="Warped images are turned; the path is a knot.",
        cause=(
            "degrees taken for radians, no factor on what the pose network says, or frames that do not follow one"
            " another"
        ),
        fix="leave model.rotation_scale as it is, lower optimizer.lr; `stadia check DATA` (D15)",
        measured="train/motion/turn_deg/SOURCE: the angle to a neighbor, the median of a batch. Above 15 degrees "
        + _LASTING
        + "; .4 at most in a training that learns",
        seen="a training diary: .6 to .9 rad a frame, taken for an occasional turn",
    ),
    Entry(
        "P24",
        "Before and after lie on the same side",
        Stage.TRAINING,
        symptom="One of the neighbors explains the image, the other one never does.",
        cause=(
            "the same pair, or the same order, is given to the pose network for both; or one of the two is not inverted"
        ),
        fix="give pairs from earlier to later and invert one: T_source_target of -1 and +1 point away from one another",
        measured=(
            "train/motion/same_side: the mean cosine between the translations to the neighbors before and after."
            " Above .5 "
        )
        + _LASTING,
        seen="a training diary: signs mixed between the sources",
    ),
    Entry(
        "P25",
        "Depth and motion have different units",
        Stage.TRAINING,
        symptom="The path has the right form and a wrong length, though the rig gives metres.",
        cause="the baseline has another unit than the poses, or stereo and neighbors in time have scales of their own",
        fix="`stadia check DATA` for E03 and E08; let neighbors in time teach depth as well: loss.temporal_from_step",
        measured=(
            "val/motion_slope/tz, where metres are claimed, outside of 1/1.4 to 1.4 with a correlation above .9, in two"
            " validations one after the other, the second no nearer"
        ),
        seen="a training diary: baseline times focal length was applied to one kind of source and not to the other",
    ),
)
