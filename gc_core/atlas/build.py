"""Gathers what a page shows: the feature table, and patches cut from the images.

Letters: S patch side, pixels.
"""

import mimetypes
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gc_core import groups, manifest
from gc_core.analyse.artefacts import ATLAS_RECORD
from gc_core.analyse.table import FeatureTable, load_features
from gc_core.atlas.page import STRIP, write_page
from gc_core.atlas.patches import cut_patch
from gc_core.atlas.records import AtlasPage, Example, FeatureCard
from gc_core.families import Gap
from gc_core.groups import TableGroup
from gc_core.images import ImageError, ImageRef, load
from gc_core.images.moved import Absent, Move
from gc_core.ingest import is_ingested
from gc_core.io import objects
from gc_core.io.artefacts import digest
from gc_core.io.json_objects import write_json
from gc_core.io.location import Location
from gc_core.io.run_folder import RunFolder, read_trained
from gc_core.store import MANIFEST, Store, open_store

DECODE_THREADS = 4
MOST_CARDS = 2000
"""More would make a page that opens slowly; the largest families and the most frequent features are shown."""

BUNDLED_NOTE = (
    "The network is the small bundled trunk: GoogLeNet's first layers, trained for this project to imitate another"
    " network's features. It is neither Google's InceptionV1 nor torchvision's published GoogLeNet; results on those"
    " need their weights."
)
TIED_NOTE = (
    "Poses are tied: each card is a prototype that stands for its turned copies under every element of the group, so a"
    " family by itself. Patches are turned back into the prototype's pose: for a good prototype they line up."
)
INGESTED_NOTE = (
    "The activations were computed elsewhere and read from files, so no images are known and features show none. The"
    " samples that each feature fires on most are in features/NAME.zarr (top_rows), and the manifest says where they"
    " come from."
)


def build_atlas(
    run: RunFolder,
    name: str,
    tick: Callable[[int], None],
    *,
    moves: Sequence[Move] = (),
    warn: Callable[[str], None] = lambda line: None,
) -> Location:
    """Write RUN/atlas/NAME/index.html and its images, and return where the page is; `tick` hears how many images
    were opened, `warn` of those that are missing or were replaced, whose patches are grey.

    Raises:
        ValueError: the crosscoder was not analysed, or a move is of no image.
    """
    table, store = load_features(run, name), open_store(run)
    folder = run.atlas(name)
    shown = _shown(table)
    examples, absent = _examples(run, store, table, shown, tick, moves)
    if line := absent.describe():
        warn(line)
    cards = [_card(row, table, examples.get(row["feature"], [])) for row in shown]
    page = _page(run, name, table, store, cards, absent)
    if folder.is_local:
        with objects.one_line_errors(folder):
            write_page(page, folder.local_path)
        _record(folder, folder.local_path)
    else:
        with tempfile.TemporaryDirectory() as drawn:
            write_page(page, Path(drawn))
            upload(Path(drawn), folder)
            _record(folder, Path(drawn))
    return folder / "index.html"


def _record(folder: Location, drawn: Path) -> None:
    """The hashes of the page's own files, beside it."""
    strips = sorted(path for path in (drawn / "examples").iterdir() if re.fullmatch(STRIP, path.name))
    files = {path.relative_to(drawn).as_posix(): digest(path.read_bytes()) for path in [drawn / "index.html", *strips]}
    write_json(folder, ATLAS_RECORD, {"files": files})


def upload(drawn: Path, folder: Location) -> None:
    """A page's folder onto object storage: the page last, then strips that an earlier page left behind are removed."""
    names = {path.relative_to(drawn).as_posix(): path for path in drawn.rglob("*") if path.is_file()}
    for name in sorted(names, key=lambda name: (name == "index.html", name)):
        objects.write(folder, name, names[name].read_bytes(), media_type=mimetypes.guess_type(name)[0])
    for stale in objects.sizes(folder).keys() - names.keys():
        if re.fullmatch(f"examples/{STRIP}", stale):
            objects.delete(folder, stale)


def _shown(table: FeatureTable) -> list[dict[str, Any]]:
    """All features, or the most interesting: members of the largest families first (their numbers are the smallest),
    then by density."""
    ranked = sorted(table.rows, key=lambda row: (not row["alive"], row["family"] < 0, row["family"], -row["density"]))
    return sorted(ranked[:MOST_CARDS], key=lambda row: row["feature"])


def _examples(
    run: RunFolder,
    store: Store,
    table: FeatureTable,
    shown: list[dict[str, Any]],
    tick: Callable[[int], None],
    moves: Sequence[Move],
) -> tuple[dict[int, list[Example]], Absent]:
    """Patches of every shown feature, and images that could not be read again; each is opened once."""
    if is_ingested(store.attrs):
        return {}, Absent.among([])
    images = manifest.relocated(manifest.load_table(run.manifest, sha256=store.attrs.get(MANIFEST)), moves)
    refs, key_I = manifest.refs_of(images), images["key"].to_pylist()
    wanted: dict[int, list[tuple[int, int, int, float]]] = defaultdict(list)  # image -> (feature, place, row, value)
    for feature in (row["feature"] for row in shown if row["alive"]):
        pairs = zip(
            table.arrays["top_rows"][feature].tolist(), table.arrays["top_values"][feature].tolist(), strict=True
        )
        for place, (row, value) in enumerate(pairs):
            if row >= 0:
                wanted[int(store.image[row])].append((feature, place, row, value))
    side_px, scale = store.attrs["receptive_field_px"], store.attrs["resize"]
    undone = _undone(table, store)
    by_feature: dict[int, dict[int, Example]] = defaultdict(dict)
    errors: list[tuple[ImageRef, OSError | None]] = []
    with ThreadPoolExecutor(DECODE_THREADS) as threads:
        read = threads.map(lambda image: _pixels(refs[image], scale, key_I[image]), wanted)
        for opened, (image, (pixels_CHW, error)) in enumerate(zip(wanted, read, strict=True), start=1):
            errors.append((refs[image], error))
            for feature, place, row, value in wanted[image]:
                patch = cut_patch(pixels_CHW, store.centre_yx[row], side_px, store.group, undone[feature, place])
                by_feature[feature][place] = Example(image_name=refs[image].name, value=value, patch_HWC=patch)
            tick(opened)
    examples = {feature: [by_place[place] for place in sorted(by_place)] for feature, by_place in by_feature.items()}
    return examples, Absent.among(errors)


def count_images(run: RunFolder, name: str) -> int:
    """How many images `build_atlas` will open."""
    table, store = load_features(run, name), open_store(run)
    if is_ingested(store.attrs):
        return 0
    rows = np.concatenate(
        [table.arrays["top_rows"][row["feature"]] for row in _shown(table) if row["alive"]] or [np.empty(0, int)]
    )
    return len(np.unique(store.image[rows[rows >= 0]]))


def _pixels(ref: ImageRef, scale: Mapping[str, Any], key: int) -> tuple[NDArray[np.uint8] | None, OSError | None]:
    """The very image that was harvested; one that has gone since leaves a grey patch, not a missing page."""
    try:
        return load(ref, scale["shorter_side_px"], key=key, enlarge=scale.get("enlarge", False)), None
    except OSError as error:
        return None, error
    except ImageError as error:  # another version of the decoder
        return None, OSError(str(error))


def _undone(table: FeatureTable, store: Store) -> NDArray[np.int64]:
    """(F, K) elements of the store's group by which patches are turned: back into the prototype's pose, if there is
    one."""
    poses = table.arrays.get("top_poses")
    if poses is None or "pose_counts" not in table.arrays:
        return np.zeros(table.arrays["top_rows"].shape, np.int64)
    group = groups.from_record(table.attrs["group"])
    return groups.embed(group, store.group)[group.inverse[poses]]


def _card(row: dict[str, Any], table: FeatureTable, examples: list[Example]) -> FeatureCard:
    feature, counts = row["feature"], table.arrays.get("pose_counts")
    return FeatureCard(
        **{
            key: row[key]
            for key in ("feature", "alive", "density", "family", "pose", "symmetry", "stabiliser", "axis_deg")
        },
        stabiliser_score=row["stabiliser_score"],
        stabiliser_weakest=row["stabiliser_weakest"],
        changing_stabiliser=row["changing_stabiliser"],
        invariant_share=row["invariant_share"],
        **chance_of(row),
        curve_G=table.arrays["curves"][feature],
        self_similarity_G=table.arrays["self_similarity"][feature],
        block_norm_G=table.arrays["block_norms"][feature],
        spectrum=tuple(row["spectrum"]),
        examples=examples,
        pose_share_G=None if counts is None else counts[feature] / max(1, counts[feature].sum()),
        block_step_G=None if counts is None else table.arrays["block_steps"][feature],
        gaps=tuple(Gap(**gap) for gap in row.get("family_gaps") or ()),
        label=row.get("label"),
        stimulus=words_of_stimulus(row),
    )


def words_of_stimulus(row: Mapping[str, Any]) -> str:
    """The stimulus that drives a feature most, and how it was turned; empty where there is none, or an earlier version
    wrote the table."""
    if row.get("label") is None:
        return ""
    mirrored = ", mirrored" if row["tuning_mirrored"] else ""
    return f"{row['tuning_stimulus']}{mirrored}, at {row['tuning_angle_deg']:.4g}°"


def chance_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of chance: nothing where there is no stabiliser, or an earlier version wrote the table."""
    if row.get("stabiliser_p") is None or not row["stabiliser_score"]:
        return {}
    interval = row["stabiliser_low"], row["stabiliser_high"]
    return {"stabiliser_interval": interval, "stabiliser_p": row["stabiliser_p"]}


def sparsity(config: dict[str, Any]) -> str:
    """What keeps codes sparse in a training with these options."""
    words = {
        "topk": "top-k {k}",
        "batchtopk": "batch top-k {k}",
        "jumprelu": "JumpReLU {jumprelu_coefficient:.3g}, norm over {norm_over}",
        "l1": "L1 {l1_coefficient:.3g}, norm over {norm_over}",
    }
    return words[config["activation"]].format(**config)


def _page(
    run: RunFolder, name: str, table: FeatureTable, store: Store, cards: list[FeatureCard], absent: Absent
) -> AtlasPage:
    (config, results), about = read_trained(run.crosscoder(name)), table.attrs
    tied = "pose_counts" in table.arrays
    read = "all blocks" if tied else config["encoder_reads"]
    facts = [
        ("samples", f"{store.num_rows:,}"),
        ("images", f"{len(np.unique(store.image)):,}"),
        ("held-out FVU", _held_out(results)),
        ("FVU of all samples", _number(about["fvu"])),
        ("L0", _number(about["l0"])),
        (
            "training",
            f"{sparsity(config)}; {config['steps']:,} steps of {config['batch']}; encoder reads {read}",
        ),
    ]
    if shares := about.get("stimuli", {}):
        facts.append(("stimuli", _agreement(shares)))
    if len(cards) < len(table.rows):
        facts.append(("shown here", f"{len(cards):,}"))
    kind, group_n, labels = _group_of(about["group"])
    note = f"Patches are grey where images could not be read again: {absent.describe()}." if absent.describe() else ""
    ingested = is_ingested(store.attrs)
    bundled = store.attrs["backbone"] == "googlenet" and store.attrs["config"].get("weights", "") in (None, "bundled")
    return AtlasPage(
        title=f"{store.attrs['backbone']} {store.attrs['layer']}",
        run_url=run.url,
        crosscoder_name=name,
        group_kind=kind,
        group_n=group_n,
        element_labels=labels,
        backbone=store.attrs["backbone"],
        layer=store.attrs["layer"],
        irrep_labels=table.irrep_labels,
        facts=facts,
        notes=[
            *filter(
                None,
                [TIED_NOTE if tied else "", note, BUNDLED_NOTE if bundled else "", INGESTED_NOTE if ingested else ""],
            )
        ],
        features=cards,
        tied=tied,
    )


def _group_of(record: Mapping[str, Any]) -> tuple[str, int, tuple[str, ...]]:
    """Kind, number of rotations (or of elements) and labels (of a group of the user's own) for a page."""
    group = groups.from_record(record)
    if isinstance(group, TableGroup):
        return "table", group.order, group.labels
    return group.kind, group.n, ()


def _agreement(about: Mapping[str, Any]) -> str:
    """How many stimuli were shown, and whether responses have the symmetries of decoders."""
    if about["same_symmetry"] is None:
        return f"{about['number']}"
    same, dealt = about["same_symmetry"], about["same_symmetry_dealt"]
    return f"{about['number']}; tuned as the decoder says: {same:.0%} ({dealt:.0%} by chance)"


def _held_out(results: Mapping[str, Any]) -> str:
    """The figure with how many images it rests on, where that was recorded."""
    figure = _number(results.get("held_out_fvu"))
    images = results.get("held_out_images")
    return figure if images is None else f"{figure} ({images:,} images)"


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.3g}"
