"""Judge calibrations between sensors: hand and eye of a robot, fixed cameras, pairs of cameras, gyroscopes."""
