"""Video files and folders of images: decoding, camera metadata, selection of frames."""
