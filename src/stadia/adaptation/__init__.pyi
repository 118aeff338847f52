from .adapt import SCOPES as SCOPES
from .adapt import Adaptation as Adaptation
from .adapt import adapt_network as adapt_network
