"""The check of a GPU: parts run on a CPU and agree with themselves, on a pretended card too; verdicts are honest."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infra import gpu_check, gpu_parts
from infra.bench.training import Size
from infra.gpu_parts import Finding
from support.pretended_card import PretendedCard

TINY = Size(group="C4", channels=12, features=64, batch=64, k=4)


def finding(passed: bool | None) -> Finding:
    return Finding(part="p", what="w", found=1.0, passed=passed)


def broken() -> Iterator[Finding]:
    yield finding(passed=True)
    raise RuntimeError("no kernel image is available\nfor execution")


def test_without_a_gpu_there_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(SystemExit) as ended:
        gpu_check.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().out.strip().splitlines() == [
        "gpu_check: no CUDA device found, expected one that PyTorch sees; see `nvidia-smi`"
    ]


@pytest.mark.parametrize("seconds", ["nan", "-1", "inf"])
def test_seconds_that_never_end_are_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--seconds", seconds])
    assert ended.value.code
    told = capsys.readouterr()
    assert "seconds: found" in told.out + told.err


@pytest.mark.parametrize(
    ("passed", "code"), [([True, None], 0), ([True, False], 1), ([None], 1), ([], 1), ([True, True], 0)]
)
def test_the_exit_code_tells_the_truth(passed: list[bool | None], code: int) -> None:
    assert gpu_check.exit_code([finding(each) for each in passed]) == code


def test_a_part_that_fails_ends_no_other() -> None:
    found = list(gpu_check.findings({"one": broken, "two": lambda: iter([finding(passed=True)])}))
    assert [each.passed for each in found] == [True, False, True]
    assert "no kernel image is available" in found[1].what
    gpu_check.show(found, "a card")


def test_a_skipped_test_did_not_pass(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no card')\n")
    (tmp_path / "test_two.py").write_text("def test_it():\n    pass\n")
    skipped, whole = (
        next(gpu_check.own_tests([str(tmp_path / name), "--rootdir", str(tmp_path)]))
        for name in ("test_one.py", "test_two.py")
    )
    assert skipped.passed is False
    assert whole.passed is True


@pytest.mark.parametrize("pretended", [False, True])
def test_numbers_agree_with_the_cpu(pretended: bool) -> None:
    if pretended:
        with PretendedCard()():
            found = list(gpu_parts.steps_agree("cuda:0", TINY))
    else:
        found = [*gpu_parts.steps_agree("cpu", TINY), *gpu_parts.analysis_agrees("cpu", TINY)]
        found += gpu_parts.harvest_agrees("cpu", "D4")
    assert len(found) == 16 if pretended else 21
    assert all(each.passed for each in found), found


def test_other_numbers_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    relu = torch.Tensor.relu
    with PretendedCard()():
        monkeypatch.setattr(torch.Tensor, "relu", lambda x: relu(x) * (1.01 if x.is_cuda else 1))
        found = list(gpu_parts.steps_agree("cuda:0", TINY))
    assert any(each.passed is False for each in found)


def test_rates_are_measured_and_not_judged() -> None:
    measured = {
        "harvest": lambda: gpu_parts.harvest_rate("cpu", 0, "C4", centres=2),
        "steps": lambda: gpu_parts.step_rates("cpu", TINY, 0),
    }
    found = list(gpu_check.findings(measured))
    assert len(found) == 1 + 4 + 2
    assert all(each.passed is None and each.found > 0 for each in found), found
    assert gpu_parts.copied_gb_per_s("cpu", 2**20) > 0
    json.dumps([each.found for each in found], allow_nan=False)


def test_more_particular_names_of_cards_come_first() -> None:
    names = list(gpu_parts.SPECIFIED)
    assert not [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if a in b]
