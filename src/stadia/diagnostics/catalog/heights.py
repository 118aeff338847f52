"""What goes wrong with scale from heights: masks, objects, and the camera's height over a training. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "H01",
        "No road in sight",
        Stage.DATA,
        symptom="The camera's height is not learnt, or from a few frames alone.",
        cause="the masks lack a class named 'road', the camera looks at the sky, or the video is of no road",
        fix=(
            "look at the masks beside the images and name their road 'road' in classes.json; leave frames without a"
            " road out by data.frames"
        ),
        measured=(
            "Up to 24 frames of a recording: a frame has a road where its mask covers more than 1 % of the image. Above"
            " half of the frames without."
        ),
        seen="a dash cam that is mounted too high",
    ),
    Entry(
        "H02",
        "No object of known height",
        Stage.DATA,
        symptom="Depth comes out without metres, and the run says so.",
        cause="no cars in the video, masks that do not tell them apart, or that name them otherwise than road.objects",
        fix=(
            "record where cars are, name other road.objects with a prior, or give the camera's height by"
            " heights.known_m"
        ),
        measured=(
            "Up to 24 frames of a recording, those with a road: above nine tenths of all frames without an object of"
            " known height."
        ),
        seen="highways at night, and forest tracks",
    ),
    Entry(
        "H03",
        "Masks that cannot be used",
        Stage.DATA,
        symptom="These frames train as if they had neither road nor objects.",
        cause=(
            "masks of another shape than their image, damaged files, or frames that were left out when the masks were"
            " made"
        ),
        fix="make these frames' masks again, of the images as they are: stadia prepare VIDEO --masks",
        measured=(
            "Up to 24 frames of a recording that has masks: any whose mask is missing, damaged, or differs in the ratio"
            " of its sides by more than 2 %."
        ),
        seen="masks made of images that had been cropped",
    ),
    Entry(
        "H04",
        "A class without a height",
        Stage.DATA,
        symptom="Its objects say nothing of the scale.",
        cause="road.objects names a class that the priors do not have",
        fix="give its mean, spread and source in road.priors, or take it out of road.objects",
        measured=(
            "Up to 24 frames of a recording: objects of classes in road.objects for which road.priors has no height."
        ),
        seen="buses and bicycles, of which few were measured",
    ),
    Entry(
        "H05",
        "The road is in the upper half",
        Stage.DATA,
        symptom="Camera heights are absurd, tens of metres, and the training fails once they teach.",
        cause="masks or images are stored upside down, or belong to other images",
        fix="turn the masks as the images are",
        measured="Up to 24 frames of a recording: less than 90 % of its road pixels are in the lower half.",
        seen="a data set of which a part was stored flipped (F-01 of the method's notes)",
    ),
    Entry(
        "H06",
        "An epoch says nothing of the camera's height",
        Stage.TRAINING,
        symptom="Objects alone give the scale, and cars become planes that face the camera.",
        cause="few objects, objects that contradict each other, or depth that is not yet a road",
        fix="train longer; look at the masks; lower heights.fewest_frames where the data are few",
        measured=(
            "The end of each epoch: its frames, the share of objects that agree against the horizon, how far the"
            " frames' heights spread, by how much a plane through the road and the road's pixels part"
            " (heights.most_apart), and what the horizon says without depth. A note where a height that was known"
            " before teaches on."
        ),
        seen="frames of which a tenth shows a car",
    ),
    Entry(
        "H07",
        "One group, several camera heights",
        Stage.TRAINING,
        symptom="Metres would be right for one camera and wrong for the other, so none are claimed.",
        cause="the camera was moved in the middle of a video, or recordings of several cars are taken for one camera's",
        fix=(
            "give each mount a name ('mount' in recording.json), take road.cameras=recording, or cut the video where"
            " the camera was moved"
        ),
        measured=(
            "The end of each epoch: no recording's height (of a long one, no eighth's) lies between two that are 1.2"
            " times apart, with a tenth of the frames on either side; and a height that was known before is not above"
            " or below both by as much, since depth has then not learnt these drives yet."
        ),
        seen="two cars' recordings in one folder",
    ),
    Entry(
        "H08",
        "The camera's height drifts",
        Stage.TRAINING,
        symptom="The camera's height rises from epoch to epoch, and all lengths with it.",
        cause="objects cut by the image's edge, or a prior that some objects do not obey",
        fix="raise road.border_px; stop learning it by heights.last_epoch",
        measured="From the fifth height on: the slope of the last five, above 1 % an epoch, all in one direction.",
        seen="heights taken of the first quartile of an object's depth",
    ),
    Entry(
        "H09",
        "Depth does not follow the camera's height",
        Stage.TRAINING,
        symptom="The camera's height is known, and depth keeps a scale of its own.",
        cause="the weight of the camera's height is too small, or the networks had settled at a depth without scale",
        fix="set reinitialize_at_epoch, or raise scale.camera_height (below .05)",
        measured=(
            "Each logged step from the third epoch on in which a height is known: the road of predicted depth is more"
            " than 20 % too near or too far below the camera, in 20 logged steps in a row."
        ),
        seen="a weight of .01 that begins when depth has settled",
    ),
    Entry(
        "H10",
        "Depth is flat",
        Stage.TRAINING,
        symptom="One depth all over the image; the road stands upright.",
        cause="the camera's height weighs too much: a road parallel to the image has that height, too",
        fix="lower scale.camera_height to .01",
        measured=(
            "train/metric/depth_spread of each logged step: standard deviation over mean of an image's depth, below .15"
            " in 20 rows one after the other, from step 100 on; .03 at step 100 in a training that learns, .47 later."
        ),
        seen="a weight of 1",
    ),
    Entry(
        "H11",
        "Objects and road have scales of their own",
        Stage.TRAINING,
        symptom="The road is in metres, and all that stands on it is not.",
        cause=(
            "depth settled without scale where only the road is taught: the networks' motion keeps its unit, and a road"
            " has little texture to object"
        ),
        fix="set reinitialize_at_epoch=2, or keep the objects' weight longer by hand_over_epochs",
        measured=(
            "train/metric/objects_over_road of logged steps: the median over the batch's objects of the logarithm of"
            " the camera's height that an object stands for, over the height known. Further than .2 from 0 for 20 rows."
        ),
        seen="F-09 of the method's notes",
    ),
    Entry(
        "H12",
        "Objects are planes",
        Stage.TRAINING,
        symptom="Cars face the camera like road signs; cars cut by the image's edge are too far.",
        cause="objects' heights alone teach, and a plane has the right height at the least cost",
        fix="let the camera's height take over (hand_over_epochs), and mend what H06 says",
        measured=(
            "train/metric/object_extent of logged steps: between the tenths of an object's depth, over its median; the"
            " batch's median. Below 2 % for 20 rows; exact depth of RoadWorld's cars has 16 %."
        ),
        seen="F-13 of the method's notes",
    ),
    Entry(
        "H13",
        "The road bends upwards",
        Stage.TRAINING,
        symptom="Far road comes nearer late in a training.",
        cause="the auto-mask takes the road out so that nothing corrects it, or the road's mask holds kerbs and cars",
        fix="leave unmask_road on; look at the masks",
        measured=(
            "train/metric/rows_out_of_order of logged steps: the share of neighboring rows of the road of which the"
            " upper is nearer by 1 %. Above 10 % for 20 rows; exact depth of RoadWorld has none."
        ),
        seen="F-14 of the method's notes",
    ),
    Entry(
        "H14",
        "The road is in the auto-mask",
        Stage.TRAINING,
        symptom="The road's depth is wrong, and stays so.",
        cause="where the road's depth is wrong the unwarped image explains it better, and the auto-mask takes it out",
        fix="leave unmask_road on; leave out frames at rest",
        measured=(
            "train/metric/road_masked of logged steps: the share of the road that an unwarped image explains. Above"
            " half for 20 rows."
        ),
        seen="F-15 of the method's notes",
    ),
    Entry(
        "H15",
        "Objects are at the largest depth there is",
        Stage.TRAINING,
        symptom="Far things are too near, while the road is right.",
        cause="model.max_depth_m is below what the scale asks for, or the scale is too large",
        fix="raise model.max_depth_m",
        measured=(
            "train/metric/objects_at_limit of logged steps: the share of the objects' pixels above .95 of"
            " model.max_depth_m. Above 5 % for 20 rows. Of the road no less is to be expected at its horizon."
        ),
        seen="F-18 of the method's notes",
    ),
    Entry(
        "H16",
        "Masks are mirrored",
        Stage.DATA,
        symptom="The camera's height is off by some percent, and no car is where its mask says.",
        cause="masks were made of mirrored images, or images are mirrored without their masks",
        fix="make the masks again, of the images as they are",
        measured=(
            "Up to 24 frames of a recording: how strong the image's edges are along the outline of road and objects,"
            " against the same masks mirrored. Where nine tenths of four frames or more fit better mirrored, by 10 % on"
            " the whole. RoadWorld's fit 1.3 to 1.7 times better as they are, in every frame."
        ),
        seen="F-01 of the method's notes",
    ),
    Entry(
        "H17",
        "The test of objects is locked in",
        Stage.TRAINING,
        symptom="The camera's height stays where it began, and all lengths are wrong by one factor.",
        cause=(
            "heights.test=absolute holds objects against the height that is known, and believes those alone that agree"
            " with it"
        ),
        fix="take heights.test=centered, or mend what is known before (heights.known_m)",
        measured=(
            "The end of each epoch that tests in absolute form: the known height, against the median of what all"
            " objects say by the horizon, of which more than heights.least_kept agree. Further apart than"
            " heights.tolerance."
        ),
        seen=(
            "lock-in of scenes with 20 % bad objects: from 2.64 or 3.3 m for 1.65 m it stays at 3.29 with a tenth of"
            " the objects"
        ),
    ),
)
