"""What goes wrong while a run trains, as the watch sees it. Imports no torch."""

from __future__ import annotations

from stadia.diagnostics.catalogue.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "T01",
        "The loss of a batch is many times what it was",
        Stage.TRAINING,
        symptom="The curve has a spike, and sometimes never comes back from it.",
        cause="a learning rate too high for these weights, logarithms of tiny values, or a sample whose labels are wrong",
        cure="look at the samples; lower optimiser.lr, or set training.clip_norm=1",
        measured="Every batch: its loss against the median of the 50 before it. Above 10 times it is told, once a run. A median of 0 or "
        "less (of a loss with a logarithm) is not asked.",
        seen="fine-tuning DPT at a rate of 1e-4 without fitting scale and shift first",
    ),
    Entry(
        "T02",
        "Updates are large against the weights",
        Stage.TRAINING,
        symptom="The loss jumps about, or falls and rises again; pretrained weights forget what they knew.",
        cause="the learning rate is too high for this network, or for its new parts",
        cure="lower optimiser.lr, or let it rise by schedule.warmup_steps",
        measured="train/update_ratio of each logged step from the fifth on: |update| / |weight| of the weights with two axes or more. "
        "Above 1.2 %, while the loss has not fallen by 30 % of the first that was logged: trainings that learn have .2 to .9 % at most, "
        "dpt-tiny at ten times its rate 3 % at step 5, 1.4 % at step 10; overlay has 1.8 % when its loss has fallen by 60 %.",
        seen="attention compressed by 3 from random weights, which diverged at the rate that factor 2 had learnt at",
    ),
    Entry(
        "T03",
        "A network answers the least that it can",
        Stage.TRAINING,
        symptom="Predictions are of one far depth all over, and the loss stays where it is.",
        cause="its last ReLU answers 0 there, and has no slope: the shift or the start is wrong, or one step was too large",
        cure="fit scale and shift anew (leave model.scale and model.shift unset), lower optimiser.lr, and start again from the weights",
        measured="train/at_floor of each logged step: the share of the labelled pixels where it answers its least value. Above half.",
        seen="pixels that start at the far end of what weights can answer",
    ),
    Entry(
        "T04",
        "A data set is forgotten while another trains",
        Stage.TRAINING,
        symptom="After a second data set nothing is right any more on pictures like those of the first.",
        cause="data sets train one after another, or one is seen much more often than the other",
        cure="set data.order=mixed, raise data.epochs of the one that is forgotten, or train a network for each",
        measured="val/NAME/residual of each validation over the least that it was in the run: above 1.1 times.",
        seen="a depth network trained on KITTI, and then on EuRoC",
    ),
    Entry(
        "T05",
        "Data sets have units of their own",
        Stage.TRAINING,
        symptom="Depth is right on pictures like those of one data set, and all of it too large or too small on another's.",
        cause="a data set without a stereo pair has no scale, and nothing ties it to the others'; or a baseline is wrong",
        cure="give every data set a stereo pair, check the baselines (`stadia check`), or trust depth up to scale alone, as the claim says",
        measured="val/NAME/motion_scale, what brings predicted motion to the true size, of data sets with poses whose residual is below .8 "
        "of that without depth and motion: the largest over the smallest, above 1.25 in two validations one after the other.",
        seen="the same, with another baseline and frame rate in each",
    ),
    Entry(
        "T06",
        "Times that cannot be",
        Stage.TRAINING,
        symptom="One phase seems to cost nothing, another one everything; what is made faster changes nothing.",
        cause="a clock that does not wait for the device, whose work is then counted where the program waits next; or a phase that is not "
        "counted",
        cure="measure by CUDA events or after waiting for the device, with a warm-up, and take the median; trust no share of this run",
        measured="Each logged step: its parts by the device's clock against the whole by the processor's, 10 % apart in three rows, or a "
        "part below 0. At the end of a training of two minutes or more: the operations of forward, backward and step, by their median "
        "time, against 1.5 times what products of large matrices reach here.",
        seen="a training diary: .155 s for SSIM beside .008 s for the network, which would have made 254 TFLOP/s of its GPU",
    ),
    Entry(
        "T07",
        "Nearly everything is in the auto-mask",
        Stage.TRAINING,
        symptom="The loss is small, and depth does not change any more.",
        cause="depth or motion is so wrong that the unwarped picture explains the next better, or the camera hardly moves",
        cure="mend what an earlier finding says (K, the rig, frames at rest); lower optimiser.lr, or start again",
        measured="train/auto_masked of logged steps: the share of the pixels that an unwarped picture explains, or that none sees. "
        "Above three quarters for 20 rows, from step 100 on.",
        seen="F-16 of the method's notes: broken geometry makes the identity the best there is",
    ),
)
