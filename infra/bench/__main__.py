"""`python -m infra.bench harvest`, and the like: each module of this package named here is one benchmark."""

import sys

from infra.named_modules import run

BENCHMARKS = {
    "harvest": "samples a second of the harvest, next to the plain way and to what the machine can do",
    "train": "samples a second of a training step, next to a plain dense one and to what the machine can do",
    "company": "what other work on the same cores does to a training step, by number of threads",
    "sweep": "whether the default learning rate is near the best, for each encoder, activation and size",
    "tying": "whether tied poses explain more than untied ones, over training rows and time",
    "seeds": "whether tied and untied dictionaries of two seeds find the same features",
    "poses": "what a bias for each pose, and free weights after it, add to tied poses",
    "linear": "how linearly rotations and mirrors act on activations, exact and interpolated ones",
    "plans": "what the planner says of large tied dictionaries on GPUs; arithmetic alone",
    "planted": "whether planted families, symmetries and poses are found, by tied and untied crosscoders and an SAE",
    "separation": "whether families keep kinds of drawn stimuli apart, and curves differ from lines",
    "scaling": "by how much a penalty shrank each block of each feature, and whether its symmetry survives",
    "manifolds": "whether each of many manifolds is told by one family, next to autoencoders and block sparsity",
    "synthetic": "whether features in superposition, trees and correlation are found, next to SAELens' autoencoder",
    "stabilisers": "whether the analysis names planted stabilisers, and none where none is; nothing is trained",
    "revive": "how many features die, and what the ways to revive them do",
    "sizes": "whether larger dictionaries tile the circle or find rarer features, tied and untied",
    "analyse": "time and memory of the analysis as features and samples grow, next to the plain way",
    "grouping": "memory and time from neighbours to families, at the most neighbours there can be",
    "scale": "time and memory of reading what is held out, exporting, scoring and matching, next to the plain way",
    "artefacts": "how much interpolation changes blocks, and what `--resample-all` does about it",
    "clients": "obstore next to s3fs, on object storage",
    "indexing": "memory and time of the manifest and the plan of shards as images grow; made-up records",
    "store": "megabytes a second into and out of the activation store",
}


def main(args: list[str]) -> None:
    """Run the benchmark that the first argument names."""
    run("infra.bench", BENCHMARKS, args)


if __name__ == "__main__":
    main(sys.argv[1:])
