"""Where networks come from: libraries, a function of one's own, exported files; `load_network` finds one by name."""

from gc_core.backbones.networks.found import load_network, runs_code
from gc_core.backbones.networks.network import Network

__all__ = ["Network", "load_network", "runs_code"]
