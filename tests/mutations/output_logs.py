"""Logged statistics of predictions and validations, of trainings that learn and of trainings with one failure each.

The collapsed video is a mono training from random weights at ten times its rate, with measured numbers: all depth at
100 m from step 60 on, translations of .0026 of it, a residual of 1.15 times that without depth and motion.
"""

from collections.abc import Iterable, Mapping, Sequence

from tests.mutations.mutation import MutationCase
from tests.mutations.training_logs import LogRows, _case, _persistent_case, each

from stadia.training.monitors.persistence import FROM_STEP

NUM_ROWS = 40


def of_each(name: str, values: Mapping[str, float]) -> LogRows:
    """Rows of `train/NAME/PART`, nearly the same."""
    rows = ({f"train/{name}/{part}": value * (1 + n / 1e4) for part, value in values.items()} for n in range(NUM_ROWS))
    return each(rows, first=FROM_STEP, every=10)


def validated(**courses: Sequence[float]) -> LogRows:
    """Validations from FROM_STEP on; two underscores are a slash."""
    names = [name.replace("__", "/") for name in courses]
    rows = (
        dict(zip((f"val/{n}" for n in names), scores, strict=True)) for scores in zip(*courses.values(), strict=True)
    )
    return each(rows, first=FROM_STEP, every=100)


def alternate(term: str, falls: Iterable[float], score: str, errors: Iterable[float]) -> LogRows:
    """Return rows of a training step and a validation in turn."""
    rows = [
        row
        for value, error in zip(falls, errors, strict=True)
        for row in ({f"train/{term}": value}, {f"val/{score}": error})
    ]
    return each(rows, first=FROM_STEP, every=50)


FALLING = (1.0, 0.8, 0.6, 0.5, 0.4)
MEDIANS = [12.0 * 1.03**n for n in range(100)]
RATES = [1e-3 * 0.5 ** (n / 10) for n in range(200)]
COSINE = [1e-3 * (1 - n / 200) ** 2 for n in range(199)]


def of_term(constant: bool) -> LogRows:
    row = {"train/term/depth_ssim": 0.9, "train/term/depth_l1": 0.1}
    rows = [row | {"train/loss": 1.0 - n / 1e3, "train/term/depth_l1": 0.1 - n / 1e3} for n in range(NUM_ROWS)]
    return each(
        rows if constant else [changing | {"train/term/depth_ssim": 0.9} for changing in rows[:10]],
        first=FROM_STEP,
        every=10,
    )


def of_sum(loss: float) -> LogRows:
    row = {"train/term/selfsup/photometric": 0.3, "train/term/metric/camera_height": -0.1, "train/loss": loss}
    return each([row] * 5, first=FROM_STEP)


def logged(**values: float) -> LogRows:
    """Return the same row many times; two underscores are a slash."""
    return each(
        [{name.replace("__", "/"): value for name, value in values.items()}] * NUM_ROWS, first=FROM_STEP, every=10
    )


def _parts_case(name: str, code: str, key: str, bad: Mapping[str, float], good: Mapping[str, float]) -> MutationCase:
    return _case(name, code, of_each(key, bad), of_each(key, good))


THREE = {"-1": 0.3, "+1": 0.3, "stereo": 0.4}
NAN = float("nan")

ROWS = (
    _parts_case("the sign of one source's motion", "S22", "explained_by", THREE | {"stereo": 0.005}, THREE),
    _persistent_case("a sigmoid taken for depth", "S23", "outside", 1.0, 0.15),
    _persistent_case("the right view warped by the left one's transform", "S24", "warped_over_unwarped_right", 1.05,
        0.47),
    _persistent_case("depth that collapsed to one value", "M20", "depth/spread", 1e-3, 0.5),
    _persistent_case("a least depth beyond the scene", "M21", "depth/at_nearest", 0.6, 0.01),
    _persistent_case("depth that collapsed to the farthest", "M22", "depth/at_farthest", 0.99, 0.1),
    _case("smoothness that a larger unit lowers", "M23",
        each([{"train/depth/median": value} for value in MEDIANS], first=FROM_STEP),
        each([{"train/depth/median": 12 + value / 100} for value in MEDIANS], first=FROM_STEP)),
    _parts_case("a translation whose layer died", "P21", "motion/over_depth", {"+1": 1e-5}, {"+1": 0.05}),
    _parts_case("no factor on the pose", "P22", "motion/over_depth", {"-1": 4.0}, {"-1": 0.05}),
    _parts_case("degrees for radians", "P23", "motion/turn_deg", {"+1": 57.0}, {"+1": 1.0}),
    _persistent_case("one of two neighbors is not inverted", "P24", "motion/same_side", 0.99, -0.99),
    _case("a baseline in another unit than the poses", "P25",
        validated(motion_slope__tz=(0.2, 0.21), motion_correlation__tz=(0.97, 0.98)),
        validated(motion_slope__tz=(0.95, 1.02), motion_correlation__tz=(0.97, 0.98))),
    _case("a similarity with a range of 255", "L21", of_term(constant=True), of_term(constant=False)),
    _parts_case("weights of 1000 and 1 for depth and mask", "L22", "gradient_share",
        {"depth_l1": 0.998, "mask_bce": 0.002}, {"depth_l1": 0.968, "mask_bce": 0.032}),
    _case("a term that is not in the sum", "L23", of_sum(0.3), of_sum(0.2)),
    _case("a running sum logged as the loss", "L23", of_sum(20.0), of_sum(0.2)),
    _case("the residual times Sigma", "U05", validated(residual_spearman=(-0.4, -0.5)),
        validated(residual_spearman=(0.3, 0.46))),
    _case("Sigma with a floor of 1", "U06", validated(residual_over_sigma=(0.1, 0.1)),
        validated(residual_over_sigma=(1.5, 1.2))),
    _persistent_case("a horizon half a degree off", "H18", "metric/inlier_share", 0.2, 0.9),
    _case("scale that does not teach", "H19", validated(abs_rel=(0.8, 0.8), abs_rel_scaled=(0.2, 0.19)),
        validated(abs_rel=(0.29, 0.21), abs_rel_scaled=(0.28, 0.2))),
    _case("minus the logarithm of the wrong angle", "O20",
        alternate("term/rotation", FALLING, "rotation_error_deg", (40, 80, 120, 150, 170)),
        alternate("term/rotation", FALLING, "rotation_error_deg", (120, 80, 60, 61, 50))),
    _case("masks that find nothing", "O21", validated(objects=(9.0,) * 3, found=(0.0,) * 3),
        validated(objects=(9.0,) * 3, found=(0.0, 2.0, 5.0))),
    _case("a mask of nothing", "C30", validated(mask_iou=(0.0, 0.0)), validated(mask_iou=(0.01, 0.03, 0.2, 0.9))),
    _case("a mask of everything", "C30", validated(mask_mae=(0.9, 0.88)), validated(mask_mae=(0.1, 0.01))),
    _case("few images for many weights", "T13", alternate("loss", FALLING, "abs_rel", (0.2, 0.18, 0.2, 0.22, 0.25)),
        alternate("loss", FALLING, "abs_rel", (0.2, 0.18, 0.19, 0.185, 0.19))),
    _case("a schedule for a tenth of the steps", "T14",
        each([{"train/lr": rate, "train/loss": 1 - n / 1e3} for n, rate in enumerate(RATES)]),
        each([{"train/lr": rate, "train/loss": 1 - n / 1e3} for n, rate in enumerate(COSINE)])),
    _case("an optimizer of no parameters", "T15", logged(train__lr=1e-3, train__update_ratio=0.0),
        logged(train__lr=1e-3, train__update_ratio=1e-4)),
    _case("images that are decoded too slowly", "T16", logged(time__loading_s=0.8, time__rest_s=0.2, time__step_s=1.0),
        logged(time__loading_s=0.05, time__rest_s=0.95, time__step_s=1.0)),
    _case("a logarithm of 0 in a score", "T17", validated(log10=(NAN,) * 3), validated(log10=(0.06,) * 3)),
    _case("a score that ends", "T17", validated(log10=(0.06, NAN)), validated(log10=(0.06, 0.05))),
)  # fmt: skip
