"""What the harvest's benchmark measures, in one process: each phase is a method that says how much it did in how long.

Letters: N centres or crops, G group elements, C channels, L side of a square image.
"""

import os
import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gc_core import backbones, groups, harvest, manifest, transforms
from gc_core.backbones import AnyBackbone, ModuleBackbone
from gc_core.backbones.networks import load_network
from gc_core.config import HarvestConfig
from gc_core.harvest.activations import arithmetic, cut_windows, windows_per_pass, windows_to_activations
from gc_core.harvest.centres import uniform_centres
from gc_core.images import decode
from gc_core.images.ref import ImageRef
from gc_core.io.run_folder import RunFolder
from gc_core.store.shards import CHUNK_ROWS, DEFAULT_SHARD_ROWS
from infra.bench import images, machine
from infra.bench.machine import Rate
from infra.bench.plain import image_side_px, plain_activations

RESIZE_PX = 256
CENTRES_PER_IMAGE = 10
SHARD_ROWS = {"cpu": CHUNK_ROWS, "cuda": DEFAULT_SHARD_ROWS}
COMPARED = 2
"""Samples on which the ways are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What to load."""

    backbone: str
    weights: str | None
    device: str
    processes: int
    """How many processes share the machine."""
    group: str = "D32"
    layer: str | None = None

    @property
    def fast_dtype(self) -> torch.dtype:
        return arithmetic("auto", self.device)

    @property
    def has_canvas(self) -> bool:
        """Whether the network is also evaluated by itself, on a canvas: those that are not written down by hand."""
        return self.backbone not in backbones.NAMES


class Workload:
    """Networks, images and windows, ready to be measured."""

    def __init__(self, spec: Spec) -> None:
        if spec.device == "cpu":
            torch.set_num_threads(1)
        self._spec, self._device = spec, spec.device
        self._config = HarvestConfig(
            group=spec.group,
            backbone=spec.backbone,
            weights=spec.weights,
            layer=spec.layer,
            centres_per_image=CENTRES_PER_IMAGE,
            resize_px=RESIZE_PX,
            shard_rows=SHARD_ROWS[spec.device],
        )
        self._group = groups.parse(self._config.group)
        self._networks = {dtype: self._network(dtype) for dtype in {torch.float32, spec.fast_dtype}}
        self._turn = 0

    def plain_fp32(self, seconds: float) -> Rate:
        """Samples by the plain way."""
        return machine.rate(self._one_plain, seconds, self._device)

    def ours_fp32(self, seconds: float) -> Rate:
        """Samples by the harvest's way, float32, from windows that are cut out already."""
        return self._ours(torch.float32, seconds)

    def ours_fast(self, seconds: float) -> Rate:
        """Samples by the harvest's way in the fast type, from windows that are cut out already."""
        return self._ours(self._spec.fast_dtype, seconds)

    def canvas_fp32(self, seconds: float) -> Rate:
        """Samples by the network itself, each patch on the smallest canvas that it takes, float32."""
        return self._ours_of(self._on_canvas, seconds)

    def forward_fast(self, seconds: float) -> Rate:
        """GFLOP of the network's convolutions alone, from patches that are made already."""
        network = self._networks[self._spec.fast_dtype]
        original = network.normalised(self._windows.to(network.device))
        patches = transforms.act(original, self._group, network.receptive_field_px, dtype=network.dtype).flatten(0, 1)
        gflop = len(patches) * gflop_of_a_crop(network)

        @torch.inference_mode()
        def forward() -> float:
            network.unit_of_normalised(patches)
            return gflop

        return machine.rate(forward, seconds, self._device)

    def matmul_fp32(self, seconds: float) -> Rate:
        """GFLOP of a matrix product."""
        return machine.rate(machine.matmul_gflop(self._device, torch.float32), seconds, self._device)

    def matmul_fast(self, seconds: float) -> Rate:
        """GFLOP of a matrix product in the fast type."""
        return machine.rate(machine.matmul_gflop(self._device, self._spec.fast_dtype), seconds, self._device)

    def decode(self, seconds: float) -> Rate:
        """JPEG files decoded to working scale, on this process's share of the machine's cores."""
        threads = max(1, (os.cpu_count() or 1) // self._spec.processes)
        with ThreadPoolExecutor(threads) as pool:

            def decode_all() -> float:
                return len(list(pool.map(lambda content: decode(content, RESIZE_PX), images.jpegs())))

            return machine.rate(decode_all, seconds, "cpu")

    def job(self, shards: float) -> Rate:
        """Samples of whole shards: files decoded, blocks computed, written and committed, as a worker does it."""
        with tempfile.TemporaryDirectory() as folder:
            config, network = self._config, self._networks[self._spec.fast_dtype]
            run, table = RunFolder.at(f"{folder}/run"), self._manifest(Path(folder))
            plan = harvest.plan_rows(config, table, network)
            harvest.create_store(run, config, plan, network)
            works = [harvest.shard_work(plan, table, shard) for shard in range(int(shards))]
            pipeline = harvest.Pipeline(run, config, network, attempt="bench")

            def harvest_all() -> float:
                with ThreadPoolExecutor(pipeline.SHARDS_AT_ONCE) as threads:
                    commits = list(threads.map(lambda work: pipeline.harvest(work, tick=lambda rows: None), works))
                return sum(commit.num_rows for commit in commits)

            return machine.rate(harvest_all, 0, self._device)

    def peak_rss_bytes(self) -> int:
        """The most memory that this process has held."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def device_name(self) -> str:
        """What computes."""
        return machine.device_name(self._device)

    def largest_error(self) -> float:
        """Largest distance of a float32 block from the plain way's, relative to that block's norm."""
        network = self._networks[torch.float32]
        plain_NGC = torch.stack([plain_activations(p, self._group, network) for p in self._squares[:COMPARED]])
        ours_NGC = windows_to_activations(self._middles[:COMPARED], self._group, network)
        return float(((ours_NGC - plain_NGC).norm(dim=-1) / plain_NGC.norm(dim=-1)).max())

    def fast_median_cosine(self) -> float:
        """Median cosine of the fast type's blocks to the float32 blocks."""
        fast, expected = (
            windows_to_activations(self._middles, self._group, self._networks[dtype])
            for dtype in (self._spec.fast_dtype, torch.float32)
        )
        return float(torch.cosine_similarity(fast.double(), expected.double(), dim=-1).median())

    def _network(self, dtype: torch.dtype) -> AnyBackbone:
        name = str(dtype).removeprefix("torch.")
        changed = {**self._config.to_json(), "dtype": name}
        return harvest.load_backbone(HarvestConfig.from_json(changed), self._device)

    def _one_plain(self) -> float:
        image_3LL = self._squares[self._turn % len(self._squares)]
        self._turn += 1
        plain_activations(image_3LL, self._group, self._networks[torch.float32])
        return 1

    @cached_property
    def _on_canvas(self) -> AnyBackbone:
        network = load_network(self._spec.backbone, self._spec.weights)
        canvas = ModuleBackbone(self._spec.backbone, network, layer=self._spec.layer, evaluation="canvas")
        return canvas.to(self._device)

    def _ours(self, dtype: torch.dtype, seconds: float) -> Rate:
        return self._ours_of(self._networks[dtype], seconds)

    def _ours_of(self, network: AnyBackbone, seconds: float) -> Rate:
        def compute() -> float:
            return len(windows_to_activations(self._windows, self._group, network))

        return machine.rate(compute, seconds, self._device)

    @property
    def _window_px(self) -> int:
        return harvest.Geometry.of(self._config, self._networks[torch.float32]).window_px

    @cached_property
    def _squares(self) -> list[Tensor]:
        """The middle of every photograph, (3, L, L) float32, a unit at its centre pixel."""
        side = image_side_px(self._networks[torch.float32], RESIZE_PX)
        whole = [decode(content, RESIZE_PX) for content in images.jpegs()]
        offsets = [((pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2) for pixels in whole]
        cut = [
            pixels[:, top : top + side, left : left + side] for pixels, (top, left) in zip(whole, offsets, strict=True)
        ]
        return [torch.from_numpy(np.ascontiguousarray(pixels)).float() for pixels in cut]

    @cached_property
    def _middles(self) -> Tensor:
        """The window at the centre of each square; (N, 3, W, W) uint8."""
        middle = np.array([[self._squares[0].shape[-1] // 2] * 2])
        cut = [cut_windows(square.byte().numpy(), middle, self._window_px) for square in self._squares]
        return torch.cat(cut)

    @cached_property
    def _windows(self) -> Tensor:
        """Windows for one pass of the network, from all photographs."""
        count = windows_per_pass(self._group, self._networks[torch.float32])
        side, rng = self._squares[0].shape[-1], np.random.default_rng(0)
        each = -(-count // len(self._squares))
        cut = [
            cut_windows(square.byte().numpy(), uniform_centres(side, side, self._window_px, each, rng), self._window_px)
            for square in self._squares
        ]
        return torch.cat(cut)[:count]

    def _manifest(self, folder: Path) -> pa.Table:
        """Manifest of the photographs as files in this folder, each listed many times: enough for MOST_SHARDS."""
        refs: list[ImageRef] = []
        for number, content in enumerate(images.jpegs()):
            path = folder / f"{number}.jpg"
            path.write_bytes(content)
            refs.append(ImageRef(url=str(path), member=""))
        seen = [
            manifest.inspect(ref, manifest.InspectionSettings(resize_px=RESIZE_PX, window_px=self._window_px))
            for ref in refs
        ]
        times = -(-MOST_SHARDS * SHARD_ROWS[self._device] // (CENTRES_PER_IMAGE * len(seen)))
        return manifest.build(seen * times, {})


MOST_SHARDS = 64
"""Most shards in one call of `job`."""


def gflop_of_a_crop(network: AnyBackbone) -> float:
    """What the convolutions need for one unit, a multiplication and an addition counted as two."""
    side = network.receptive_field_px
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.unit_of_normalised(torch.zeros(1, 3, side, side, device=network.device))
    return counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 1e9
