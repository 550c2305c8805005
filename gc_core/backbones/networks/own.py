"""A network of one's own: `package.module:function`, a function that returns an nn.Module."""

from torch import nn

from gc_core.backbones.networks.network import Network, read_weights, reinitialise
from gc_core.backbones.preprocessing import ASSUMED
from gc_core.backbones.weights import RANDOM_PREFIX
from gc_core.own_code import called


def load(name: str, weights: str | None) -> Network:
    """What the function returns. The current folder can be imported from; on a cluster, that is Ray's working
    directory. weights: None for those that the function gives, `random:SEED` to draw all anew, or a file.

    Raises:
        ValueError: there is no such module or function, or it returns no nn.Module.
    """
    module = called(name, "backbone")
    if not isinstance(module, nn.Module):
        raise ValueError(f"backbone {name[:80]}: returned a {type(module).__name__}, expected a torch.nn.Module.")
    if weights is not None and weights.startswith(RANDOM_PREFIX):
        reinitialise(module, weights)
    elif weights is not None:
        read_weights(module, weights)
    side_px = getattr(module, "input_px", 224)
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    channels_in = first.in_channels if first is not None and first.in_channels in (1, 3) else 3
    return Network(module=module, scaling=ASSUMED, input_px=side_px, channels_in=channels_in)
