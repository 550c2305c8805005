"""The model card: what a reader on the hub must know before using a crosscoder."""

from collections.abc import Mapping
from typing import Any

from gc_core.crosscoder import CrosscoderShape

_CARD = """\
---
library_name: group-crosscoders
tags:
- interpretability
- sparse-autoencoder
- crosscoder
- {group}
- {backbone}
# license: yours to choose, such as apache-2.0
---

# {name}

A group crosscoder ([Gorton 2024](https://arxiv.org/abs/2410.24184)): one sparse code explains the activations of
`{layer}` of `{backbone}` for an image and all its transformed versions under {group} at once. Each of its
{dict_size:,} features owns {order} dictionary vectors of {channels} channels, one for each element of the group.

```python
from gc_core.crosscoder import Crosscoder

model = Crosscoder.load("FOLDER")  # this folder, downloaded
z = model.encode(acts)  # (samples, {order}, {channels}) raw activations to (samples, {dict_size}) codes
```

| | |
| --- | --- |
{facts}

## Where the samples come from

| | |
| --- | --- |
{store}

## Options of the training

| | |
| --- | --- |
{options}
"""


def card(
    name: str,
    shape: CrosscoderShape,
    trained: Mapping[str, Any],
    store: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
) -> str:
    """The card's Markdown, with the front matter that the hub reads; the licence is left to who publishes."""
    options = trained.get("train", {})
    return _CARD.format(
        name=name,
        group=shape.group.name,
        order=shape.group.order,
        backbone=store.get("backbone", "unknown"),
        layer=store.get("layer", "unknown"),
        dict_size=shape.dict_size,
        channels=shape.channels,
        facts=_rows(_facts(shape, trained.get("results", {}), evaluation or {})),
        store=_rows(_provenance(store)),
        options=_rows({option: options[option] for option in sorted(options)}),
    )


def _facts(shape: CrosscoderShape, results: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    held_out, downstream = evaluation.get("held_out", {}), evaluation.get("downstream", {})
    facts = {
        "activation": shape.activation,
        "prototypes, each in every pose of the group": shape.num_rows if shape.tying == "orbit" else None,
        "of them with all blocks equal": shape.invariant or None,
        "blocks that the encoder reads": len(shape.reads),
        "variance unexplained, in training": results.get("fvu"),
        "variance unexplained, held-out images": held_out.get("fvu", results.get("held_out_fvu")),
        "of the untransformed block alone": held_out.get("fvu_identity"),
        "active features a sample (L0)": held_out.get("l0", results.get("l0")),
        "dead features, in training": results.get("dead_share"),
        "dense features": held_out.get("dense_share"),
        "held-out samples": held_out.get("num_rows", results.get("held_out_samples")),
        "held-out images": held_out.get("num_images", results.get("held_out_images")),
        "loss recovered in the rest of the network": downstream.get("recovered"),
        "loss recovered where no unit sees padding": (downstream.get("interior") or {}).get("recovered"),
    }
    return {fact: value for fact, value in facts.items() if value is not None}


def _provenance(store: Mapping[str, Any]) -> dict[str, Any]:
    known = (
        "backbone",
        "layer",
        "weights_sha256",
        "preprocessing",
        "receptive_field_px",
        "num_rows",
        "seed",
        "code_version",
    )
    recorded = {name: store[name] for name in known if name in store}
    nested = {name: store[name] for name in ("resize", "rotation", "sampling") if name in store}
    images = store.get("config", {}).get("images")
    return recorded | ({"images": images} if images else {}) | nested


def _rows(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name.replace('_', ' ')} | {_said(value)} |" for name, value in facts.items())


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_said(inner)}" for name, inner in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
