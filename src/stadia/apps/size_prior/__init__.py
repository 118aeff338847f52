"""`stadia prior`: train, score and measure heights of objects by their appearance or their class."""
