"""Findings of a training on video while it learns: sampling, loss axes, brightness, motion, smoothness."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

_LASTING = "20 logged rows one after the other, from step 100 on"

ENTRIES = (
    Entry(
        "S20",
        "The warp explains nothing",
        Stage.TRAINING,
        symptom="The loss falls a little and stays; depth is flat or noise, and motion is nearly zero.",
        cause=(
            "what is warped does not lie where depth and motion say: a sign, an inverted pose, K of another size,"
            " disparity taken for depth, or a scene that is not between model.min_depth_m and model.max_depth_m"
        ),
        fix=(
            "`stadia check DATA`, and the range of depth against the scene's; look at the image 'best warped source'"
            " beside the target; then lower optimizer.lr"
        ),
        measured="train/warped_over_unwarped: the residual by the residual of images as they are. Above .97 in "
        + _LASTING
        + ". Trainings that learn have .27 to .90; every structural error that was simulated gives .87 or more.",
        seen=(
            "a training diary: months at a ratio of 1.00, K having been divided by the image's size and used on pixels"
        ),
    ),
    Entry(
        "S21",
        "Unseen images are explained as well without depth and motion",
        Stage.TRAINING,
        symptom="The training's loss falls, and predictions of other images are useless.",
        cause=(
            "what was learnt holds for the training's images alone (too few of them, another camera, another size), or"
            " geometry is wrong"
        ),
        fix=(
            "more recordings, or the same camera; compare train/warped_over_unwarped, and if that is near 1 too see S20"
        ),
        measured=(
            "val/residual against val/residual_unwarped, above .97 in two validations one after the other; .44 in"
            " trainings that learn"
        ),
        seen="a model of three days that was good on some images only",
    ),
    Entry(
        "L20",
        "Depth or motion has no say in the loss",
        Stage.TRAINING,
        symptom="One of the two stays as it was at the start, however long the training.",
        cause=(
            "a factor on one answer (a pose scale of 1e-4, depth of another unit), a detached tensor, or a term that"
            " swallows the others"
        ),
        fix="leave model.translation_scale and rotation_scale as they are; look at which term's gradient is largest",
        measured=(
            "gradient/inverse_depth/0 against the larger of gradient/translation and gradient/rotation, apart by more"
            " than a factor of 1000 in "
        )
        + _LASTING
        + "; .2 to 7 in trainings that learn",
        seen="a training diary: hooks of 100 and 1e-4 on the pose's gradients, tried for weeks",
    ),
    Entry(
        "B20",
        "Exposures that no camera makes",
        Stage.TRAINING,
        symptom="Images become constant under the gain, the loss falls, and depth does not get better.",
        cause=(
            "where the warp is wrong a gain near 0 and a constant explain most; or brightness began before geometry had"
        ),
        fix="mend the geometry first (S20); begin later by loss.brightness_from_step, and raise loss.brightness",
        measured="train/gain and train/offset of any source: a gain outside of 1/1.6 to 1.6 or an offset beyond .3 in "
        + _LASTING
        + ". Injected exposures of spread .25 gave gains of .75 to 1.22.",
        seen="a training diary: a near 0 and b near 1 in many runs, a = 12 in one",
    ),
    Entry(
        "B21",
        "Much of the image is saturated",
        Stage.TRAINING,
        symptom="The sky and the road have no loss; depth there is anything.",
        cause=(
            "an exposure that is too long, a threshold that is too low, or a mask that asks for one channel instead"
            " of all"
        ),
        fix="record with a shorter exposure; what is saturated teaches nothing",
        measured="train/saturated: the share of pixels left out since all channels saturate. Above a quarter in "
        + _LASTING
        + "; .20 at most where exposures were injected",
        seen="a mask that took every pure red, green and blue for overexposed",
    ),
    Entry(
        "U04",
        "The loss runs away below zero",
        Stage.TRAINING,
        symptom="The loss falls without end; Sigma is at its floor.",
        cause="residuals of nearly 0: images that are the same, a source that is the target, or a degenerate mask",
        fix="`stadia check DATA` (D02, D04); compare the source's files with the target's",
        measured="train/loss below -4 in "
        + _LASTING
        + ": residuals of a hundredth, which real images do not have; -1.7 in a training that learns",
        seen="a training diary: losses towards minus infinity",
    ),
    Entry(
        "P20",
        "Predicted motion goes backwards",
        Stage.TRAINING,
        symptom="A path that is mirrored or runs the other way; depth may look right.",
        cause="poses applied in the other direction, or ground truth that is inverted",
        fix=(
            "`stadia check DATA` for inverted poses (E06); then look at what is inverted between the pose network and"
            " the warp"
        ),
        measured=(
            "val/motion_along (how far predicted translation goes along the true one, the median) below -.5 in two"
            " validations one after the other, the second no nearer to 1, where images are explained"
        ),
        seen="a training diary: negative z for weeks",
    ),
    Entry(
        "R20",
        "Smoothness rules the loss",
        Stage.TRAINING,
        symptom="Depth is flat, with soft edges at best.",
        cause="a weight for sums on a term of means, or smoothness of depth instead of inverse depth by its mean",
        fix="lower loss.smoothness; 1e-3 is the published weight",
        measured="train/term/smoothness over train/term/photometric, as they enter the loss, above .3 in "
        + _LASTING
        + "; .002 in trainings that learn",
        seen="a training diary: sums of 162 beside a photometric mean, weights of 1e-3 to 1e-5 tried in turn",
    ),
)
