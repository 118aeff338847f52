"""Draw predictions, scores and labels."""
