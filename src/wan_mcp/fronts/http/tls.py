"""The certificate of the HTTP server: a pair of files that is checked before the server listens."""

import ssl
from pathlib import Path

from wan_mcp.errors import UserError
from wan_mcp.permissions import require_private

__all__ = ["require_pair"]


def require_pair(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Return the files of the certificate and its key; None if neither is set.

    Raises:
        UserError: they cannot be used; the message says which, and what to do.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        given, missing = ("WAN_MCP_TLS_KEY", "WAN_MCP_TLS_CERT") if certificate is None else (
            "WAN_MCP_TLS_CERT", "WAN_MCP_TLS_KEY"
        )  # fmt: skip
        raise UserError(f"{given} needs {missing}: HTTPS takes a certificate and its key; set both, or neither")
    for file, what in ((certificate, "certificate"), (key, "key")):
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            raise UserError(
                f"the {what} {file} cannot be read: {error.strerror}; check its path and its owner"
            ) from error
    require_private(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_none_asked)
    except _Encrypted as error:
        raise UserError(
            f"the key {key} has a password, which nobody can type while a server starts; remove it with "
            "'openssl pkey -in KEY -out NEW_KEY'"
        ) from error
    except ssl.SSLError as error:
        raise UserError(_why(certificate, key, error)) from error
    return certificate, key


class _Encrypted(Exception):
    pass


def _none_asked() -> str:
    raise _Encrypted


def _why(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} is not that of the certificate {certificate}; set the two that were made together"
    reason = error.reason or "they are not PEM"
    return (
        f"the certificate {certificate} and the key {key} cannot be used ({reason}); both must be PEM files, the "
        "certificate with its chain"
    )
