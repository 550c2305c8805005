"""Certificates by which the parts of one server know one another: made anew at each start, and of use nowhere else."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=365)
"""Longer than anybody lets such a server run."""
CLOCKS = datetime.timedelta(minutes=5)
"""Time by which a clock may be set back after the start."""


def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, for either end of a connection, and its key, readable by this user alone.

    Whoever asks the other end for it, and accepts no other, talks to those who can read the folder, and to nobody else.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, content in zip(paths, (_signed(key, name).public_bytes(Encoding.PEM), pem), strict=True):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
    return paths


def _signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.datetime.now(datetime.UTC)
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    unsigned = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    unsigned = unsigned.not_valid_before(now - CLOCKS).not_valid_after(now + VALID)
    unsigned = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return unsigned.add_extension(x509.ExtendedKeyUsage(both_ends), critical=False).sign(key, hashes.SHA256())
