"""What goes wrong while a run trains, as the watch sees it. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "T01",
        "The loss of a batch is many times what it was",
        Stage.TRAINING,
        symptom="The curve has a spike, and sometimes never comes back from it.",
        cause=(
            "a learning rate too high for these weights, logarithms of tiny values, or a sample whose labels are wrong"
        ),
        fix="look at the samples; lower optimizer.lr, or set training.clip_norm=1",
        measured=(
            "Every batch: its loss against the median of the 50 before it. Above 10 times it is told, once a run, where"
            " it is also 10 times their median distance above it. A median of 0 or less (of a loss with a logarithm) is"
            " not asked."
        ),
        seen="fine-tuning DPT at a rate of 1e-4 without fitting scale and shift first",
    ),
    Entry(
        "T02",
        "Updates are large against the weights",
        Stage.TRAINING,
        symptom="The loss jumps about, or falls and rises again; pretrained weights forget what they knew.",
        cause="the learning rate is too high for this network, or for its new parts",
        fix="lower optimizer.lr, or let it rise by schedule.warmup_steps",
        measured=(
            "train/update_ratio of each logged step from the fifth on: |update| / |weight| of the weights with two axes"
            " or more. Above 1.2 %, while the loss of the next row is no lower than the first that was logged:"
            " trainings that learn have .2 to .9 % at most, dpt-tiny at ten times its rate 3 % at step 5, 1.4 % at step"
            " 10; overlay has up to 2 %, and a loss that falls in each of 50."
        ),
        seen="attention compressed by 3 from random weights, which diverged at the rate that factor 2 had learnt at",
    ),
    Entry(
        "T03",
        "A network answers the least that it can",
        Stage.TRAINING,
        symptom="Predictions are of one far depth all over, and the loss stays where it is.",
        cause=(
            "its last ReLU answers 0 there, and has no slope: the shift or the start is wrong, or one step was too"
            " large"
        ),
        fix=(
            "fit scale and shift anew (leave model.scale and model.shift unset), lower optimizer.lr, and start again"
            " from the weights"
        ),
        measured=(
            "train/at_floor of each logged step: the share of the labeled pixels where it answers its least value."
            " Above half for 20 rows."
        ),
        seen="pixels that start at the far end of what weights can answer",
    ),
    Entry(
        "T04",
        "A data set is forgotten while another trains",
        Stage.TRAINING,
        symptom="After a second data set nothing is right any more on images like those of the first.",
        cause="data sets train one after another, or one is seen much more often than the other",
        fix="set data.order=mixed, raise data.epochs of the one that is forgotten, or train a network for each",
        measured="val/NAME/residual of each validation over the least that it was in the run: above 1.1 times.",
        seen="a depth network trained on KITTI, and then on EuRoC",
    ),
    Entry(
        "T05",
        "Data sets have units of their own",
        Stage.TRAINING,
        symptom=(
            "Depth is right on images like those of one data set, and all of it too large or too small on another's."
        ),
        cause=(
            "a data set without a stereo pair has no scale, and nothing ties it to the others'; or a baseline is wrong"
        ),
        fix=(
            "give every data set a stereo pair, check the baselines (`stadia check`), or trust depth up to scale alone,"
            " as the claim says"
        ),
        measured=(
            "val/NAME/motion_scale, what brings predicted motion to the true size, of data sets with poses whose"
            " residual is below .8 of that without depth and motion: the largest over the smallest, above 1.25 in two"
            " validations one after the other."
        ),
        seen="the same, with another baseline and frame rate in each",
    ),
    Entry(
        "T06",
        "Times that cannot be",
        Stage.TRAINING,
        symptom="One phase seems to cost nothing, another one everything; what is made faster changes nothing.",
        cause=(
            "a clock that does not wait for the device, whose work is then counted where the program waits next; or a"
            " phase that is not counted"
        ),
        fix=(
            "measure by CUDA events or after waiting for the device, with a warm-up, and take the median; trust no"
            " share of this run"
        ),
        measured=(
            "Each logged step: its parts by the device's clock against the whole by the processor's, 10 % apart in"
            " three rows, or a part below 0. At the end of a training of two minutes or more: the operations of"
            " forward, backward and step, by their median time, against 1.5 times what products of large matrices reach"
            " here."
        ),
        seen=(
            "a training diary: .155 s for SSIM beside .008 s for the network, which would have made 254 TFLOP/s of"
            " its GPU"
        ),
    ),
    Entry(
        "T07",
        "Nearly everything is in the auto-mask",
        Stage.TRAINING,
        symptom="The loss is small, and depth does not change any more.",
        cause=(
            "depth or motion is so wrong that the unwarped image explains the next better, or the camera hardly moves"
        ),
        fix="mend what an earlier finding says (K, the rig, frames at rest); lower optimizer.lr, or start again",
        measured=(
            "train/auto_masked of logged steps: the share of the pixels that an unwarped image explains, or that none"
            " sees. Above three quarters for 20 rows, from step 100 on."
        ),
        seen="F-16 of the method's notes: broken geometry makes the identity the best there is",
    ),
    Entry(
        "T08",
        "The loss or a gradient is not finite",
        Stage.TRAINING,
        symptom="NaN in every number from here on.",
        cause="a logarithm, a division or a root at 0, a label that is not finite, or a rate that is too high",
        fix="look at the samples and the term that are named, or lower optimizer.lr",
        measured=(
            "After each backward pass, before the weights change: the total and the norm of all gradients. Names the"
            " term and the samples whose maps are not finite, or the first parameter whose gradient is not."
        ),
        seen="a training diary: NaN after hours, from log(0) and 0/0 in the loss",
    ),
    Entry(
        "T09",
        "The learning rate is 0",
        Stage.TRAINING,
        symptom="Nothing changes any more.",
        cause="a schedule that ended before the training does, or a factor of 0",
        fix="schedule.name and training.max_steps have to fit; look at train/lr",
        measured="train/lr of 0 in three logged rows one after the other",
        seen="a schedule for 15 epochs in a training of 55",
    ),
    Entry(
        "T10",
        "No weight has a gradient",
        Stage.TRAINING,
        symptom="The loss changes with the batch alone.",
        cause="a loss of detached tensors, outputs that are clamped everywhere, or units that are all dead",
        fix=(
            "compute the loss from what the network says, without .detach(), .item() or clamp in between; start from"
            " another seed"
        ),
        measured="train/gradient_norm of exactly 0 in three logged rows one after the other",
        seen="depth clamped to 80 m in the loss, which killed every gradient",
    ),
    Entry(
        "T11",
        "The loss is the same for every batch",
        Stage.TRAINING,
        symptom="A curve that is a line.",
        cause="a loss of a constant, one batch time and again, or answers that do not depend on the image",
        fix="look at what the loss reads, and at the loader's samples",
        measured="train/loss, the same to the last digit in 20 logged rows one after the other",
        seen="a loss that compared an image with itself: 0.00000",
    ),
    Entry(
        "T12",
        "Scores that cannot be",
        Stage.TRAINING,
        symptom="An accuracy above 1, an error below 0: comparisons with others are worth nothing.",
        cause="sums taken for means, a division by another count than was summed over, percent beside shares",
        fix="compute the score from sums and counts of all images; compare with `stadia evaluate`",
        measured="Each validation: shares in [0, 1], errors of 0 and more, d1 <= d2 <= d3",
        seen="a notebook's mean IoU of 1.4, a sum over batches divided by another number of them",
    ),
)
