"""What goes wrong with scale from heights: masks, objects, and the camera's height over a training. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalogue.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "H01",
        "No road in sight",
        Stage.DATA,
        symptom="The camera's height is not learnt, or from a few frames alone.",
        cause="the masks lack a class named 'road', the camera looks at the sky, or the video is of no road",
        cure="look at the masks beside the pictures and name their road 'road' in classes.json; leave frames without a road out by "
        "data.frames",
        measured="Up to 24 frames of a recording: a frame has a road where its mask covers more than 1 % of the picture. Above half of the "
        "frames without.",
        seen="a dash cam that is mounted too high",
    ),
    Entry(
        "H02",
        "No object of known height",
        Stage.DATA,
        symptom="Depth comes out without metres, and the run says so.",
        cause="no cars in the video, or masks that do not tell them apart",
        cure="record where cars are, name other road.objects with a prior, or give the camera's height by heights.known_m",
        measured="Up to 24 frames of a recording, those with a road: above nine tenths of all frames without an object of known height.",
        seen="highways at night, and forest tracks",
    ),
    Entry(
        "H03",
        "Masks that cannot be used",
        Stage.DATA,
        symptom="These frames train as if they had neither road nor objects.",
        cause="masks of another shape than their picture, damaged files, or frames that were left out when the masks were made",
        cure="make these frames' masks again, of the pictures as they are: stadia prepare VIDEO --masks",
        measured="Up to 24 frames of a recording that has masks: any whose mask is missing, damaged, or differs in the ratio of its sides "
        "by more than 2 %.",
        seen="masks made of pictures that had been cropped",
    ),
    Entry(
        "H04",
        "A class without a height",
        Stage.DATA,
        symptom="Its objects say nothing of the scale.",
        cause="road.objects names a class that the priors do not have",
        cure="give its mean, spread and source in road.priors, or take it out of road.objects",
        measured="Up to 24 frames of a recording: objects of classes in road.objects for which road.priors has no height.",
        seen="buses and bicycles, of which few were measured",
    ),
    Entry(
        "H05",
        "The road is in the upper half",
        Stage.DATA,
        symptom="Camera heights are absurd, tens of metres, and the training fails once they teach.",
        cause="masks or pictures are stored upside down, or belong to other pictures",
        cure="turn the masks as the pictures are",
        measured="Up to 24 frames of a recording: less than 90 % of its road pixels are in the lower half.",
        seen="a data set of which a part was stored flipped (F-01 of the method's notes)",
    ),
    Entry(
        "H06",
        "An epoch says nothing of the camera's height",
        Stage.TRAINING,
        symptom="Objects alone give the scale, and cars become planes that face the camera.",
        cause="few objects, objects that contradict each other, or depth that is not yet a road",
        cure="train longer; look at the masks; lower heights.fewest_frames where the data are few",
        measured="The end of each epoch: its frames, the share of objects that agree against the horizon, how far the frames' heights "
        "spread, and what the horizon says without depth.",
        seen="frames of which a tenth shows a car",
    ),
    Entry(
        "H07",
        "One group, several camera heights",
        Stage.TRAINING,
        symptom="Metres would be right for one camera and wrong for the other, so none are claimed.",
        cause="the camera was moved in the middle of a video, or recordings of several cars are taken for one camera's",
        cure="give each mount a name ('mount' in recording.json), take road.cameras=recording, or cut the video where the camera was moved",
        measured="The end of each epoch: no recording's height (of a long one, no eighth's) lies between two that are 1.2 times apart, "
        "with a tenth of the frames on either side.",
        seen="two cars' recordings in one folder",
    ),
    Entry(
        "H08",
        "The camera's height drifts",
        Stage.TRAINING,
        symptom="The camera's height rises from epoch to epoch, and all lengths with it.",
        cause="objects cut by the picture's edge, or a prior that some objects do not obey",
        cure="raise road.border_px; stop learning it by heights.last_epoch",
        measured="From the fifth height on: the slope of the last five, above 1 % an epoch, all in one direction.",
        seen="heights taken of the first quartile of an object's depth",
    ),
    Entry(
        "H09",
        "Depth does not follow the camera's height",
        Stage.TRAINING,
        symptom="The camera's height is known, and depth keeps a scale of its own.",
        cause="the weight of the camera's height is too small, or the networks had settled at a depth without scale",
        cure="set reinitialise_at_epoch, or raise scale.camera_height (below .05)",
        measured="Each logged step from the third epoch on in which a height is known: the road of predicted depth is more than 20 % too "
        "near or too far below the camera, in 20 logged steps in a row.",
        seen="a weight of .01 that begins when depth has settled",
    ),
    Entry(
        "H10",
        "Depth is flat",
        Stage.TRAINING,
        symptom="One depth all over the picture; the road stands upright.",
        cause="the camera's height weighs too much: a road parallel to the picture has that height, too",
        cure="lower scale.camera_height to .01",
        measured="train/metric/depth_spread of each logged step: standard deviation over mean of a picture's depth, below .15 after the "
        "first hundred steps.",
        seen="a weight of 1",
    ),
)
