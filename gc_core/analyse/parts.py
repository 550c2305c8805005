"""Parts of an analysis, kept in the run folder until the whole is done: an interrupted one goes on from them.

    RUN/features/NAME.parts/KEY/encode-000003-SHA256.safetensors

is the fourth part of those that watched features fire. KEY says of what and with which options; the name holds the hash
of the content, so a part is never written over, and one that is damaged, or of something else, is not used.

Letters: F features, G group elements, T candidates, R representations, M members.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

import gc_core
from gc_core.analyse.firing import Firing
from gc_core.config import AnalyseConfig
from gc_core.crosscoder import WEIGHTS
from gc_core.families import Cluster
from gc_core.io import objects
from gc_core.io.artefacts import digest, hashes_in
from gc_core.io.json_objects import read_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder
from gc_core.metrics import VarianceSums
from gc_core.store import Store

FORMAT_VERSION = 4
"""Another one wherever the numbers of a part change."""
NAME = r"([a-z]+)-(\d{6})-([0-9a-f]{64})\.safetensors"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an analysis of one crosscoder, store and set of options."""

    run: RunFolder
    name: str
    key: str

    def known(self, kind: str) -> dict[int, str]:
        """Names of the parts of a kind that are there, by number."""
        matches = (re.fullmatch(NAME, name) for name in objects.sizes(self._folder))
        return {int(match[2]): match[0] for match in matches if match and match[1] == kind}

    def write(self, kind: str, number: int, arrays: Arrays) -> str:
        """Keep a part; its name."""
        content = save({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()})
        name = f"{kind}-{number:06}-{digest(content)}.safetensors"
        objects.write_once(self._folder, name, content)
        return name

    def read(self, name: str) -> Arrays | None:
        """A part's arrays; None, and the file is gone, where it is damaged."""
        try:
            content = objects.read(self._folder, name)
        except FileNotFoundError:
            return None
        match = re.fullmatch(NAME, name)
        if not match or digest(content) != match[3]:
            objects.delete(self._folder, name)
            return None
        try:
            return load(content)
        except SafetensorError:
            return None

    def clear(self) -> None:
        """Remove all parts of this crosscoder, those of other options too; what others put there stays."""
        objects.delete_named(_folder(self.run, self.name), rf"[0-9a-f]{{64}}/{NAME}")

    @property
    def _folder(self) -> Location:
        return _folder(self.run, self.name) / self.key


def parts_of(run: RunFolder, name: str, config: AnalyseConfig, store: Store) -> Parts:
    """Where parts lie that belong to these options, weights and samples, and to this version of the program.

    Raises:
        FileNotFoundError: there is no such crosscoder.
    """
    folder = run.crosscoder(name)
    about = {
        "format_version": FORMAT_VERSION,
        "program": gc_core.__version__,
        "options": asdict(config),
        "weights": hashes_in(read_json(folder, "config.json"), folder).get(WEIGHTS) or _hash_of_weights(folder),
        "store": dict(store.attrs),
    }
    content = json.dumps(about, sort_keys=True, default=str)
    return Parts(run, name, digest(content.encode()))


def of_firing(firing: Firing) -> Arrays:
    """Firing as arrays to keep."""
    count, sum_GC, squares_G, residual_G = (total.numpy() for total in firing.unexplained.tensors())
    return {
        "num_rows": np.array(firing.num_rows),
        "fired_F": firing.fired_F,
        "top_value_FT": firing.top_value_FT,
        "top_row_FT": firing.top_row_FT,
        "top_pose_FT": firing.top_pose_FT,
        "pose_count_FG": firing.pose_count_FG,
        "count": count,
        "sum_GC": sum_GC,
        "squares_G": squares_G,
        "residual_G": residual_G,
    }


def firing_of(arrays: Arrays) -> Firing:
    """Restore what `of_firing` took apart."""
    sums = (torch.from_numpy(arrays[name]) for name in ("count", "sum_GC", "squares_G", "residual_G"))
    return Firing(
        num_rows=int(arrays["num_rows"]),
        fired_F=arrays["fired_F"],
        top_value_FT=arrays["top_value_FT"],
        top_row_FT=arrays["top_row_FT"],
        top_pose_FT=arrays["top_pose_FT"],
        pose_count_FG=arrays["pose_count_FG"],
        unexplained=VarianceSums(*sums),
    )


def of_clusters(clusters: list[Cluster]) -> Arrays:
    """Families as arrays to keep: members and poses one after the other, and how many each family has."""
    empty = [np.zeros(0, np.int64)]
    return {
        "size": np.array([len(each.member_M) for each in clusters], np.int64),
        "representative": np.array([each.representative for each in clusters], np.int64),
        "member": np.concatenate([*empty, *(each.member_M for each in clusters)]),
        "pose": np.concatenate([*empty, *(each.pose_M for each in clusters)]),
        "similarity": np.concatenate([np.zeros(0, np.float32), *(each.similarity_M for each in clusters)]),
        "consistency": np.array([each.consistency for each in clusters], np.float64),
    }


def clusters_of(arrays: Arrays) -> list[Cluster]:
    """Families from what `of_clusters` gave."""
    ends = np.cumsum(arrays["size"])[:-1]
    of_members = (np.split(arrays[name], ends) for name in ("member", "pose", "similarity"))
    every = zip(*of_members, arrays["representative"], arrays["consistency"], strict=False)  # of none numpy splits one
    return [
        Cluster(member_M=members, pose_M=poses, similarity_M=near, representative=int(one), consistency=float(agree))
        for members, poses, near, one, agree in every
    ]


def _folder(run: RunFolder, name: str) -> Location:
    table = run.feature_table(name)
    return table.parent / f"{table.name.removesuffix('.parquet')}.parts"


def _hash_of_weights(folder: Location) -> str:
    """SHA-256 of weights that were stored before there were hashes."""
    with objects.as_file(folder, WEIGHTS) as path, path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
