"""The software renderer: meshes, textures, shading, and the files of rendered datasets."""
