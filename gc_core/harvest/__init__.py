"""Stage 1: from pictures to the activations of every transformed version of sampled centres."""

from gc_core.harvest.activations import field_window_px, group_activations, load_backbone
from gc_core.harvest.plan import ImageWork, ShardWork, create_store, plan_rows, shard_work
from gc_core.harvest.shard import compute_shard, harvest_shard
from gc_core.harvest.verify import fault_of_origin, fault_of_shard

__all__ = [
    "ImageWork",
    "ShardWork",
    "compute_shard",
    "create_store",
    "fault_of_origin",
    "fault_of_shard",
    "field_window_px",
    "group_activations",
    "harvest_shard",
    "load_backbone",
    "plan_rows",
    "shard_work",
]
