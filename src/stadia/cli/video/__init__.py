"""Commands that write what your own video needs: its camera, masks, the height of the camera."""
