"""Public names; `__init__.py` loads a module when one of its names is used."""

from .architectures import DptArchitecture as DptArchitecture
from .architectures import check_image_size as check_image_size
from .architectures import check_transformers_installed as check_transformers_installed
from .dpt_net import DptNet as DptNet
from .dpt_net import find_weights_file as find_weights_file
from .pretrained_weights import LoadReport as LoadReport
from .vit_blocks import SelfAttention as SelfAttention
