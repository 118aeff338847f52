"""Read a user's video or folder of images: decode, choose frames, find the camera."""
