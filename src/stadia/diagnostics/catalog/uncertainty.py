"""What goes wrong with an uncertainty that is learnt together with what it weighs. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "U01",
        "Uncertainty is the same all over the image",
        Stage.TRAINING,
        symptom=(
            "The loss falls and stays; depth is one blur, and Sigma follows the mean of the residuals from batch to"
            " batch."
        ),
        cause=(
            "the depth network's last layers died in the first steps, so that all it says is a constant: Sigma fell"
            " before there was depth"
        ),
        fix="start again with loss.uncertainty_from_step=200, another seed, or a lower optimizer.lr",
        measured=(
            "train/log_uncertainty/p90 less p10 of logged steps in which the median has gone below -1 or above 1: below"
            " .1 in 20 rows in a row. Trainings that learn have .34 at least (12 of them), the one that died .000 from"
            " its fourth row on."
        ),
        seen="the third seed of D3VO's ablation on RoadWorld: AbsRel .56, where its sisters had .21 and .23",
    ),
    Entry(
        "U02",
        "The loss falls by its uncertainty alone",
        Stage.TRAINING,
        symptom="The loss falls below 0 while the warped image fits no better than at the start.",
        cause=(
            "log Sigma falls to the size of the residuals, which is the quickest way down; depth and motion do not"
            " learn"
        ),
        fix=(
            "look at train/warped_over_unwarped instead of the loss; set loss.uncertainty_from_step=200; mend what an"
            " earlier finding says"
        ),
        measured=(
            "The median of train/warped_over_unwarped over 20 logged steps in which the median of log Sigma is below"
            " -1, over that of the first 3 of the run: above .9, and above .6 by itself. Trainings that learn have .64"
            " to .81 (12 of them), the one that died 1.00."
        ),
        seen="a training diary: the logarithm was as strong as the residual, loss down and image flat",
    ),
    Entry(
        "U03",
        "Uncertainty is at its bounds",
        Stage.TRAINING,
        symptom="Sigma is one of two values, and tells nothing between.",
        cause=(
            "residuals of exactly 0 (equal images, a source that is its own target), or a loss in another unit than"
            " [0, 1]"
        ),
        fix="look at the images of a sample and its sources; see that they lie in [0, 1]",
        measured=(
            "train/log_uncertainty/p10 and p90 of logged steps: within .1 of -6 or of 2, for 20 rows in a row."
            " Trainings that learn have -5.2 and -1.7."
        ),
        seen="a training diary: bounds were moved by hand from 1 to 1e-12, and most pixels lay on them each time",
    ),
)
