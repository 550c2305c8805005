"""A network of one's own: `package.module:function`, a function that returns an nn.Module."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from gc_core.backbones.networks.network import Network, read_weights, reinitialise, seed_of
from gc_core.backbones.preprocessing import IMAGENET
from gc_core.backbones.weights import RANDOM_PREFIX


def load(name: str, weights: str | None) -> Network:
    """What the function returns. The current folder can be imported from; on a cluster, that is Ray's working
    directory. weights: None for those that the function gives, `random:SEED` to draw all anew, or a file.

    Raises:
        ValueError: there is no such module or function, or it returns no nn.Module.
    """
    module_name, function_name = name.split(":", 1)
    function = _imported(module_name, function_name, name)
    try:
        module = function()
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"backbone {name[:80]}: {type(error).__name__} from the function: {reason[:160]}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"backbone {name[:80]}: returned a {type(module).__name__}, expected a torch.nn.Module.")
    if weights is not None and weights.startswith(RANDOM_PREFIX):
        reinitialise(module, seed_of(weights))
    elif weights is not None:
        read_weights(module, weights)
    side_px = getattr(module, "input_px", 224)
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    channels_in = first.in_channels if first is not None and first.in_channels in (1, 3) else 3
    scaling = replace(IMAGENET, told_by="ASSUMED; set it with --preprocessing")
    return Network(module=module, scaling=scaling, input_px=side_px, channels_in=channels_in)


def _imported(module_name: str, function_name: str, name: str) -> Callable[[], object]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        from gc_core.backbones.networks.found import FORMS

        raise ValueError(
            f"backbone {name[:80]}: {error}, looked in {here} and where Python looks; expected one of {FORMS}."
        ) from error
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"backbone {name[:80]}: {error}; name a function that returns the network.") from error
    if not callable(function):
        raise ValueError(f"backbone {name[:80]}: is a {type(function).__name__}, expected a function.")
    return function
