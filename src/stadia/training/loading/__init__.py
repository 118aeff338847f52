"""Load recordings and object images as batches: samples, augmentation, loaders."""
