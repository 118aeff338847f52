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
        "Above 1.2 %: trainings that learn have .2 to .9 % at most, dpt-tiny at ten times its rate 3 % at step 5, 1.4 % at step 10.",
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
)
