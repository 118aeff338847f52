"""The recipe `supervised`: depth from sparse or dense ground truth."""
