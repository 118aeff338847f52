"""`stadia view`: what a data set or a prediction holds, in 3D in the browser."""
