"""Compares, differentiably, per pixel; reduction is one named step at the end. Imports core and geometry."""

from stadia.core.tables import Table

LOSSES = Table(
    "loss",
    {
        "selfsup": "stadia.losses.selfsup:SelfSupervisedLoss",
        "sparse_depth": "stadia.losses.sparse_depth:SparseDepthLoss",
    },
)
