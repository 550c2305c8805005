"""Activations from files through every later stage: trained on, analysed, drawn, verified and mended."""

from pathlib import Path

import numpy as np
import pytest

from gc_core import manifest, store
from gc_core.analyse import load_features
from gc_core.ingest import IngestConfig, compute_shard, create_store, plan_ingest, survey, write_manifest
from gc_core.io.run_folder import RunFolder
from gc_core.store.layout import object_name
from jobs import analyse, clean, evaluate, ingest, train, verify

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 samples of D_2, made of 12 features, and the images that they are of."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("source")
    code_NF = rng.exponential(size=(1500, 12)) * (rng.random((1500, 12)) < 0.2)
    acts_NGC = np.einsum("nf,fgc->ngc", code_NF, rng.normal(size=(12, 4, 6))) + 0.1
    np.save(folder / "acts.npy", acts_NGC.astype(np.float32))
    np.save(folder / "ids.npy", np.arange(1500) // 5)
    return folder


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunFolder:
    out = tmp_path_factory.mktemp("out") / "run"
    ingest.main(options(source, out))
    return RunFolder.at(str(out))


def options(source: Path, out: Path) -> list[str]:
    places = ["--activations", str(source / "acts.npy"), "--image", str(source / "ids.npy")]
    return [*places, "--group", "D2", "--out", str(out)]


def test_later_stages_work_and_the_page_says_why_it_has_no_images(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--dict-size", "32", "--k", "4", "--steps", "30"]
    train.main(["--run", run.url, "--name", "small", *sizes])
    analyse.main(["--run", run.url])
    said = " ".join(capsys.readouterr().out.split())
    assert "none shown, so `label` and `tuning_*` are empty: the activations were computed elsewhere" in said
    assert {row["label"] for row in load_features(run, "small").rows} == {None}
    evaluate.main(["--run", run.url])
    page = (run.location.local_path / "atlas" / "small" / "index.html").read_text()
    assert "computed elsewhere and read from files" in page
    assert "strip" not in page.split("<main")[-1] or "f0.jpg" not in page
    held = manifest.held_out(manifest.load_table(run.manifest))
    assert len(held) == 300
    with pytest.raises(ValueError, match="were ingested, so the network is unknown; leave out --classifier"):
        evaluate.network_of(run, "torchvision")


def test_an_interrupted_run_is_finished_with_the_same_bytes(source: Path, run: RunFolder, tmp_path: Path) -> None:
    ingest.main(options(source, tmp_path / "run"))
    again = RunFolder.at(str(tmp_path / "run"))
    store.discard_commit(again, 3)
    (tmp_path / "run" / "activations.zarr" / object_name("activations", 5)).unlink()
    with pytest.raises(store.StoreError, match=r"shard 3 of .*jobs\.ingest --out"):
        store.open_store(again)
    ingest.main(options(source, tmp_path / "run"))
    np.testing.assert_array_equal(store.open_store(again)[:], store.open_store(run)[:])


def test_a_run_rid_of_leftovers_is_finished_and_sound(source: Path, run: RunFolder, tmp_path: Path) -> None:
    ingest.main(options(source, tmp_path / "run"))
    again = RunFolder.at(str(tmp_path / "run"))
    store.discard_commit(again, 3)
    clean.main(["--run", again.url, "--older-than-hours", "0", "--delete"])
    assert not (tmp_path / "run" / "activations.zarr" / object_name("activations", 3)).exists()
    ingest.main(options(source, tmp_path / "run"))
    verify.main([again.url])
    np.testing.assert_array_equal(store.open_store(again)[:], store.open_store(run)[:])


def test_a_half_run_of_the_first_format_is_finished_and_mended_in_it(source: Path, tmp_path: Path) -> None:
    run = RunFolder.at(str(tmp_path / "run"))
    config = IngestConfig(activations=str(source / "acts.npy"), image=str(source / "ids.npy"), group="D2").absolute()
    plan = plan_ingest(config, survey(config), format_version=store.MIXED)
    run.claim()
    write_manifest(run, config, plan)
    create_store(run, config, plan)
    store.write_shard(run, 1, compute_shard(plan, 1, seed=config.seed), attempt="first")
    ingest.main(options(source, tmp_path / "run"))
    (tmp_path / "run" / "activations.zarr" / object_name("activations", 2)).write_bytes(b"damaged")
    verify.main([run.url, "--repair", "--sample", "99"])
    assert store.open_store(run).attrs["format_version"] == store.MIXED


def test_verify_reads_the_source_again_and_mends_from_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acts_NGC = np.load(source / "acts.npy")
    np.save(tmp_path / "acts.npy", acts_NGC)
    (tmp_path / "ids.npy").write_bytes((source / "ids.npy").read_bytes())
    monkeypatch.chdir(tmp_path)  # places are kept so that they are found from anywhere
    ingest.main(["--activations", "acts.npy", "--image", "ids.npy", "--group", "D2", "--out", "run"])
    monkeypatch.chdir("/")
    run = str(tmp_path / "run")
    (tmp_path / "run" / "activations.zarr" / object_name("activations", 2)).write_bytes(b"damaged")
    with pytest.raises(SystemExit):
        verify.main([run])
    verify.main([run, "--repair", "--sample", "99"])
    np.save(tmp_path / "acts.npy", acts_NGC + np.float32(0.5))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        verify.main([run, "--sample", "99"])
    assert "samples differ from their source" in capsys.readouterr().out


def test_a_bad_number_ends_the_run_with_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    acts_NGC = np.load(source / "acts.npy")
    acts_NGC[1_234, 3, 5] = np.nan
    np.save(tmp_path / "acts.npy", acts_NGC)
    with pytest.raises(SystemExit) as end:
        ingest.main(["--activations", str(tmp_path / "acts.npy"), "--group", "D2", "--out", str(tmp_path / "run")])
    assert end.value.code == 1
    assert "row 1234, element 3, channel 5: nan found, expected finite numbers" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest.main([*options(source, tmp_path / "run"), "--dry-run"])
    assert "1,500 of 4 x 6 numbers" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
