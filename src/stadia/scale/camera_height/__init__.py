"""`stadia camera-height`: estimate the camera height from objects of known height, without a network."""
