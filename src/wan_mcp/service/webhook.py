"""Signed POSTs to the owner's URL, as the Standard Webhooks specification has them (standardwebhooks.com, version 1).

Three headers: `webhook-id` (the job's id: a repeated notice has the same), `webhook-timestamp` (Unix seconds of this
attempt) and `webhook-signature` (`v1,` and the base64 of an HMAC-SHA-256 over `ID.TIMESTAMP.BODY`). The key is the
base64 after `whsec_` in a file of the home.
"""

import base64
import hmac
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio

import wan_mcp
from wan_mcp.errors import HomeUnusable
from wan_mcp.files import atomic_file, writing_to
from wan_mcp.text import quoted

__all__ = ["GONE", "post", "secret_file", "signed_headers"]

PREFIX = "whsec_"
CONNECT_S, TOTAL_S = 5.0, 20.0
GONE = "status 410"
"""The answer of a receiver that wants no more of these."""


def secret_file(home: Path) -> Path:
    """Return the path of the file with the secret of the signatures."""
    return home / "webhook.secret"


def _key_of(home: Path) -> bytes:
    """Return the key of the signatures, which is made at first use.

    Raises:
        HomeUnusable: the file cannot be made or read.
    """
    file = secret_file(home)
    if not file.exists():
        made = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        with (
            writing_to(home),
            suppress(FileExistsError),
            atomic_file(file, durable=True, private=True, replace=False) as part,
        ):
            part.write_text(f"{made}\n", encoding="ascii")
    try:
        return base64.b64decode(file.read_text(encoding="ascii").strip().removeprefix(PREFIX), validate=True)
    except (OSError, ValueError) as error:
        raise HomeUnusable(
            f"the secret in {file} cannot be read ({error}); remove the file to get a new one"
        ) from error


def signed_headers(home: Path, job_id: str, body: bytes, now: float) -> Mapping[str, str]:
    """Return the headers that prove that a body comes from the owner of a home; `now` is in Unix time."""
    seconds = str(int(now))
    signature = hmac.digest(_key_of(home), f"{job_id}.{seconds}.".encode() + body, "sha256")
    return {
        "webhook-id": job_id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


async def post(url: str, job_id: str, body: bytes, home: Path) -> str | None:
    """Send a notice; return why it has not arrived, None if it has. Redirects are not followed, proxies not used.

    Certificates are checked as everywhere: SSL_CERT_FILE and SSL_CERT_DIR count.

    Raises:
        HomeUnusable: the secret of the signatures cannot be made or read.
    """
    import httpx2

    headers = {"Content-Type": "application/json", "User-Agent": f"wan-mcp/{wan_mcp.__version__}"}
    headers |= signed_headers(home, job_id, body, time.time())
    try:
        tls = httpx2.create_ssl_context()  # `trust_env` of the client is about proxies as well
        timeout = httpx2.Timeout(TOTAL_S, connect=CONNECT_S)
        with anyio.fail_after(TOTAL_S):
            async with (
                httpx2.AsyncClient(trust_env=False, verify=tls, timeout=timeout) as client,
                client.stream("POST", url, content=body, headers=headers) as response,  # its body is not read
            ):
                return None if response.is_success else f"status {response.status_code}"
    except TimeoutError:
        return f"no answer within {TOTAL_S:g} s"
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return quoted(f"{type(error).__name__}: {error}", 200)
