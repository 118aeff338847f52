"""The small recipe's folder on the path, so that tests and the scripts they start train the same thing."""

import stadia.differentiable.torchvision_operators  # noqa: F401 - before any test imports torchvision
