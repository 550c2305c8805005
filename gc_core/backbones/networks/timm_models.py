"""timm's networks: `timm:resnet50`, with the extra `[timm]`."""

from difflib import get_close_matches
from typing import Any

from torch import nn

from gc_core.backbones.networks.network import Network, read_weights, seeded
from gc_core.backbones.preprocessing import Scaling
from gc_core.backbones.weights import RANDOM_PREFIX


def load(name: str, weights: str | None) -> Network:
    """A network of timm. weights: None for the library's (downloaded on first use), `random:SEED`, or a file. A name
    may carry the tag of published weights, as timm writes it: `resnet50.a1_in1k`.

    Raises:
        ValueError: timm is not installed, has no such network, or the weights cannot be had.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"timm:{name[:80]}: timm is not installed ({error}); pip install 'group-crosscoders[timm]'."
        ) from error
    plain = name.split(".", 1)[0]
    if not timm.is_model(plain):
        near = ", ".join(get_close_matches(plain, timm.list_models(), 4)) or "resnet50, convnext_tiny"
        raise ValueError(f"timm has no network {name[:80]!r}; near it are {near}.")
    if weights is None:
        module = _pretrained(timm, name)
    elif weights.startswith(RANDOM_PREFIX):
        with seeded(weights):
            module = timm.create_model(name, pretrained=False)
    else:
        module = timm.create_model(name, pretrained=False)
        read_weights(module, weights)
    return _described(timm, module)


def _pretrained(timm: Any, name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"timm:{name}: its published weights cannot be had ({reason[:160]}); give a file as --weights, or random:0"
            " for a control."
        ) from error


def _described(timm: Any, module: nn.Module) -> Network:
    """What timm's own configuration of the network says of its pixels."""
    settings = timm.data.resolve_model_data_config(module)
    channels_in, side_px, _ = settings["input_size"]
    mean, std = ([float(each) for each in settings[name]] for name in ("mean", "std"))
    scaling = Scaling(
        name="timm",
        mean_RGB=(mean[0], mean[1 % len(mean)], mean[2 % len(mean)]),
        std_RGB=(std[0], std[1 % len(std)], std[2 % len(std)]),
        told_by="as timm's configuration of the network says",
    )
    return Network(module=module, scaling=scaling, input_px=side_px, channels_in=channels_in)
