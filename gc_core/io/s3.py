"""Buckets by the usual AWS settings: variables, profiles, instance roles, endpoints; and their errors in one line.

obstore reads and writes; botocore only finds settings and credentials, so that everything that works for the AWS
command line works here.
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from obstore.store import S3Store
from pyarrow.fs import S3FileSystem

from gc_core.io.location import Location

CONNECT_TIMEOUT_S = 5
SILENCE_TIMEOUT_S = 30
"""Longest wait for the next bytes of an answer."""
REQUEST_TIMEOUT_S = 600
"""Longest request: a shard of 250 MB at half a megabyte a second."""
MAX_RETRIES = 8
RETRY_TIMEOUT_S = 120
CREDENTIALS_LIVE_S = 300
"""How long obstore keeps credentials before it asks again; botocore renews those that expire."""

TRUE = ("1", "true", "yes", "on")
REFUSED = {
    "InvalidAccessKeyId": "the access key is unknown there; correct AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key is wrong; correct AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "ExpiredToken": "the credentials have expired; renew them",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AccessDenied": "these credentials may not do that; ask the bucket's owner",
}
UNEXPLAINED = ("400", "401", "403")
"""What a refusal looks like where its reason is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a bucket is reached by. Secrets are left out of its text."""

    region: str
    endpoint: str | None
    """None for Amazon's own."""
    virtual_hosted: bool
    """Whether the bucket stands in the host's name (True) or in the path."""
    anonymous: bool
    credentials: Any = field(repr=False)
    """botocore's; None if anonymous."""

    @property
    def allow_http(self) -> bool:
        """Plain HTTP stays on this machine, unless AWS_ALLOW_HTTP says otherwise."""
        return _flag("AWS_ALLOW_HTTP") or (self.endpoint is not None and _is_loopback(self.endpoint))


def open_bucket(bucket: str) -> S3Store:
    """The client of a bucket; keys are relative to the bucket.

    Raises:
        PermissionError: there are no credentials. ValueError: the endpoint is plain HTTP and not on this machine.
    """
    return _open(bucket, None, _environment())


def open_prefix(bucket: str, prefix: str) -> S3Store:
    """Open a bucket with keys relative to a prefix, which is empty for the whole bucket; errors as in `open_bucket`."""
    return _open(bucket, prefix or None, _environment())


def forget_clients() -> None:
    """Make a new client for every bucket at its next use, as timeouts and tries are by then."""
    _open.cache_clear()


def file_system() -> S3FileSystem:
    """Arrow file system with the same settings, for Ray Train. Arrow itself finds credentials that expire."""
    s3_settings = settings(_environment())
    endpoint = urlsplit(s3_settings.endpoint or "")
    lasting = s3_settings.credentials is not None and not isinstance(s3_settings.credentials, RefreshableCredentials)
    keys = _keys(s3_settings.credentials) if lasting else {}
    return S3FileSystem(
        access_key=keys.get("access_key_id"),
        secret_key=keys.get("secret_access_key"),
        session_token=keys.get("token"),
        anonymous=s3_settings.anonymous,
        region=s3_settings.region,
        scheme=endpoint.scheme or "https",
        endpoint_override=endpoint.netloc or None,
        force_virtual_addressing=s3_settings.virtual_hosted and s3_settings.endpoint is not None,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=SILENCE_TIMEOUT_S,
    )


@lru_cache(maxsize=8)
def settings(environment: tuple[tuple[str, str], ...]) -> Settings:
    """What the environment, and the files it names, say."""
    given = dict(environment)
    try:
        session = botocore.session.Session()
        profile, whole = session.get_scoped_config(), session.full_config
        endpoint = ConfiguredEndpointProvider(full_config=whole, scoped_config=profile, client_name="s3").provide()
        anonymous = _flag("AWS_SKIP_SIGNATURE")
        credentials = None if anonymous else session.get_credentials()
        region = given.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    except BotoCoreError as error:
        raise PermissionError(f"AWS settings: {error}; correct AWS_PROFILE or ~/.aws") from None
    if not anonymous and credentials is None:
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise PermissionError(f"no AWS credentials found; {remedy}, or AWS_SKIP_SIGNATURE=true for a public bucket")
    _refuse_no_endpoint(endpoint)
    of_s3 = profile.get("s3")
    style = of_s3.get("addressing_style", "auto") if isinstance(of_s3, Mapping) else "auto"
    hosted = endpoint is None if style == "auto" else style == "virtual"
    if "AWS_VIRTUAL_HOSTED_STYLE_REQUEST" in given:
        hosted = _flag("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
    s3_settings = Settings(
        region=region, endpoint=endpoint, virtual_hosted=hosted, anonymous=anonymous, credentials=credentials
    )
    if endpoint is not None and endpoint.lower().startswith("http:") and not s3_settings.allow_http:
        raise ValueError(f"AWS_ENDPOINT_URL: {endpoint} sends data in the clear; use https, or set AWS_ALLOW_HTTP=true")
    return s3_settings


def list_keys(location: Location) -> Iterator[tuple[str, int]]:
    """Key below the prefix, whatever it looks like, and size of every object; by botocore, a thousand a request.

    Raises:
        OSError: the store refuses, or does not answer.
    """
    below = f"{location.path}/" if location.path else ""
    with _botocore_client(location) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=below):
            yield from ((each["Key"].removeprefix(below), each["Size"]) for each in page.get("Contents", ()))


def uploads(location: Location) -> dict[tuple[str, str], tuple[int, float]]:
    """Uploads in pieces that were begun below the location and neither completed nor given up: bytes that arrived, and
    seconds since it was begun, by key below the prefix and the upload's own name.

    Raises:
        OSError: the store refuses, does not answer, or does not list uploads.
    """
    below, now_s = f"{location.path}/" if location.path else "", datetime.now(UTC)
    found: dict[tuple[str, str], tuple[int, float]] = {}
    with _botocore_client(location) as client:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=location.bucket, Prefix=below):
            for each in page.get("Uploads", ()):
                named = {"Bucket": location.bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
                pages = client.get_paginator("list_parts").paginate(**named)
                arrived = sum(part["Size"] for some in pages for part in some.get("Parts", ()))
                age_s = (now_s - each["Initiated"]).total_seconds()
                found[each["Key"].removeprefix(below), each["UploadId"]] = (arrived, age_s)
    return found


def abort_upload(location: Location, name: str, upload: str) -> None:
    """Give up an upload in pieces, and free what arrived of it; one that is gone is none to give up."""
    key = "/".join(filter(None, [location.path, name]))
    with _botocore_client(location) as client:
        try:
            client.abort_multipart_upload(Bucket=location.bucket, Key=key, UploadId=upload)
        except client.exceptions.NoSuchUpload:
            return


@contextmanager
def _botocore_client(location: Location) -> Iterator[Any]:
    """botocore's client, its errors as OSError in one line that names the location."""
    s3_settings = settings(_environment())
    client = botocore.session.Session().create_client(
        "s3",
        region_name=s3_settings.region,
        endpoint_url=s3_settings.endpoint,
        config=Config(
            signature_version=UNSIGNED if s3_settings.anonymous else None,
            s3={"addressing_style": "virtual" if s3_settings.virtual_hosted else "path"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=SILENCE_TIMEOUT_S,
        ),
    )
    with closing(client):
        try:
            yield client
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"{location}: {' '.join(str(error).split())}") from None


def _refuse_no_endpoint(endpoint: str | None) -> None:
    """ValueError unless it is None, or http(s) and a host."""
    try:
        parts = urlsplit(endpoint or "https://amazon")
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an address in them, or a port that is no number
        fits = False
    if not fits:
        raise ValueError(f"AWS_ENDPOINT_URL: found {endpoint!r:.200}, expected one such as https://host:9000")


def is_odd_key(text: str) -> bool:
    """Whether obstore refused a listing for a key that it cannot name."""
    return "invalid path" in text


def explain(text: str) -> str:
    """One line for a store's error text. The answer's body is left out: it repeats keys and signatures."""
    code = (re.findall(r"<Code>(\w+)</Code>", text) or [None])[0]
    if code in REFUSED:
        return f"refused with {code}: {REFUSED[code]}"
    if is_silence(text):
        return f"no answer from {endpoint_name()}, asked several times; is it running, is the address right?"
    status = (re.findall(r"status code: (\d{3}[\w ]*)", text) or [None])[0]
    if status and status.startswith(UNEXPLAINED) and not code:  # the answer to a HEAD request has no body
        return (
            f"refused with {status}: keys may be wrong or expired, the clock wrong, or access not granted; check them"
        )
    if code or status:
        return f"{endpoint_name()} answered {' '.join(filter(None, [status, code]))}"
    return text.splitlines()[0]


def is_silence(text: str) -> bool:
    """Whether a store's error says that no answer came, or only a part of one."""
    return any(said in text for said in ("error sending request", "operation timed out", "error decoding response"))


def is_missing_bucket(text: str) -> bool:
    """Whether a store's error says that the bucket, not the object, is missing."""
    return "NoSuchBucket" in text


def endpoint_name() -> str:
    """Where buckets are, for messages."""
    return settings(_environment()).endpoint or "Amazon S3"


@lru_cache(maxsize=64)
def _open(bucket: str, below: str | None, environment: tuple[tuple[str, str], ...]) -> S3Store:
    """Kept, because a client holds open connections and takes some milliseconds to make. Threads may share one; no
    process inherits one, since Ray and our pools spawn theirs."""
    s3_settings = settings(environment)
    options: dict[str, Any] = {}
    if s3_settings.endpoint is not None:
        options["endpoint"] = (
            _hosted(s3_settings.endpoint, bucket) if s3_settings.virtual_hosted else s3_settings.endpoint
        )
    if s3_settings.anonymous:
        options["skip_signature"] = True
    else:
        options["credential_provider"] = _Credentials(s3_settings.credentials)
    return S3Store(
        bucket,
        prefix=below,
        region=s3_settings.region,
        virtual_hosted_style_request=s3_settings.virtual_hosted,
        client_options={
            "allow_http": s3_settings.allow_http,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=SILENCE_TIMEOUT_S),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        },
        retry_config={
            "max_retries": MAX_RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=4),
                "base": 2,
            },
        },
        **options,
    )


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Asks botocore, which renews what expires."""

    source: Any = field(repr=False)

    def __call__(self) -> Any:
        return {**_keys(self.source), "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_LIVE_S)}


def _keys(credentials: Any) -> dict[str, Any]:
    frozen = credentials.get_frozen_credentials()
    return {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "token": frozen.token}


def _environment() -> tuple[tuple[str, str], ...]:
    """All that can change the settings."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_") or k == "HOME"))


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() in TRUE


def _hosted(endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
