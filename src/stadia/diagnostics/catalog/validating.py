"""What the watch reads of terms, of the pace, and of validations beside the training, of whatever recipe. Imports no
torch.
"""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "L21",
        "A term of the loss is a constant",
        Stage.TRAINING,
        symptom="One curve of the terms is a line; its weight changes nothing.",
        cause="it is computed from labels alone, from detached answers, or from what is clamped everywhere",
        fix="compute it from what the network says; look at the values that go in",
        measured=(
            "train/term/NAME, the same to the last digit and not 0 in 20 logged rows one after the other while the loss"
            " changes"
        ),
        seen="a notebook of depth and mask: 'SSIM has no effect'",
    ),
    Entry(
        "L22",
        "A term starves",
        Stage.TRAINING,
        symptom="One of the answers, depth or mask, stays as it was while the other learns.",
        cause="weights that are far from the sizes of the terms' gradients",
        fix="set loss.balance=true, or raise the weight of the one that starves",
        measured=(
            "train/gradient_share/NAME, where the recipe measures it: below 1 % in 20 logged rows one after the other, "
            "from step 100 on; 3 % where a weight was meant to be ten times too small"
        ),
        seen="a notebook: weights a > b for depth and mask, and a mask that did not learn",
    ),
    Entry(
        "L23",
        "The loss is not the sum of its terms",
        Stage.TRAINING,
        symptom="Curves of the terms do not explain that of the loss; what is reported was not trained.",
        cause=(
            "a term is left out of the sum or of the report, is logged without its weight, or the log adds up over"
            " steps"
        ),
        fix="return as terms what enters the total, each with its weight",
        measured=(
            "train/loss against the sum of train/term/NAME: more than 1 % of the terms' sizes apart in three logged"
            " rows"
        ),
        seen="M-08: a text says that a term was removed, and the log has it; a running sum that was logged as the loss",
    ),
    Entry(
        "U05",
        "Uncertainty is large where the residual is small",
        Stage.TRAINING,
        symptom="Maps of Sigma look like the opposite of the residual.",
        cause="the residual is multiplied by Sigma instead of divided, or exp(-log Sigma) is taken for Sigma",
        fix="divide by Sigma and add log Sigma; compare with losses.uncertainty",
        measured=(
            "val/residual_spearman, the rank correlation of residual and Sigma over pixels: below 0 in two validations"
            " one after the other, once it is taught; .46 in a training that learns"
        ),
        seen="public code that multiplied where the paper divides",
    ),
    Entry(
        "U06",
        "Uncertainty is not the size of the residual",
        Stage.TRAINING,
        symptom="Sigma sorts the pixels well, and as a number it is wrong by the same factor everywhere.",
        cause=(
            "bounds on log Sigma that are too narrow, another norm than its density's, or what validates is much harder"
        ),
        fix="train longer; compare val/inside_50 with .5; do not read Sigma as a size",
        measured=(
            "val/residual_over_sigma, 1 where both have one size: outside of 1/2 to 2 in two validations one after the"
            " other, once it is taught; 1.2 in a training that learns"
        ),
        seen="a training diary: a floor of 1 under a sigmoid's Sigma, of which the logarithm was 0",
    ),
    Entry(
        "H18",
        "Most objects are not believed",
        Stage.TRAINING,
        symptom="Heights of objects say little of the scale, and what they say comes from the few that agree with it.",
        cause=(
            "a horizon half a degree off, which refuses half of them, a wrong height that keeps what agrees with it, or"
            " wrong classes"
        ),
        fix="give the horizon by road.horizon; look at the objects' masks; raise heights.tolerance",
        measured="train/metric/objects_believed: below 40 % in 20 logged rows one after the other, from step 100 on",
        seen="F-20: a horizon that was half a degree off refused 53 % of the objects",
    ),
    Entry(
        "H19",
        "Depth has its form, and not its size",
        Stage.TRAINING,
        symptom="Median-scaled scores look well, and those in metres are absurd.",
        cause="the scale's terms weigh too little against a depth without scale, or the height that they know is wrong",
        fix=(
            "begin scale.camera_height earlier, or raise scale.object_height; look at the camera's height in the report"
        ),
        measured=(
            "val/abs_rel above .3 and above twice val/abs_rel_scaled in two validations one after the other, and .9 of"
            " the one before at least"
        ),
        seen="F-08: geometry kept, scale ignored",
    ),
    Entry(
        "O20",
        "Rotations get worse while their loss falls",
        Stage.TRAINING,
        symptom="The loss converges, and all rotations are the same and wrong.",
        cause=(
            "a loss whose least value is the orientation farthest away: a sign; or quaternions that are averaged with"
            " both signs"
        ),
        fix="the loss of the truth has to be the least there is; leave loss.rotation_kind at a kind of this package",
        measured=(
            "val/rotation_error_deg has risen in three validations one after the other, while the median of"
            " train/term/rotation between them fell each time"
        ),
        seen=(
            "P-01: minus log(eps + 1 - |q . q_true|), whose loss fell to 0 while the error grew from 10 to 200 degrees"
        ),
    ),
    Entry(
        "O21",
        "No object is found",
        Stage.TRAINING,
        symptom="Errors of rotation and place are NaN, or those of very few objects.",
        cause="masks do not learn: too few steps, a loss that counts the background most, classes with other numbers",
        fix="look at 'masks' in the report; train longer; give loss.dice a weight",
        measured="val/found is 0 of val/objects in three validations one after the other",
        seen="P-09: metrics that left out what was missed, and got better",
    ),
    Entry(
        "C30",
        "The mask is of nothing, or of everything",
        Stage.TRAINING,
        symptom="Masks are black, or white; their loss stays where it is.",
        cause=(
            "depth takes all of the gradient, a sigmoid is followed by a loss of logits, or the learning rate was too"
            " high"
        ),
        fix="raise the weight of loss.mask_bce or set loss.balance=true; lower optimizer.lr",
        measured=(
            "val/mask_iou below 5 % and not 1.5 times the one before, or val/mask_mae above a half, in two validations;"
            " .94 and .010 in a training that learns"
        ),
        seen=(
            "a notebook: a sigmoid inside of the model, cross-entropy of logits outside, and a loss that stuck at .0185"
        ),
    ),
    Entry(
        "T13",
        "The training fits, and what validates gets worse",
        Stage.TRAINING,
        symptom="The loss falls to the end; the best checkpoint is an early one.",
        cause="few images for so many weights, or nothing that changes them",
        fix="more recordings, data.augmentation, fewer steps; the best checkpoint is kept beside the last",
        measured=(
            "The first of val/residual, depth_and_mask_error, rotation_error_deg_of_all, abs_rel and rmse: higher in"
            " each of three validations one after the other and 1.1 times the least in all, while the median of"
            " train/loss between them fell each time"
        ),
        seen="a fine-tuning that got worse from its sixth epoch on while the loss still fell",
    ),
    Entry(
        "T14",
        "The learning rate is next to nothing",
        Stage.TRAINING,
        symptom="Curves are flat long before the training ends.",
        cause="a schedule for fewer steps than the training has, or a rate that was meant for another optimizer",
        fix="schedule.name and training.max_steps have to fit; look at train/lr",
        measured=(
            "train/lr above 0 and below a thousandth of the highest that the run had, in 20 logged rows and a tenth of"
            " all; a cosine to 0 is there for its last 2 %"
        ),
        seen="F-02: metrics did not move at all, with a rate that was tiny by accident",
    ),
    Entry(
        "T15",
        "Weights do not move",
        Stage.TRAINING,
        symptom="The loss is noise around where it began.",
        cause=(
            "an optimizer of other parameters than the model's, gradients clipped to nothing, or a rate of another"
            " magnitude"
        ),
        fix="make the optimizer of the model's parameters; raise training.clip_norm and optimizer.lr",
        measured=(
            "train/update_ratio, |update| / |weight|, below 1e-7 in 20 logged rows one after the other while the rate"
            " is above 1 % of the highest; trainings that learn have 1e-4 to 1e-2"
        ),
        seen="a training diary: an iterator over parameters that was exhausted when the optimizer was made",
    ),
    Entry(
        "T16",
        "The training waits for its data",
        Stage.TRAINING,
        symptom="A faster GPU changes nothing.",
        cause="images are decoded or fetched more slowly than the network learns from them",
        fix="raise training.workers; leave data.cache on; a smaller size on disk",
        measured=(
            "time/loading_s above half of time/step_s in 20 logged rows one after the other, from step 100 on; .02 to"
            " .05 in trainings with a cache"
        ),
        seen="F-40: a training of four days on one GPU",
    ),
    Entry(
        "T17",
        "A score is not a number",
        Stage.TRAINING,
        symptom="A column of nan that nobody looks at.",
        cause="a logarithm of a prediction of 0, a division by a count of 0, or nothing that could be scored",
        fix=(
            "look at the count beside it; clamp what enters a logarithm; give the ground truth or masks that are"
            " missing"
        ),
        measured="Scores of validations that are not finite in three of them, or in one after they were",
        seen="M-01: a mean log10 of nan in every line of a notebook",
    ),
)
