"""Programs built from recipes: demos, masks, camera height, studies."""

from stadia.core.registry import Registry

DEMOS = Registry("demo", {"selfsup": "stadia.apps.demo:run_demo", "metric": "stadia.apps.demo:run_metric_demo"})
"""What `stadia demo --recipe` runs."""
