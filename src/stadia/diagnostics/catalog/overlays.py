"""What is wrong with composed images. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "C01",
        "Splits share a background",
        Stage.DATA,
        symptom="Validation is better than any test on other backgrounds: their depth was learnt by heart.",
        cause="images were dealt out one by one, or a sample's index was mistaken; or one recording gives both splits",
        fix="split by recording: data.backgrounds.split_by.val_recordings, or a data set that names its splits",
        measured=(
            "Every background of each split, by its file's content; stops where two have an image, warns where two have"
            " a recording."
        ),
        seen="the published split cuts by index: where that is off by one, a background is on both sides",
    ),
    Entry(
        "C02",
        "Splits share an object",
        Stage.DATA,
        symptom="Masks of validation are perfect, and those of new objects are not.",
        cause="the splits were made by background alone, or views of one object went to both sides",
        fix=(
            "leave the object in one of FOLDER/train and FOLDER/val; without these keep its views together, as"
            " FOLDER/OBJECT/VIEW.png"
        ),
        measured=(
            "Every foreground of each split: by what it shows, mirrored too, views by their object's folder. Stops at"
            " the first one."
        ),
        seen="the published split of 400,000 images: all 100 foregrounds and all 40 places on both sides",
    ),
    Entry(
        "C03",
        "Files of the published layout are missing",
        Stage.DATA,
        symptom="Training dies on one worker, days in; or images are silently fewer than their number says.",
        cause="an archive was unpacked in part, or a folder has another name",
        fix="unpack or fetch what the evidence names; what lacks a file is left out until then",
        measured=(
            "The listing of every folder against all 400,000 indices: overlay, depth and mask of each, and its"
            " background."
        ),
        seen="the listing of the published set names no folder of backgrounds",
    ),
    Entry(
        "C04",
        "Folders of the published layout have other names",
        Stage.DATA,
        symptom="None: it is read all the same.",
        cause="the code that wrote the set and its description disagree",
        fix="nothing to do; look at a few images of folders above fg_100 before they are used otherwise",
        measured="Folders `mask_` in the place of `mask`, and fg_101 to fg_200, which the index does not reach.",
        seen=(
            "the published set: `mask` in its first folder and `mask_` in the others; fg_200 in its listing, 100 in its"
            " code"
        ),
    ),
    Entry(
        "C05",
        "Labels stored with loss",
        Stage.DATA,
        symptom="The mask's loss stays above a floor that nothing lowers, edges are soft, depth has steps and rings.",
        cause="masks or depth were written as JPEG",
        fix=(
            "write masks as PNG of 0 and 255 and depth as .npz or 16 bits (stadia data overlay does); masks here are"
            " cut at one half"
        ),
        measured=(
            "Up to 40 images of each split: masks with values between 0 and 255, and depth in a JPEG. Warns from the"
            " first one."
        ),
        seen="the published set: soft masks gave its cross entropy a floor of about .007",
    ),
    Entry(
        "C06",
        "Few backgrounds",
        Stage.DATA,
        symptom="Depth of new backgrounds is far worse than of those that trained, and more images do not help.",
        cause="a consecutive part of a set that lists one background after the other, or few images with depth",
        fix="take images of all backgrounds evenly (stadia does), or more recordings",
        measured="exp of the entropy of the backgrounds in an epoch: as many equally frequent ones. Warns below 10.",
        seen="30,000 consecutive images of the published set are 7.5 of its 100 backgrounds",
    ),
    Entry(
        "C07",
        "The label is a teacher's opinion",
        Stage.DATA,
        symptom="A network reaches its teacher's mistakes and is praised for it.",
        cause="depth was predicted by another network, perhaps on the image with the cut-out pasted on",
        fix="call it so wherever a score is told; measure once on true depth",
        measured="The label's source, which every set says, and every file of labels.",
        seen="the published set's depth is DenseDepth's, of 8 bits, and was called ground truth",
    ),
    Entry(
        "C08",
        "Depth and mask are the same images",
        Stage.DATA,
        symptom="Both are learnt at once, and depth is wrong everywhere.",
        cause="one folder was copied over the other, or both read the same files",
        fix="look at one depth beside its mask, and write or fetch the one that is wrong",
        measured=(
            "Mean and deviation of depth and of mask over up to 40 images of each split: stops where both agree to 6"
            " digits."
        ),
        seen="the published set's description gives depth and mask the same mean and deviation, a copy and paste",
    ),
    Entry(
        "C09",
        "Foregrounds that cannot be pasted",
        Stage.DATA,
        symptom="A rectangle is pasted in the place of an object, and its frame is what is learnt.",
        cause="images without an alpha channel, or with one that cuts out nothing",
        fix="cut the objects out: PNG with transparency around them",
        measured=(
            "Up to 40 foregrounds of each split, spread evenly: opened as composing would. Stops at the first one."
        ),
        seen="a folder of photographs given as foregrounds",
    ),
    Entry(
        "C10",
        "Two terms of the loss are one",
        Stage.TRAINING,
        symptom="Leaving out one of them changes nothing, whatever is tried; a table says that it has no effect.",
        cause="smooth L1 below its beta is the squared error times a constant",
        fix="leave one out, or set loss.smooth_l1_beta to the size of usual errors",
        measured=(
            "Terms of each logged step without their weights, 20 rows: the ratio of two of them varies by less than 3 %"
            " while each varies by half and more."
        ),
        seen="M-07: smooth L1 tuned beside the squared error, .4999 to .5001 of it in all 38 printed lines",
    ),
    Entry(
        "C11",
        "RMSE is not the root of the MSE",
        Stage.TRAINING,
        symptom=(
            "RMSE grows with the batch's number, or falls when the set is shuffled, while the squared error does not."
        ),
        cause="roots are averaged instead of squares, or a buffer that is not full yet is counted whole",
        fix="add up squares and counts over the set, and take one root at its end",
        measured="val/rmse of each validation against the root of its val/mse: more than 1 % apart.",
        seen="M-04: .2586 beside a root of .085",
    ),
    Entry(
        "C12",
        "A validation says what the last one said, to the last digit",
        Stage.TRAINING,
        symptom="Curves of validation are flat steps, and the best checkpoint is the first.",
        cause="scores are kept from before, the same batches are left out, or no weight has moved",
        fix="look at train/update_ratio: where it is not 0, validation does not ask the network",
        measured=(
            "Three val/ scores and more of two validations, at different steps: all equal, and some of them neither 0"
            " nor 1."
        ),
        seen="M-05: an RMSE that stood still over the last batches of every epoch",
    ),
    Entry(
        "C13",
        "Weights of the loss that are a learning rate",
        Stage.TRAINING,
        symptom="Another weight of the whole loss trains better or worse, and with another optimizer it does nothing.",
        cause=(
            "plain gradient descent moves in proportion to the loss, so that a factor on all weights is one on the"
            " learning rate"
        ),
        fix=(
            "let the weights add up to 1 (or to the number of terms), and say optimizer.lr instead; the effective rate"
            " stands in run.json"
        ),
        measured="optimizer.name=sgd and weights of the loss whose mean is above 2, or below a half.",
        seen="M-22: K = 70 before the loss at a rate of 2e-4, an effective one of .014",
    ),
    Entry(
        "C14",
        "Labels of depth that are no labels",
        Stage.DATA,
        symptom=(
            "Depth is learnt of a part of each image; what is nearest, or farthest, is wrong, and no score shows it."
        ),
        cause=(
            "loss.min_depth and loss.max_depth are of another unit than the labels, such as those of a teacher in"
            " [0, 1]"
        ),
        fix="set loss.min_depth and loss.max_depth to what holds the labels",
        measured=(
            "Some 4000 labels of each of up to 40 images of each split: more than 20 % of them are outside of the two."
        ),
        seen="the published depth, in [0, 1], of which a range from .25 on left out half",
    ),
)
