"""Stage 1: from images to the activations of every transformed version of sampled centres."""

from gc_core.harvest.activations import (
    Geometry,
    arithmetic,
    field_window_px,
    group_activations,
    group_of,
    load_backbone,
    network_of,
)
from gc_core.harvest.plan import ImageWork, ShardWork, create_store, plan_rows, refuse_other_store, shard_work
from gc_core.harvest.shard import Pipeline, compute_shard, harvest_shard
from gc_core.harvest.verify import fault_of_origin, fault_of_shard

__all__ = [
    "Geometry",
    "ImageWork",
    "Pipeline",
    "ShardWork",
    "arithmetic",
    "compute_shard",
    "create_store",
    "fault_of_origin",
    "fault_of_shard",
    "field_window_px",
    "group_activations",
    "group_of",
    "harvest_shard",
    "load_backbone",
    "network_of",
    "plan_rows",
    "refuse_other_store",
    "shard_work",
]
