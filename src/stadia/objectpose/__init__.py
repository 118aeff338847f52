"""Class, mask, rotation, translation and size of objects: data, world, network, losses, metrics, recipe and scores."""

from stadia.core.registry import Registry

OBJECT_METRICS = Registry(
    "object metric",
    {
        "rotation_error_deg": "stadia.objectpose.metrics:rotation_error_deg",
        "translation_error_cm": "stadia.objectpose.metrics:translation_error_cm",
        "iou_3d": "stadia.objectpose.metrics:iou_3d",
        "iou_3d_hull": "stadia.objectpose.metrics:iou_3d_hull",
    },
)
"""An object metric maps (predicted, true) `metrics.PosedObjects`, with M matched rows each, to (M,)."""

_NEG_LOG = (
    "-log(eps + 1 - a) with a = |q . q_true| is minimal at 180 degrees. Use 'bounded_log', 'log_dot' (without the"
    " minus) or 'minus_log_dot', -log(a)"
)

ROTATION_LOSSES = Registry(
    "rotation loss",
    {
        "geodesic": "stadia.objectpose.losses:geodesic",
        "bounded_log": "stadia.objectpose.losses:bounded_log",
        "log_dot": "stadia.objectpose.losses:log_dot",
        "minus_log_dot": "stadia.objectpose.losses:minus_log_dot",
        "one_minus_dot_squared": "stadia.objectpose.losses:one_minus_dot_squared",
        "squared_error": "stadia.objectpose.losses:squared_error",
    },
    entry_points="stadia.rotation_losses",
    refused=dict.fromkeys(("-log", "neg_log", "negative_log", "minus_log"), _NEG_LOG),
)
"""A rotation loss maps quaternions w, x, y, z (M, 4), true ones (M, 4), and a Symmetry of M objects or None to (M,)."""
