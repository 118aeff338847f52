"""Findings of the contract's laws of losses: what is asked of a loss on a scene whose right answer is known."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.contract.bounds import A_COLOR, BELOW, COARSER, HALF_NOISE, HALVES, RELIEF, RISES, SAME_RELIEF
from stadia.diagnostics.finding import Stage


def _law(code: str, title: str, *, symptom: str, cause: str, fix: str, measured: str, seen: str) -> Entry:
    return Entry(code, title, Stage.CONTRACT, symptom, cause, fix, measured, seen)


_WALL = "on a textured wall whose images, depth and motion are known in closed form (or on known labels), in float64"
_SCALE = f"at no place from .5 to 2 times the truth less than there, by more than {BELOW:.1%} of the range"

ENTRIES = (
    _law(
        "L01",
        "The loss likes a wrong depth best",
        symptom="The loss falls, and depth gets worse.",
        cause="a sign, depth taken for inverse depth, a term that rewards flat depth more than a right one, a clamp",
        fix="look at the values by depth in the evidence; leave out the terms one by one",
        measured=f"{_WALL}: {_SCALE}",
        seen=(
            "a training diary: disparity used as depth, weeks of flat maps; smoothness of depth beside a photometric"
            " mean"
        ),
    ),
    _law(
        "L02",
        "The loss falls away from the truth",
        symptom="Training stops at a wrong answer, another one for each seed.",
        cause="a clamp or mask that gives up where the error is large, a term with a slope of its own",
        fix="look at the values in the evidence; take out what is masked by its error",
        measured=f"{_WALL}: rises on both sides of the truth, but for {RISES:.0%} of the range",
        seen="residual thresholds that threw away what had to be learnt",
    ),
    _law(
        "L03",
        "The gradient is not the slope",
        symptom="Training creeps, or runs away, though the loss's values are right.",
        cause="a detached tensor, a backward pass of one's own, an operation in place, rounding",
        fix="torch.autograd.gradcheck in float64 on the parts; look for detach, .data and no_grad",
        measured=(
            f"{_WALL}: finite differences along the gradient, at three steps, the nearest within 5 % (of exposures 25"
            " %, as what the auto-mask leaves out follows them and teaches nothing); 1e-4 in the house's losses"
        ),
        seen=(
            "a training diary: weeks of doubt about which functions can be differentiated, requires_grad_ sprinkled on"
            " inputs"
        ),
    ),
    _law(
        "L04",
        "Samples of a batch teach each other",
        symptom="Results depend on the batch size and on the order of samples.",
        cause="a mean, a norm or a median over the whole batch where each image has its own",
        fix="reduce over the pixels of each image first, then over images; silog_per_image instead of silog_pooled",
        measured=f"{_WALL}: the gradient of one sample when another one changes, below 1 %",
        seen="a SILog pooled over the batch; metrics that changed with the batch size",
    ),
    _law(
        "L05",
        "The loss grows with the batch",
        symptom="Another batch size needs another learning rate; losses of runs do not compare.",
        cause="a sum over samples where a mean is meant",
        fix="one mean over the batch, as the last step",
        measured=f"{_WALL}: the loss of the same batch twice, 1 within 1 %",
        seen="a training diary: losses of 10,000, of 230,000 and of .7 for one model, sums and means mixed",
    ),
    _law(
        "L06",
        "The loss grows with the image",
        symptom="Weights that were right at one size are wrong at another; stages of growing images jump.",
        cause="a sum over pixels where a mean is meant",
        fix="one mean over the pixels of each image",
        measured=(
            f"{_WALL}: of twice the width and height, with texture and motion as many pixels as before, .5 to 2 times"
            " the loss; .7 to 1.4 in the house's losses, compared at one to six sizes, and 4 times that for a sum;"
            f" what depth's relief costs alone, at most {COARSER:g} times, a half in the house's losses"
        ),
        seen="a training diary: a loss of 15,000 where .1 was to be expected",
    ),
    _law(
        "L07",
        "The order of the sources matters",
        symptom="Depth is worse on one side, or one source teaches nothing.",
        cause="a source that is taken by its place, or weighs more than the others",
        fix="take sources by their names",
        measured=f"{_WALL}: the loss of the sources in reverse, the same within 1e-5",
        seen="sources of different weight by their place in a list",
    ),
    _law(
        "L08",
        "The loss tells left from right",
        symptom="Mirroring as an augmentation makes it worse; edges are shifted to one side.",
        cause="differences or windows that reach to one side, a principal point that is not mirrored, half a pixel",
        fix="use centered windows; mirror K by width - 1 - cx and motion by S T S",
        measured=f"{_WALL}: of the scene in a mirror, the same within 1e-3",
        seen="shifted windows; mirrored images with K as it was",
    ),
    _law(
        "L09",
        "The loss is not finite on images that drives have",
        symptom="Training dies after hours, at a tunnel, in the sun or at a traffic light.",
        cause="a logarithm, root or division at 0; a mean over no pixel",
        fix="add a floor below roots and logarithms; 0 with a gradient where nothing is labeled",
        measured=(
            f"{_WALL}: value and gradient are finite of usual images (else it stops), at the truth, of black, white and"
            " equal images, of an image without labels"
        ),
        seen="a training diary: NaN after hours; log10 of what is 0 in every line of another",
    ),
    _law(
        "L10",
        "Something that can be wrong has no gradient",
        symptom="Depth, motion or mask stays as it was at the start.",
        cause="a detached tensor, rounding, a mask that is empty, a nearest neighbor where bilinear is meant",
        fix="look for detach, argmax, round and .item() between the answer and the total",
        measured=f"{_WALL}: the gradient of each answer at a moderately wrong one is not 0",
        seen="losses that returned torch.tensor([0]) and trained nothing",
    ),
    _law(
        "L11",
        "The loss raises",
        symptom="The training stops at once, or at the first batch of an odd shape.",
        cause="another signature or shape than the house's, a missing field, a size that is written into the code",
        fix="call it with (targets, prediction, source_names) and any batch size; see docs/add-a-loss.md",
        measured=(
            f"{_WALL}: the loss is called, and its gradient taken; later, of every other scene, batch and size (a"
            " warning)"
        ),
        seen="batch sizes written into layers; a variable that was set inside of a loop only",
    ),
    _law(
        "L12",
        "The loss is not one number with a gradient",
        symptom="backward() refuses, or nothing is learnt.",
        cause="a map that is not reduced, a float instead of a tensor, a tensor that was made anew",
        fix="return LossReport(total, terms, maps) whose total is a scalar of the graph",
        measured="the report's total is a tensor of no axis that requires a gradient",
        seen="torch.tensor([1]) as a loss; a map divided by a mean",
    ),
    _law(
        "L13",
        "The terms do not add up to the loss",
        symptom="Curves tell another story than what trains.",
        cause=(
            "a term that is logged unweighted, is left out, or is counted twice; a mean over other pixels than its"
            " bound is for"
        ),
        fix="log every term as it enters",
        measured=f"{_WALL}: total against the sum of terms within 1e-5, terms against their least values",
        seen="a log that said SSIM while the text said that it was removed; SILog below 0",
    ),
    _law(
        "L14",
        "Asked twice, the loss says two things",
        symptom="A run cannot be repeated; validation jitters.",
        cause="random numbers in the loss, or a state that changes with every call",
        fix="draw random numbers in the data, from the sample's seed",
        measured=f"{_WALL}: two calls agree within 1e-5",
        seen="random pixels drawn anew in each call; running means inside of a loss",
    ),
    _law(
        "L15",
        "The loss writes to what it is shown",
        symptom="Images or labels are wrong in the second term, or in the next epoch.",
        cause="an operation in place (x -= mean, clamp_, masked assignment) on a tensor that others read",
        fix="work on a copy: x - mean, clamp, where",
        measured=f"{_WALL}: images, K, labels and answers before and after a call are equal",
        seen="labels clamped in place, then scored",
    ),
    _law(
        "L16",
        "The loss mixes far places of an image",
        symptom="Depth near an object depends on what is seen at the other end.",
        cause="a mean over the image before the division by an uncertainty, or before a minimum",
        fix="keep maps until the end; one mean, as the last step",
        measured=(
            f"{_WALL}: slopes of depth and of its uncertainty in the last half of an image when its first tenth"
            f" changes, below 1 %; and what sources cost that are negative in one half each, at most {HALVES:.0%} more"
            " than the mean of either negative all over"
        ),
        seen="a training diary: one residual an image divided by a map of uncertainty; the minimum of image means",
    ),
    _law(
        "L17",
        "The loss likes a wrong mask or pose best",
        symptom="The loss falls, and masks, rotations or sizes get worse.",
        cause=(
            "a sign (-log(1 - error) the wrong way round), an order of quaternion numbers, logits that passed a sigmoid"
            " already"
        ),
        fix="look at the values in the evidence; leave out the terms one by one",
        measured=f"{_WALL}: {_SCALE}",
        seen="a quaternion loss that fell to 0 while the error grew from 10 to 200 degrees",
    ),
    _law(
        "L18",
        "What has no label is trained",
        symptom="Depth goes to 0 between the lines of a LiDAR, or to the farthest in the sky.",
        cause="0, which stands for no label, taken as a depth",
        fix="mask by label > 0, in every term",
        measured=(
            f"{_WALL}: the gradient at pixels without a label is 0; terms that compare neighbors have it on their"
            " borders alone"
        ),
        seen="fine-tuning on LiDAR whose empty pixels entered the loss",
    ),
    _law(
        "L19",
        "One right color is enough",
        symptom="The loss is lower than the image looks, and depth is wrong where one color happens to match.",
        cause="a minimum over sources and colors at once (of three sources: over nine channels)",
        fix="the mean over a source's colors first, then the minimum over sources",
        measured=(
            f"{_WALL}, its sources made negative but for one color, for each color: {A_COLOR:.0%} at least of what"
            " negative sources cost; 67 to 100 % in the house's losses, below 1 % for a minimum over channels"
        ),
        seen="a training diary: 'the minimum of nine channels'",
    ),
    _law(
        "L24",
        "Smoothness depends on depth's unit",
        symptom="Depth shrinks or grows from epoch to epoch; maps are flat where things are far.",
        cause="smoothness of metres, or of inverse depth that was not divided by its mean",
        fix="smooth inverse depth over its mean (loss.smoothness_kind=slope_over_mean)",
        measured=(
            f"{_WALL}, the camera at rest so that images say nothing of depth: what relief costs more than flat depth,"
            f" and the same with every length twice as large, within {SAME_RELIEF:.0%}; asked where it is {RELIEF:g} of"
            " the loss at least"
        ),
        seen="a training diary: smoothness of metric depth, 25 times what was meant",
    ),
    _law(
        "L25",
        "A similarity takes noise for alike",
        symptom="The term of structural similarity has no effect, whatever its weight.",
        cause="SSIM's constants are for values to 255, the values end at 1",
        fix="data_range=1",
        measured=(
            f"{_WALL}, with noise in place of the sources, and with half as much: terms with 'ssim' in their names are"
            f" at least {HALF_NOISE:g} times as large of half (beyond what they are at the truth); .75 of SSIM, .25"
            " with constants for 255"
        ),
        seen="a training diary: 'SSIM has no effect', its range was 255",
    ),
    _law(
        "U07",
        "Uncertainty is cheap where there is no error",
        symptom="Sigma is high on what fits and low on what does not; errors count more than anything.",
        cause="the residual multiplied by Sigma, a sign of log Sigma",
        fix="r / Sigma + log Sigma, or r exp(-s) + s",
        measured=(
            f"{_WALL}, its sources negative in the left half: less with Sigma high on the left than with Sigma high on"
            " the right"
        ),
        seen="public code for a training diary's loss: residual times Sigma",
    ),
    _law(
        "P01",
        "The loss likes a wrong motion best",
        symptom="The loss falls, and paths are mirrored, inverted or of no length.",
        cause="an inverse pose, a sign, a motion applied to the wrong source, or depth and motion in two units",
        fix="T_source_target takes points of the target to the source; look at the values by motion in the evidence",
        measured=f"{_WALL}: least at the true motion among 0 to 1.6 times it",
        seen="a training diary: negative z for weeks, directions of T changed pair by pair",
    ),
    _law(
        "B01",
        "The loss likes a wrong exposure best",
        symptom="Gain goes to 0 or its inverse; images turn gray.",
        cause="gain and offset on the source instead of the target, or a norm before them",
        fix="a * target + b is as bright as the source",
        measured=f"{_WALL}, sources with gains of .8 to 1.05 and offsets of .02 to .05: least at those",
        seen=(
            "a training diary: brightness on the warped source; the loss jumped from 10,000 to 25,000 when it was moved"
        ),
    ),
)
