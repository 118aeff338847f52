"""Files of predictions and scores."""
