"""Buckets are found by the usual AWS settings, and what goes wrong is told in one line without a secret."""

import os
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector

from gc_core.io import objects, s3
from gc_core.io.location import Location
from infra.object_store import ObjectServer

SECRET = "a-secret-that-nobody-should-see-0123456789"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def current() -> s3.Settings:
    return s3.settings(tuple(os.environ.items()))


def test_amazon_is_the_default_and_takes_hosts_in_the_region_named(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (current().endpoint, current().region, current().virtual_hosted) == (None, "us-east-1", True)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert current().region == "eu-central-1"
    assert SECRET not in repr(current())


@pytest.mark.parametrize(("style", "hosted"), [("true", True), ("false", False)])
def test_the_bucket_stands_in_the_path_or_in_the_host_as_asked(
    keys: None, monkeypatch: pytest.MonkeyPatch, style: str, hosted: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://objects.example.org")
    assert current().virtual_hosted is False
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", style)
    assert current().virtual_hosted is hosted
    config = s3.open_bucket("bucket").config
    assert config["endpoint"] == f"https://{'bucket.' if hosted else ''}objects.example.org"


def test_a_profile_gives_keys_region_endpoint_and_style(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    lines = ["[profile lab]", "region = eu-north-1", "endpoint_url = https://lab.example.org"]
    config.write_text("\n".join([*lines, "s3 =", "  addressing_style = virtual"]))
    credentials.write_text(f"[lab]\naws_access_key_id = lab-id\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    found = current()
    assert (found.region, found.endpoint, found.virtual_hosted) == ("eu-north-1", "https://lab.example.org", True)
    assert found.credentials.access_key == "lab-id"
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(PermissionError, match=r"profile \(gone\) could not be found; correct AWS_PROFILE"):
        objects.read(Location.parse("s3://bucket"), "a")


def test_without_credentials_the_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError, match=r"no AWS credentials found; set AWS_ACCESS_KEY_ID .* AWS_SKIP_SIGNATURE"):
        objects.read(Location.parse("s3://bucket"), "a")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert current().anonymous


def test_plain_http_stays_on_this_machine(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://objects.example.org")
    with pytest.raises(ValueError, match=r"sends data in the clear; use https, or set AWS_ALLOW_HTTP=true"):
        current()
    for host in ("127.0.0.1:9000", "localhost", "[::1]:80"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        assert current().allow_http


def test_no_answer_is_one_line_within_seconds(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3, "MAX_RETRIES", 2)
    s3.forget_clients()
    with pytest.raises(OSError, match=r"^s3://bucket/a: no answer from http://127\.0\.0\.1:9, asked several times"):
        objects.read(Location.parse("s3://bucket"), "a")
    s3.forget_clients()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            f"status code: 400 Bad Request: <Error><Code>ExpiredToken</Code><Token>{SECRET}</Token></Error>",
            "refused with ExpiredToken: the credentials have expired; renew them",
        ),
        ("status code: 403 Forbidden: ", "refused with 403 Forbidden: keys may be wrong or expired"),
        ("status code: 503 Service Unavailable: <Error><Code>SlowDown</Code>", "503 Service Unavailable SlowDown"),
        (f"status code: 418 Teapot: {SECRET}", "answered 418 Teapot"),
    ],
)
def test_an_answer_is_told_by_its_code_and_never_by_its_body(keys: None, body: str, line: str) -> None:
    told = s3.explain(f"Generic S3 error: ... - Server returned non-2xx {body}")
    assert line in told
    assert SECRET not in told


@pytest.mark.s3
@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("AWS_SECRET_ACCESS_KEY", SECRET, "refused with SignatureDoesNotMatch: the secret key is wrong"),
        ("AWS_ACCESS_KEY_ID", "nobody", "refused with InvalidAccessKeyId: the access key is unknown there"),
    ],
)
def test_wrong_credentials_are_one_line_without_them(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)
    for ask in (
        lambda: objects.read(Location.parse(s3_url), "a"),
        lambda: objects.write(Location.parse(s3_url), "a", b""),
        lambda: objects.sizes(Location.parse(s3_url)),
    ):
        with pytest.raises(PermissionError, match=line) as told:
            ask()
        assert value not in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3_url: str) -> None:
    for ask in (
        lambda: objects.read(Location.parse("s3://misspelt/run"), "a"),
        lambda: objects.sizes(Location.parse("s3://misspelt/run")),
    ):
        with pytest.raises(OSError, match=r"no bucket 'misspelt' at http://127.* make it, or correct the URL") as told:
            ask()
        assert not isinstance(told.value, FileNotFoundError)


@pytest.mark.s3
@pytest.mark.parametrize("name", ["plain", "with space", "Größe/猫", "50%25", "hash#1/c", "query?/d", "a+b=c&d"])
def test_objects_of_any_name_are_written_once_read_listed_and_deleted(s3_url: str, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        objects.read(Location.parse(s3_url), name)
    assert objects.write_once(Location.parse(s3_url), name, b"first") is True
    assert objects.write_once(Location.parse(s3_url), name, b"second") is False
    assert objects.read(*(Location.parse(s3_url) / name).split()) == b"first"
    assert objects.sizes(Location.parse(s3_url)) == {name: 5}
    tag = objects.stat(Location.parse(s3_url), name)[1]
    objects.write(Location.parse(s3_url), name, b"third")
    assert objects.stat(Location.parse(s3_url), name)[1] != tag
    objects.delete(Location.parse(s3_url), name)
    objects.delete(Location.parse(s3_url), name)
    assert objects.sizes(Location.parse(s3_url)) == {}


@pytest.mark.s3
def test_arrow_finds_the_same_bucket(s3_url: str, object_server: ObjectServer) -> None:
    objects.write(Location.parse(s3_url), "folder/a", b"12")
    (found,) = s3.file_system().get_file_info(FileSelector(Location.parse(s3_url).without_scheme + "/folder"))
    assert (found.base_name, found.size) == ("a", 2)
