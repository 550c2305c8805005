"""What a run is: frozen records, checked when made, saved as JSON beside every output; the command lines' source."""

from gc_core.config.analyse import AnalyseConfig, ResolvedAnalyseConfig
from gc_core.config.harvest import Compression, HarvestConfig
from gc_core.config.record import Config
from gc_core.config.resolved import ResolvedTrainConfig
from gc_core.config.train import TrainConfig

__all__ = [
    "AnalyseConfig",
    "Compression",
    "Config",
    "HarvestConfig",
    "ResolvedAnalyseConfig",
    "ResolvedTrainConfig",
    "TrainConfig",
]
