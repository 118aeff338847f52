"""Findings of the contract at the start of a training: its first batch, its optimizer, and what its networks say at
first.
"""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.contract.bounds import BESIDE, ENOUGH_SAMPLES, ENOUGH_VALUES, LEAST_FOCAL
from stadia.diagnostics.finding import Stage


def _start(code: str, title: str, *, symptom: str, cause: str, fix: str, measured: str, seen: str) -> Entry:
    return Entry(code, title, Stage.CONTRACT, symptom, cause, fix, measured, seen)


ENTRIES = (
    _start(
        "K20",
        "K of the batch is that of another image",
        symptom="The warp explains nothing, though the recordings' K is right.",
        cause="a resize or crop of the images that K did not take part in",
        fix="change images and camera together (geometry.camera.resize, crop, mirror)",
        measured=(
            f"the camera's size is the images', the principal point is in them or {BESIDE:.0%} beside (a crop or zoom"
            f" moves it), and the focal length is {LEAST_FOCAL:g} widths at least of the least image whose middle it is"
            " and of which these are a part; medians of the first batch"
        ),
        seen="a training diary: K of 1392 pixels used on 640",
    ),
    _start(
        "S01",
        "At the start most of the image is out of sight",
        symptom="The loss is small or 0 from the first step and does not fall.",
        cause="depth far too near or motion far too large at the start, a sign, K of another size",
        fix="mend depth's start (model.start_depth_m) and motion's (model.translation_scale)",
        measured=(
            "the share of pixels that no source sees in the first step, above a half; .01 to .2 in trainings that learn"
        ),
        seen="a training diary: all pixels outside, a sampler that repeats the border, streaks",
    ),
    _start(
        "M01",
        "Depth starts far from the data's",
        symptom="The first thousand steps go into the scale, or depth never comes.",
        cause="a range or a start for another scene, another unit",
        fix="set model.start_depth_m to a depth that is usual in the data, in the unit of its poses or rig",
        measured=(
            "the median at the start over that of the labels, 1/5 to 5; of a rig, images apart by .3 pixels to a third"
            " of the width"
        ),
        seen="a training diary: a start at 186 pixels of disparity; depth of 150 m clamped at 80",
    ),
    _start(
        "M02",
        "Depth starts at a bound",
        symptom="Depth stays constant; its head has no slope.",
        cause="a sigmoid that is full, a clamp in the path of the loss, a head that is too large at the start",
        fix="clamp in the evaluation alone; start the last layer small",
        measured="the share of pixels with one and the same extreme depth in the first batch, above a half",
        seen="a training diary: clamp(1e-3, 80) killed every gradient",
    ),
    _start(
        "M03",
        "What is seen is beyond what depth can be",
        symptom="Far things come out too near, and errors stay however long the training.",
        cause=(
            "a range of another data set (80 m for a drive in the mountains, 10 m for rooms), or labels in another unit"
        ),
        fix="widen model.min_depth_m and max_depth_m, or cap the labels and say so",
        measured=(
            "the share of labeled pixels of the first batch outside of the model's range, above 5 %; without labels"
            " that of the matches of a pair of known rig, by more than a pixel, above 25 % (RoadWorld, KITTI, EuRoC: 2"
            " % at most, and 38 to 100 % of wrong ranges)"
        ),
        seen="depths never outside of [0, 1] for a month",
    ),
    _start(
        "P02",
        "Motion starts large",
        symptom="Nothing is in sight at first; training may never recover.",
        cause="a pose head without its scale of .01, Euler angles in degrees, pretrained weights of another unit",
        fix="leave model.translation_scale and rotation_scale at .01",
        measured=(
            "a step above .3 times the median depth, or a turn above 5 degrees, by the untrained network; 1e-3 and .1"
            " degrees here"
        ),
        seen="a training diary: motions of 10 to 100, 20 m at a learning rate of 5e-4",
    ),
    _start(
        "B02",
        "Brightness does not start unchanged",
        symptom="The loss starts high, and the first thing that is learnt is a wrong exposure.",
        cause="an activation whose 0 is not gain 1 (softplus without its bias), a head that starts large",
        fix="start the head at exactly (1, 0)",
        measured="gain and offset in the first step, (1, 0) within 1e-3",
        seen="a training diary: gains that began off 1 and ran to 0",
    ),
    _start(
        "R01",
        "Smoothness rules from the start",
        symptom="Depth is flat.",
        cause="a sum on means, smoothness of metres, a weight of another scale",
        fix="loss.smoothness is 1e-3 in the published recipe, of inverse depth over its mean",
        measured=(
            "the term smoothness over photometric in the first step, above .3; 1e-4 to 1e-2 in trainings that learn"
        ),
        seen="a training diary: 162 beside a photometric mean",
    ),
    _start(
        "T20",
        "Parameters that nothing trains",
        symptom="A network stays as it was at the start.",
        cause="a part that was built later than the optimizer, or is not among the groups",
        fix="parameter_groups() gives every trainable parameter",
        measured="trainable parameters of the task that are in no group of its optimizer",
        seen="a training diary: an iterator of parameters that was used up by the first optimizer",
    ),
    _start(
        "T21",
        "A parameter is in the optimizer twice",
        symptom="It learns at twice the rate; a checkpoint cannot be loaded.",
        cause="a shared network named by two groups",
        fix="each parameter in one group",
        measured="parameters that stand more than once in the groups",
        seen="an encoder shared by depth and motion, given with both",
    ),
    _start(
        "T22",
        "Nothing is trainable",
        symptom="The loss is the same at every step.",
        cause="requires_grad_(False) on everything, after loading weights for instance",
        fix="requires_grad_(True) on what trains",
        measured="no parameter requires a gradient",
        seen="weights frozen for a test, and left so",
    ),
    _start(
        "T23",
        "Parameters that the loss does not reach",
        symptom="A branch stays random; several GPUs stop with an error of unused parameters.",
        cause="a branch that is built and not used, a detached answer, a term whose weight is 0",
        fix="do not build what is not used; look for detach",
        measured="trainable parameters without a gradient after the first backward pass",
        seen="skip connections that were computed and not assigned",
    ),
    _start(
        "T26",
        "The loss of one batch does not fall",
        symptom="The loss hovers from the first step on, however long the training.",
        cause="an optimizer that climbs, a learning rate of another size, answers without a slope",
        fix="mend what else is found first; try optimizer.lr ten times larger and smaller",
        measured=(
            "30 steps on the training's first batch: the loss falls by 1 % at least; 4 to 60 % in the five recipes. Not"
            " told of weights whose loss is below half of what it is with each weight at another's place: they have"
            " learnt. The loss falls as well by what is no geometry (sources of another sample, noise): that is asked"
            " of the data before, and of training by S20"
        ),
        seen="a training diary: no known good start was ever trained; overfitting a batch was tried after two months",
    ),
    _start(
        "T27",
        "Half the precision says something else",
        symptom="bf16 trains worse, or dies.",
        cause="a projection, a logarithm or a small difference in bfloat16",
        fix="keep geometry and losses in float32 (torch.autocast(..., enabled=False))",
        measured=(
            "the first batch's loss under autocast to bfloat16 against float32, within 5 %; 1 % in the five recipes"
        ),
        seen=(
            "a training diary: autocast without care turned the loss's sign; attention that fell apart at half"
            " precision"
        ),
    ),
    _start(
        "T28",
        "An image's depth depends on its neighbors in the batch",
        symptom="Predictions of single images are worse than validation.",
        cause="batch statistics in evaluation, a norm over the batch, attention across it",
        fix="eval() must use running statistics; normalize each image by itself",
        measured="depth of an image alone against that in its batch, in evaluation: the median differs by 1e-3 at most",
        seen="a batch size that was written into a layer",
    ),
    _start(
        "T29",
        "Memory grows from step to step",
        symptom="Out of memory after an hour.",
        cause="losses kept with their graph (a list of tensors, a running sum without .item())",
        fix="detach what is kept",
        measured=(
            "held after the third step of one batch and after the last: 100 MB more, and as steadily in each third of"
            " the steps"
        ),
        seen="running sums of losses that kept every graph",
    ),
    _start(
        "D40",
        "Images are not in [0, 1]",
        symptom="SSIM and exposure thresholds mean nothing; weights that were pretrained see noise.",
        cause="8-bit values that were not divided, or were divided twice; images normalized before the loss",
        fix="give RGB in [0, 1]; networks normalize by themselves",
        measured="least and largest value of the first batch's images: -.01 to 1.01, and brighter than .02 somewhere",
        seen="a training diary: normalized images in the loss, SSIM of .45 for .25",
    ),
    _start(
        "D41",
        "A batch of one image",
        symptom="The loss falls to nothing, and other images are wrong.",
        cause="a data set that does not read its index",
        fix="__getitem__(index) must open the file of that index",
        measured="all images of the first batch are equal to the last digit",
        seen=(
            "public code: a frame number that was read from the split and not used, ten frames of each drive for weeks"
        ),
    ),
    _start(
        "D42",
        "A source is the target itself",
        symptom="A loss of 0 from the start; motion of 0.",
        cause="an offset of 0, a right image read from the left folder",
        fix="compare the files of target and source",
        measured="a source equal to the target to the last digit in every sample of the first batch",
        seen="a loss of 0.00000 reported by users of a published baseline: both files were the left one",
    ),
    _start(
        "T33",
        "Batch statistics of very few images",
        symptom="Validation jumps, and is worse than training.",
        cause="batch normalization with batches of a few samples, which are alike in themselves and unlike the next",
        fix="raise training.batch_size, or take an encoder without batch normalization (groups, layers)",
        measured=(
            "layers of batch normalization that train (not those left in eval) and batches of one image, or of fewer"
            f" than {ENOUGH_SAMPLES} with fewer than {ENOUGH_VALUES} values a channel (pixels of all images)"
        ),
        seen="fine-tuning at full size with batches of one",
    ),
)
