"""Names every known way to fail. Imports core, geometry, losses, metrics, training."""
