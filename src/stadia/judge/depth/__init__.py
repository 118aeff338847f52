"""Judge predictions by their maps, their images and the record of the training: usable, doubtful or unusable."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
