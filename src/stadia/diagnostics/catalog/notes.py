"""What nobody could check, and why."""

from stadia.diagnostics.catalog.entry import Entry
from stadia.diagnostics.finding import Stage

ENTRIES = (
    Entry(
        "N01",
        "Not checked",
        Stage.DATA,
        symptom="None: this mistake, if it is there, will be found later or never.",
        cause="the data does not hold what the check compares with",
        fix="nothing to do; give poses, ground truth or the second camera if they exist",
        measured="A check says by itself what it lacks.",
        seen="for a rectified pair, fx times baseline cannot be told from the images alone",
    ),
    Entry(
        "N02",
        "Sampled",
        Stage.DATA,
        symptom="None.",
        cause="the data has more recordings, or more frames in its splits, than fit the time for checking",
        fix="run `stadia check` with a larger --seconds to look at more recordings",
        measured=(
            "No recording is begun after 20 s. Splits are compared within 8 s: at most 1000 frames of a held-out split,"
            " with at most 400 training frames of any one size of file, spread evenly."
        ),
        seen="-",
    ),
)
