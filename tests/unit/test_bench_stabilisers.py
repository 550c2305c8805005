"""The benchmark of stabilisers tells dictionaries that are named right from those that cannot be."""

import json
from pathlib import Path

from gc_core import groups
from infra.bench import stabilisers

D8 = groups.dihedral(8)


def test_a_smooth_dictionary_is_named_right_and_too_smooth_a_one_is_not() -> None:
    right = stabilisers.measure(D8, width=3.0, imperfect=0.1, channels=64, each=4, seed=0)
    assert right.features == 4 * len({subgroup.name for subgroup in D8.subgroups()})
    assert right.oracle_stabiliser_accuracy >= stabilisers.LEAST_ACCURACY
    assert right.null_false_positive_rate <= stabilisers.MOST_FALSE_POSITIVES
    wrong = stabilisers.measure(D8, width=0.7, imperfect=0.1, channels=64, each=4, seed=0)
    assert wrong.oracle_stabiliser_accuracy < stabilisers.LEAST_ACCURACY


def test_results_are_a_row_a_dictionary(tmp_path: Path) -> None:
    file = tmp_path / "named.json"
    size = ["--groups", "D4", "--widths", "2", "--imperfect", "0", "0.1", "--channels", "32", "--each", "1"]
    stabilisers.main([*size, "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [row["imperfect"] for row in rows] == [0, 0.1]
    assert all({"oracle_stabiliser_accuracy", "null_false_positive_rate"} <= row.keys() for row in rows)
