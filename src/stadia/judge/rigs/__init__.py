"""Judge calibrations between sensors: hand and eye of a robot, and cameras that are fixed."""
