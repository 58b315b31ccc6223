"""Access to the hub through its own client: the files of a repository, and a file's bytes from any offset.

Only this module and `problems` know the client library, which is imported when a first call needs
it. Bytes come over plain ranged HTTP and not over the hub's chunk protocol: the client's own
download restarts a file after every interruption, and offers no way to stop one.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wan_mcp.errors import WeightsUnavailable

if TYPE_CHECKING:
    import httpx2

__all__ = ["DEFAULT_REVISION", "Hub", "Listing", "RemoteFile"]

DEFAULT_REVISION = "main"
LISTING_TIMEOUT_S = 15.0
GREETING_TIMEOUT_S = 8.0
HASH = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit."""

    path: str
    size: int
    """In bytes."""
    git_blob: str
    sha256: str | None
    """Known for large files; small ones are named by git only."""

    @property
    def etag(self) -> str:
        """The hash by which the hub and the cache name its content."""
        return self.sha256 or self.git_blob


@dataclass(frozen=True)
class Listing:
    """The files of a repository at a commit."""

    repository: str
    """Its current name, which differs from the requested one if it was renamed."""
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Hub:
    """A hub and the cache of its files."""

    endpoint: str
    cache: Path
    token: str | bool | None = None
    """None for the token of the environment or of a login, False for none."""

    @classmethod
    def from_environment(cls) -> Self:
        """Return the hub set by HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_TOKEN."""
        from huggingface_hub import constants

        return cls(constants.ENDPOINT, Path(constants.HF_HUB_CACHE))

    def list_files(self, repository: str, revision: str) -> Listing:
        """List the files of `repository` at a branch, tag or commit.

        Raises:
            WeightsUnavailable: The server is not a hub.
            The client's errors; `hub_errors.explain` knows them.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self.token, library_name="wan-mcp")
        try:
            info = api.model_info(repository, revision=revision, files_metadata=True, timeout=LISTING_TIMEOUT_S)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise WeightsUnavailable(
                "hub_broken", f"The server that answers for {repository} is not a hub. Check HF_ENDPOINT and the proxy."
            ) from error
        files = tuple(
            RemoteFile(
                sibling.rfilename,
                sibling.lfs.size if sibling.lfs is not None else sibling.size,
                sibling.blob_id,
                sibling.lfs.sha256 if sibling.lfs is not None else None,
            )
            for sibling in info.siblings or ()
            if sibling.size is not None and sibling.blob_id is not None and _is_plain(sibling.rfilename)
        )
        names = [info.sha or "", *(file.etag for file in files), *(file.git_blob for file in files)]
        if not all(map(HASH.match, names)):  # they become names of files
            raise WeightsUnavailable(
                "hub_broken", f"The server's listing of {repository} has no hashes. Check HF_ENDPOINT."
            )
        return Listing(info.id, names[0], files)

    def greeting(self) -> str:
        """Return in a few words that the hub answers, and as whom it knows this machine.

        Raises:
            WeightsUnavailable: It cannot be reached, or does not accept the token; with what to do.
        """
        import httpx2
        from huggingface_hub import get_session
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        headers = build_hf_headers(token=self.token, library_name="wan-mcp")
        try:
            answer = get_session().get(f"{self.endpoint}/api/whoami-v2", headers=headers, timeout=GREETING_TIMEOUT_S)
        except OfflineModeIsEnabled:
            return "not asked, because HF_HUB_OFFLINE is set: nothing is downloaded"
        except (httpx2.HTTPError, OSError) as error:
            raise WeightsUnavailable(
                "hub_unreachable",
                f"{self.endpoint} cannot be reached ({type(error).__name__}), so no model can be downloaded; "
                "check the network, the proxy and HF_ENDPOINT",
            ) from error
        has_token = "authorization" in {name.lower() for name in headers}
        if answer.status_code in (401, 403) and has_token:
            raise WeightsUnavailable(
                "hub_token",
                f"{self.endpoint} does not accept the token of this machine (HF_TOKEN, or 'hf auth login'): it has "
                "expired or is mistyped; set a valid one, or none for public models",
            )
        if answer.status_code >= 500:
            raise WeightsUnavailable("hub_broken", f"{self.endpoint} answers with status {answer.status_code}")
        return "it accepts the token" if has_token else "reachable, no token (only gated models need one)"

    @contextmanager
    def open(self, repository: str, commit: str, file: str, offset: int) -> Iterator["httpx2.Response"]:
        """Open the response that streams a file's bytes from `offset` on.

        Raises:
            The client's errors; `hub_errors.explain` knows them.
        """
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        url = hf_hub_url(repository, file, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self.token, library_name="wan-mcp")
        headers["accept-encoding"] = "identity"
        if offset:
            headers["range"] = f"bytes={offset}-"
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            yield response


def _is_plain(path: str) -> bool:
    """Check whether a path stays below the folder that it is joined to."""
    return not path.startswith("/") and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))
