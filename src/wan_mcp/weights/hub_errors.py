"""Errors of the hub, explained with what to do; and retries of those that may pass."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from wan_mcp.errors import WanError, WeightsUnavailable
from wan_mcp.files import is_disk_full
from wan_mcp.text import duration

__all__ = ["Patience", "Stopped", "empty_answer", "explain", "hub_errors", "passing_errors", "patiently", "pause"]

T = TypeVar("T")

RETRIED = {408, 429, 500, 502, 503, 504}
BAD_TOKEN = ("invalid credentials in authorization header", "is expired")
"""What the hub's 401 says of a token that it does not know, and of `User Access Token "NAME" is expired`."""
NOBODY = "invalid username or password"
"""What it says to those without a token of a repository that is missing or private."""


class Stopped(WanError):
    """The download was stopped; the downloaded bytes are kept."""


@dataclass(frozen=True)
class Patience:
    """The retry policy for a failing hub."""

    tries: int = 5
    """Consecutive failures, without a byte between them, after which it gives up."""
    wait_s: float = 1.0
    """Wait after the first failure; it doubles with each."""
    longest_wait_s: float = 300.0
    """The longest wait that the hub itself may ask for."""


def passing_errors() -> tuple[type[Exception], ...]:
    """Return the client's errors that may pass with another try."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    return (httpx2.TransportError, HfHubHTTPError)


def hub_errors() -> tuple[type[Exception], ...]:
    """Return all errors that the hub, the network and the disk can raise."""
    from huggingface_hub.errors import HFValidationError

    return (*passing_errors(), OSError, HFValidationError)


def empty_answer(file: str) -> Exception:
    """Return the error of a successful answer without content."""
    import httpx2

    return httpx2.RemoteProtocolError(f"the hub sent no bytes of {file}")


def patiently(action: Callable[[], T], patience: Patience, stop: threading.Event, note: Callable[[str], None]) -> T:
    """Return the result of `action`, retried while its failures may pass.

    Raises:
        Stopped: `stop` was set.
        The last failure, when there were too many or when a retry is pointless.
    """
    failures = 0
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return action()
        except passing_errors() as error:
            failures += 1
            if not pause(error, failures, patience, stop, note):
                raise


def pause(
    error: Exception, failures: int, patience: Patience, stop: threading.Event, note: Callable[[str], None]
) -> bool:
    """Wait before a retry; return False if a retry is pointless."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    wait = min(patience.wait_s * 2 ** (failures - 1), 8 * patience.wait_s)
    if isinstance(error, HfHubHTTPError):
        refused = _store_refuses(error)
        if error.response.status_code not in RETRIED and not refused:
            return False
        asked = _retry_after(error)
        if asked is not None and asked > patience.longest_wait_s:
            return False
        wait = asked if asked is not None else wait
        reason = "rate-limited by the hub" if error.response.status_code == 429 else "the hub reports an error"
        if refused:  # its address is signed for about an hour, and the next try asks for another one
            reason = "the hub's store refuses the file"
    elif isinstance(error, httpx2.TransportError):
        reason = "the connection was lost"
    else:
        return False
    if failures >= patience.tries:
        return False
    note(f"{reason}; retrying in {duration(wait, precise=False)}")
    stop.wait(wait)
    note("")
    return True


def _retry_after(error: Exception) -> float | None:
    """Return the hub's retry delay in seconds, if it sent one."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    if not isinstance(error, HfHubHTTPError):
        return None
    headers = error.response.headers
    given = headers.get("retry-after", "")
    if given.isdigit():
        return float(given)
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def explain(error: Exception, model: str, repository: str, revision: str) -> WeightsUnavailable:
    """Explain why a model's weights could not be downloaded, and what to do. `error` is one of `hub_errors`."""
    import httpx2
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    again = f"'wan-mcp pull {model}' resumes the download."
    what = f"The weights of '{model}' ({repository})"
    match error:
        case OfflineModeIsEnabled():
            code, words = "hub_offline", f"{what} are not downloaded, and HF_HUB_OFFLINE is set. Unset it."
        case GatedRepoError():
            code, words = (
                "hub_gated",
                f"{what} are gated: open the repository's page on the hub, accept its conditions, "
                f"then log in with 'hf auth login' or set HF_TOKEN to a token of that account. {again}",
            )
        case DisabledRepoError():
            code, words = "hub_disabled", f"The hub has disabled {repository}. Use another model."
        case RevisionNotFoundError():
            code, words = (
                "hub_missing",
                f"{repository} has no revision '{revision}'; it may be deleted. 'wan-mcp pull {model} --update' "
                "downloads the newest one if the manifest pins none; otherwise correct 'revision' in the manifest.",
            )
        case HfHubHTTPError() if _is_bad_token(error):
            code, words = (
                "hub_token",
                "The hub does not accept the token of this machine (HF_TOKEN, or 'hf auth login'). "
                "It has expired or is mistyped. Set a valid one, or none for public models.",
            )
        case HfHubHTTPError() if isinstance(error, RepositoryNotFoundError) or _says(error, NOBODY):
            code, words = (
                "hub_missing",
                f"The hub has no repository {repository}, or it is private. If it is yours, set HF_TOKEN; "
                f"otherwise correct 'repository' in the manifest of '{model}'.",
            )
        case HfHubHTTPError():
            code, words = _by_status(error, what, again)
        case HFValidationError():
            code, words = (
                "bad_manifest",
                f"'{repository}' is not a valid repository name. Correct the manifest. {error}",
            )
        case httpx2.TransportError():
            code, words = (
                "hub_unreachable",
                f"{what} are not fully downloaded, and the hub cannot be reached ({type(error).__name__}). "
                f"Check the network, the proxy and HF_ENDPOINT. {again}",
            )
        case OSError() if is_disk_full(error):
            code, words = (
                "out_of_space",
                f"The disk filled up while downloading the weights of '{model}' ({repository}). "
                f"Free some space. {again}",
            )
        case _:
            code, words = "cache_unusable", f"The hub's cache cannot be used: {error}. Fix this, or set HF_HOME."
    return WeightsUnavailable(code, words)


def _is_bad_token(error: Exception) -> bool:
    return any(_says(error, words) for words in BAD_TOKEN)


def _says(error: Exception, words: str) -> bool:
    """Check whether the hub's 401 has these words."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response.status_code != 401:
        return False
    return words in error.response.headers.get("x-error-message", "").lower()


def _store_refuses(error: Exception) -> bool:
    """Check whether not the hub but the store that it redirects to refuses a file: no token decides there."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code == 403 and bool(error.response.history)


def _by_status(error: Exception, what: str, again: str) -> tuple[str, str]:
    from huggingface_hub.errors import HfHubHTTPError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status == 429:
        asked = _retry_after(error)
        when = f"in about {duration(asked, precise=False)}" if asked is not None else "in a few minutes"
        return (
            "hub_rate_limited",
            f"The hub rate-limits this machine. Try again {when}; a token raises the limit. {again}",
        )
    if _store_refuses(error):
        return (
            "hub_broken",
            f"The hub's store refuses a file of {what[4:]} to this machine. Check whether a proxy or a firewall blocks "
            f"it, and try again later. {again}",
        )
    if status in (401, 403):
        return "hub_token", f"This machine's token may not read {what[4:]}. Give it read access."
    if status == 404:
        return "hub_missing", f"A file of {what[4:]} no longer exists on the hub. Try again, or correct the manifest."
    return "hub_broken", f"The hub answered with status {status}. Try again later. {again}"
