"""Start a training: open and check the data, measure what the machine can do, train, and score."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
