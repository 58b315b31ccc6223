"""Certificates that tests sign with: for web servers, and for content credentials."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["write_key", "write_signing_pair", "write_web_pair"]

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
DAY = datetime.timedelta(days=1)
OF_AN_AUTHORITY = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
OF_A_SIGNER = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


def write_web_pair(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    signed = _certificate("localhost", "localhost", key).add_extension(names, critical=False).sign(key, hashes.SHA256())
    return _write_chain(folder / f"{name}.pem", signed), write_key(folder / f"{name}.key", key, password)


def write_signing_pair(
    folder: Path,
    name: str,
    key: Key | None = None,
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    days: int = 1,
    password: bytes | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> tuple[Path, Path]:
    """A certificate as C2PA asks for (2.2, section 14.5.1), with that of its authority, and its key."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    root = (
        _certificate("An authority", "An authority", authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(OF_AN_AUTHORITY, critical=True)
        .sign(authority, hashes.SHA256())
    )
    leaf = (
        _certificate(name, "An authority", key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(OF_A_SIGNER, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    return _write_chain(folder / f"{name}.pem", leaf, root), write_key(folder / f"{name}.key", key, password, form)


def write_key(
    file: Path,
    key: Key,
    password: bytes | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> Path:
    """A private key in PEM that its owner alone can read."""
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    file.touch(0o600)
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, hidden))
    return file


def _certificate(name: str, issuer: str, key: Key, days: int = 1) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        _name(issuer), _name(name), key.public_key(), x509.random_serial_number(), now - 9 * DAY, now + days * DAY
    )


def _name(common_name: str) -> x509.Name:
    words = (
        (NameOID.COMMON_NAME, common_name),
        (NameOID.ORGANIZATION_NAME, "A studio"),
    )  # the library wants the latter
    return x509.Name([x509.NameAttribute(place, value) for place, value in words])


def _write_chain(file: Path, *chain: x509.Certificate) -> Path:
    file.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    return file
