"""Content credentials (C2PA): a manifest in a file, signed with the owner's certificate, by the official library.

They are off unless the owner names a certificate and its key. The library, c2pa-python, is an extra, and is imported
where it signs or reads. Everything happens on this machine: no time-stamp authority is asked, and nothing is fetched.
Engines sign the results that they write; what converts a result signs the conversion, and names the result in it.
"""

import datetime
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp import __version__
from wan_mcp.errors import UserError
from wan_mcp.media.generated_mark import DIGITAL_SOURCE_TYPE
from wan_mcp.permissions import require_private
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["UNSIGNABLE", "ContentCredentials"]

UNSIGNABLE = frozenset({"video/webm"})
"""Media types of results that C2PA has no place in."""
OFFLINE = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}
"""Settings of the library: https://opensource.contentauthenticity.org/docs/rust-sdk/docs/settings/. What was signed is
checked once per certificate, with `require_usable`."""
UNTRUSTED = "signingCredential.untrusted"
"""The library's word for a certificate on none of its lists of trust, of which it has none here."""
PARENT = "parent"
"""What a manifest calls the result that its file was made from."""
EXTRA = "pip install 'wan-mcp[c2pa]'"
NOT_ALLOWED = (
    "is of a kind that C2PA does not allow; it takes EC keys (P-256, P-384, P-521), RSA keys of 2048 bits or more, and "
    "Ed25519 keys"
)


@dataclass(frozen=True)
class _Pair:
    """A certificate with its chain, and its key."""

    certificate: bytes
    """The chain in PEM."""
    key: bytes = field(repr=False)
    """In PEM (PKCS #8), without a password. Files may have an older form, which the library does not read."""
    algorithm: str
    fingerprint: str
    """The SHA-256 of the certificate itself, in hexadecimal."""


@dataclass(frozen=True)
class ContentCredentials:
    """What signs files in the owner's name. The files are read again for each signature, so renewed ones are used."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, settings: Settings) -> "ContentCredentials | None":
        """Return those of the settings; None if they name none.

        Raises:
            UserError: they name a certificate without a key, or a key without a certificate.
        """
        if settings.c2pa_cert is None and settings.c2pa_key is None:
            return None
        if settings.c2pa_cert is None or settings.c2pa_key is None:
            raise UserError(
                "content credentials need WAN_MCP_C2PA_CERT and WAN_MCP_C2PA_KEY: a certificate and its key; set both, "
                "or neither"
            )
        return cls(settings.c2pa_cert, settings.c2pa_key)

    @classmethod
    def require_usable_ones(cls, settings: Settings) -> None:
        """Check those of the settings, if there are any, before a server begins.

        Raises:
            UserError: they cannot be used; the message says why, and what to do.
        """
        if (credentials := cls.of(settings)) is not None:
            credentials.require_usable()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the certificate, in hexadecimal.

        Raises:
            UserError: the certificate or the key cannot be used; the message says why.
        """
        return self._read().fingerprint

    def require_usable(self) -> str:
        """Check that files can be signed with the certificate, and return its `fingerprint`.

        Raises:
            UserError: they cannot; the message says why, and what to do.
        """
        pair = self._read()
        _require_valid(pair)
        return pair.fingerprint

    def signed(self, file: Path, media_type: str, model: str = "", parent: tuple[Path, str] | None = None) -> bytes:
        """Return the bytes of a generated file with content credentials.

        Args:
            file: The file, which stays as it is.
            media_type: Its media type.
            model: The name of the model that made it, if it is known.
            parent: The result that it is a conversion of, and its media type.

        Raises:
            UserError: it cannot be signed; the message says why.
            OSError: it cannot be read.
        """
        pair = self._read()
        try:
            with file.open("rb") as content:
                if parent is not None and _is_signed(*parent):
                    return _sign(pair, content, media_type, _converted(), parent)
                return _sign(pair, content, media_type, _created(model))
        except _library().C2paError as error:
            raise UserError(f"the file cannot be signed: {first_line(error)}") from error

    def _read(self) -> _Pair:
        """Read the certificate and the key.

        Raises:
            UserError: they cannot be used; the message says why.
        """
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            PublicFormat,
            load_pem_private_key,
        )

        contents = {}
        for file, what in ((self.certificate, "certificate"), (self.key, "key")):
            try:
                contents[what] = file.read_bytes()
            except OSError as error:
                raise UserError(
                    f"the {what} {file} cannot be read: {error.strerror}; check its path and its owner"
                ) from error
        require_private(self.key)
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        try:
            chain = x509.load_pem_x509_certificates(contents["certificate"])
            certified = chain[0].public_key().public_bytes(*form)
        except ValueError as error:
            raise UserError(f"{self.certificate} is not a certificate in PEM, with its chain") from error
        except UnsupportedAlgorithm as error:
            raise UserError(f"the key in the certificate {self.certificate} {NOT_ALLOWED}") from error
        try:
            key = load_pem_private_key(contents["key"], None)
        except TypeError as error:
            raise UserError(
                f"the key {self.key} has a password, which nobody can type while a server starts; remove it with "
                "'openssl pkey -in KEY -out NEW_KEY'"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.key} is not a private key in PEM") from error
        except UnsupportedAlgorithm as error:
            raise UserError(f"the key {self.key} {NOT_ALLOWED}") from error
        if certified != key.public_key().public_bytes(*form):
            raise UserError(
                f"the key {self.key} is not that of the certificate {self.certificate}; set the two that were made "
                "together, the certificate before its chain"
            )
        certificate, now = chain[0], datetime.datetime.now(datetime.UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            begins, ends = certificate.not_valid_before_utc.date(), certificate.not_valid_after_utc.date()
            raise UserError(f"the certificate {self.certificate} is valid from {begins} to {ends} only; renew it")
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        return _Pair(
            b"".join(each.public_bytes(Encoding.PEM) for each in chain),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            self._algorithm(key),
            fingerprint,
        )

    def _algorithm(self, key: "PrivateKeyTypes") -> str:
        """Return the algorithm of signatures with a key (C2PA 2.2, section 13.2.1).

        Raises:
            UserError: C2PA has none for it.
        """
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        match key:
            case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
                return "es256"
            case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
                return "es384"
            case ec.EllipticCurvePrivateKey(curve=ec.SECP521R1()):
                return "es512"
            case rsa.RSAPrivateKey() if key.key_size >= 2048:
                return "ps256"
            case ed25519.Ed25519PrivateKey():
                return "ed25519"
        raise UserError(f"the key {self.key} {NOT_ALLOWED}")


def _library() -> Any:
    """Import the official library.

    Raises:
        UserError: it is not installed, or does not run on this system.
    """
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"content credentials need the library c2pa-python ({first_line(error)}): {EXTRA}") from error
    return c2pa


@cache
def _require_valid(pair: _Pair) -> None:
    """Sign a picture of one pixel, and have the library read it.

    Raises:
        UserError: the library does not sign with the certificate, or does not accept what it has signed.
    """
    from PIL import Image

    c2pa = _library()
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    pixel.seek(0)
    try:
        signed = _sign(pair, pixel, "image/png", _created(""))
        with c2pa.Reader("image/png", io.BytesIO(signed), context=c2pa.Context.from_dict(OFFLINE)) as reader:
            results = reader.get_validation_results() or {}
    except c2pa.C2paError as error:
        raise UserError(
            f"the certificate of the content credentials cannot sign: {first_line(error)}; C2PA takes one for signing "
            "documents or mail, not one of a web server, nor one that signs itself"
        ) from error
    failures = [each["code"] for each in results.get("activeManifest", {}).get("failure", ())]
    if wrong := [code for code in failures if code != UNTRUSTED]:
        raise UserError(f"the certificate of the content credentials is not accepted by readers: {', '.join(wrong)}")


def _sign(
    pair: _Pair,
    content: Any,
    media_type: str,
    actions: list[dict[str, Any]],
    parent: tuple[Path, str] | None = None,
) -> bytes:
    """Return signed bytes of an open file. With a `parent`, its first action is about that."""
    c2pa = _library()
    manifest = {
        "claim_generator_info": [{"name": "wan-mcp", "version": __version__}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}, "created": True}],
    }
    info = c2pa.C2paSignerInfo(pair.algorithm.encode(), pair.certificate, pair.key, None)
    result = io.BytesIO()
    context = c2pa.Context.from_dict(OFFLINE)
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest, context=context) as builder:
        if parent is not None:
            file, parent_type = parent
            facts = {"relationship": "parentOf", "label": PARENT}  # without its name, which has the job's id
            with file.open("rb") as opened:
                builder.add_ingredient(facts, parent_type, opened)
        builder.sign(signer, media_type, content, result)
    return result.getvalue()


def _created(model: str) -> list[dict[str, Any]]:
    action: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE}
    return [action | ({"softwareAgent": {"name": model}} if model else {})]


def _converted() -> list[dict[str, Any]]:
    of_parent: Mapping[str, Any] = {"parameters": {"ingredientIds": [PARENT]}}
    return [{"action": "c2pa.opened", **of_parent}, {"action": "c2pa.transcoded", **of_parent}]


def _is_signed(file: Path, media_type: str) -> bool:
    c2pa = _library()
    with file.open("rb") as content:
        reader = c2pa.Reader.try_create(media_type, content, context=c2pa.Context.from_dict(OFFLINE))
        if reader is None:
            return False
        reader.close()
    return True
