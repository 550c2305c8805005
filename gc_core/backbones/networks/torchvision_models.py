"""torchvision's networks: `torchvision:resnet50`."""

import warnings
from difflib import get_close_matches
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models

from gc_core.backbones.networks.network import Network, fill, read_weights, seeded
from gc_core.backbones.preprocessing import ASSUMED, Scaling
from gc_core.backbones.weights import RANDOM_PREFIX


def load(name: str, weights: str | None) -> Network:
    """A network of `torchvision.models`. weights: None for the library's default, or one of its names such as
    IMAGENET1K_V1 (both are downloaded on first use), `random:SEED`, or a file.

    Raises:
        ValueError: no such network or weights, or no download.
    """
    if name not in names():
        near = ", ".join(get_close_matches(name, names(), 4)) or "resnet50, vgg16, vit_b_16"
        raise ValueError(f"torchvision has no network {name[:80]!r} of images; near it are {near}.")
    published = models.get_model_weights(name)
    default: models.WeightsEnum | None = getattr(published, "DEFAULT", None)
    chosen = default if weights is None else published.__members__.get(weights)
    settings = None if default is None else default.transforms()
    how = "as torchvision prepares images for it"
    if chosen is not None:
        module, how, settings = _made(name), f"as torchvision's {chosen.name} says", chosen.transforms()
        fill(module, _downloaded(chosen), chosen.url)
    elif weights is None:
        raise ValueError(f"torchvision:{name}: torchvision has no weights for it; give a file, or random:0.")
    elif weights.startswith(RANDOM_PREFIX):
        how = f"{how}; random weights"
        with seeded(weights):
            module = _made(name)
    else:
        module = _made(name)
        read_weights(module, weights)
    if settings is None:
        return Network(module=module, scaling=ASSUMED)
    return Network(module=module, scaling=_scaling(settings, how), input_px=settings.crop_size[0])


def names() -> list[str]:
    """All networks for images that torchvision has."""
    return models.list_models(module=models)


def _scaling(settings: nn.Module, how: str) -> Scaling:
    mean, std = (tuple(float(each) for each in getattr(settings, name)) for name in ("mean", "std"))
    return Scaling(
        name="torchvision", mean_RGB=(mean[0], mean[1], mean[2]), std_RGB=(std[0], std[1], std[2]), told_by=how
    )


def _made(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GoogLeNet and Inception tell of a slow initialisation
        return models.get_model(name, weights=None)


def _downloaded(chosen: models.WeightsEnum) -> dict[str, torch.Tensor]:
    try:
        return dict(chosen.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, URLError) as error:  # no network; RuntimeError is torch's word for a wrong hash
        raise ValueError(
            f"{chosen.url}: could not be downloaded ({error}). Save that file elsewhere and give its path as --weights,"
            " or use --weights random:0 for a control."
        ) from error
