"""What is wrong with images of objects in known poses. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "O01",
        "Labeled objects that no pixel shows",
        Stage.DATA,
        symptom=(
            "None in training: such an object is left out. Scores of tools that count every label are lower than they"
            " should be."
        ),
        cause="it stands behind another one, or outside of the image",
        fix="nothing, where it is hidden; check masks and poses where it should be seen",
        measured="Up to 100 images of each split: labels whose mask is empty.",
        seen="scenes with much occlusion, as those of BOP; and objects that a resized image no longer shows",
    ),
    Entry(
        "O02",
        "No object to learn from",
        Stage.DATA,
        symptom="The loss falls, as the background is learnt, and nothing is ever found.",
        cause="masks are empty or of other images, or the labels are of another split",
        fix="look at the masks beside the images, and at data.train_split",
        measured="Up to 100 training images: none has a visible object.",
        seen="masks whose numbers are not those of the labels",
    ),
    Entry(
        "O03",
        "A class that does not train",
        Stage.DATA,
        symptom="Validation of this class stays at nothing, whatever else improves.",
        cause="the splits were made by class or by scene, and one of them lacks it",
        fix="train on images that show it, or leave it out of what validates",
        measured="Up to 100 images of each split: classes that only the other splits show.",
        seen="BOP's test scenes, each with objects of its own",
    ),
    Entry(
        "O04",
        "Visible objects without a pose",
        Stage.DATA,
        symptom=(
            "None in training: there is less to learn from than the images show, and nobody knows how well such objects"
            " are found."
        ),
        cause=(
            "no pose fits their coordinates and depth, so that they have no label, and their pixels are neither taught"
            " nor scored"
        ),
        fix="take out the images that the evidence names, or mend their depth and coordinates",
        measured=(
            "Up to 100 images of each split: objects of known classes with pixels and without a label, and the reason."
        ),
        seen="an image of NOCS's layout in which an object has no depth",
    ),
    Entry(
        "O05",
        "Boxes that are not where their masks are",
        Stage.DATA,
        symptom="The loss of rotation, place or size stays high, and what is found is drawn beside the objects.",
        cause=(
            "quaternions x, y, z, w; objects listed in another order than the masks' numbers; lengths in another unit;"
            " another axis convention; K of another size of the image"
        ),
        fix=(
            "look at them: `stadia data show DATA SPLIT --out FOLDER`; write quaternions w, x, y, z, lengths in metres,"
            " and as the n-th object that of number n in the masks"
        ),
        measured=(
            "Up to 100 images of each split, objects of 20 pixels and more: the share of a mask's pixels in the"
            " projected box (within a pixel), and the IoU of the upright rectangles about both. Warns where the box"
            " holds less than 90 % of the mask for 2 % of the objects, stops from 10 %, and where the median IoU is"
            " below 0.15. Of 1208 objects of TableWorld and Linemod-Occluded no mask reaches beyond its box, and the"
            " median IoU is 0.54 and more; x, y, z, w gives 20 % and more, inverse rotations 16 %, a reversed list 88"
            " %, sizes ten times too small 100 %, too large an IoU of 0.02. What turns nothing that can be seen is not"
            " told (round objects alone). BOP's masks are drawn from the poses themselves, so that the two always"
            " agree."
        ),
        seen="a layout written by a script that took SciPy's quaternions, which are x, y, z, w",
    ),
)
