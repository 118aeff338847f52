"""Objects: instances and their centers, boxes, symmetries."""
