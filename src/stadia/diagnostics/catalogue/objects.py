"""What is wrong with pictures of objects in known poses. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalogue.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "O01",
        "Labelled objects that no pixel shows",
        Stage.DATA,
        symptom="None in training: such an object is left out. Scores of tools that count every label are lower than they should be.",
        cause="it stands behind another one, or outside of the picture",
        cure="nothing, where it is hidden; check masks and poses where it should be seen",
        measured="Up to 100 pictures of each split: labels whose mask is empty.",
        seen="scenes with much occlusion, as those of BOP; and objects that a resized picture no longer shows",
    ),
    Entry(
        "O02",
        "No object to learn from",
        Stage.DATA,
        symptom="The loss falls, as the background is learnt, and nothing is ever found.",
        cause="masks are empty or of other pictures, or the labels are of another split",
        cure="look at the masks beside the pictures, and at data.train_split",
        measured="Up to 100 training pictures: none has a visible object.",
        seen="masks whose numbers are not those of the labels",
    ),
    Entry(
        "O03",
        "A class that does not train",
        Stage.DATA,
        symptom="Validation of this class stays at nothing, whatever else improves.",
        cause="the splits were made by class or by scene, and one of them lacks it",
        cure="train on pictures that show it, or leave it out of what validates",
        measured="Up to 100 pictures of each split: classes that only the other splits show.",
        seen="BOP's test scenes, each with objects of its own",
    ),
    Entry(
        "O04",
        "Visible objects without a pose",
        Stage.DATA,
        symptom="Such objects are found at times and missed at times, and each that is found counts as a false alarm.",
        cause="no pose fits their coordinates and depth, so that they have no label, and their pixels are taught as background",
        cure="take out the pictures that the evidence names, or mend their depth and coordinates",
        measured="Up to 100 pictures of each split: objects of known classes with pixels and without a label, and the reason.",
        seen="a picture of NOCS's layout in which an object has no depth",
    ),
)
