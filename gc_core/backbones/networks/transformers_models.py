"""Vision networks of transformers: `hf:facebook/dinov2-small`, with the extra `[hf]`."""

from typing import Any

from torch import nn

from gc_core.backbones.networks.network import Network, read_weights, seeded
from gc_core.backbones.preprocessing import ASSUMED, Scaling
from gc_core.backbones.weights import RANDOM_PREFIX


def load(name: str, weights: str | None) -> Network:
    """A model of transformers: an account/name at the hub, a folder, or, with random weights or a file, the name of an
    architecture such as `dinov2` in its default size. Only safetensors are read, and no code of others is run.

    Raises:
        ValueError: transformers is not installed, or the model or its weights cannot be had.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"hf:{name[:80]}: transformers is not installed ({error}); pip install 'group-crosscoders[hf]'."
        ) from error
    try:
        if weights is None:
            module = transformers.AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
        else:
            module = _from_config(transformers, _config(transformers, name), weights)
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"hf:{name[:80]}: cannot be had ({reason[:160]}); give a folder with the model, or an architecture such as"
            " hf:dinov2 with --weights random:0 or a file."
        ) from error
    return _described(transformers, module, name if weights is None else None)


def _config(transformers: Any, name: str) -> Any:
    if name in transformers.CONFIG_MAPPING:
        return transformers.CONFIG_MAPPING[name]()
    return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)


def _from_config(transformers: Any, config: Any, weights: str) -> nn.Module:
    if not weights.startswith(RANDOM_PREFIX):
        module = transformers.AutoModel.from_config(config)
        read_weights(module, weights)
        return module
    with seeded(weights):
        return transformers.AutoModel.from_config(config)


def _described(transformers: Any, module: nn.Module, name: str | None) -> Network:
    config = module.config
    side = getattr(config, "image_size", None) or 224
    side_px = side if isinstance(side, int) else side[0]
    channels_in = getattr(config, "num_channels", None) or 3
    return Network(module=module, scaling=_scaling(transformers, name), input_px=side_px, channels_in=channels_in)


def _scaling(transformers: Any, name: str | None) -> Scaling:
    """What the model's own image processor says; a bare architecture has none."""
    if name is None:
        return ASSUMED
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError):  # the folder has none, or it needs a package that is not there
        return ASSUMED
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if mean is None or std is None or len(mean) != 3:
        return ASSUMED
    return Scaling(
        name="transformers",
        mean_RGB=(mean[0], mean[1], mean[2]),
        std_RGB=(std[0], std[1], std[2]),
        told_by="as the model's image processor says",
    )
