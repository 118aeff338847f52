"""Video files and folders of images: decoding, camera metadata, and selection of frames."""
