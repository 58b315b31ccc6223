"""A hub on this machine that speaks what the real client needs, and misbehaves on demand.

It knows repositories, commits, branches, gates, tokens, large and small files, ranges, redirects
to a store, and renamings. A `Fault` makes the next matching answers go wrong.
"""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.patience import PATIENCE_S

__all__ = ["Fault", "LoopbackHub", "Request", "blob_id", "loopback_hub", "refusing_endpoint"]

PIECE = 64 * 1024
HOLD_S = PATIENCE_S  # the longest that an answer is held: a test that holds one releases it sooner
NOBODY = {"x-error-message": "Invalid username or password."}
"""What the hub says to those without a token of what is missing, renamed or private, without a code."""
LARGE = (".safetensors", ".bin", ".gguf", ".model")


@dataclass
class Fault:
    """What goes wrong with answers about files that match: a path, "store:PATH" for answers of the store, or "api"."""

    match: str = "*"
    times: int | None = 1
    """How many answers; None for all."""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    """The connection ends after so many bytes of the answer."""
    hold_at: int | None = None
    """The answer stops after so many bytes until `go` is set."""
    wrong: bool = False
    """The content has one byte changed."""
    swap: tuple[str, str] = ("", "")
    """Words of a listing that become others."""
    ranges: bool = True
    go: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    """Set when an answer is being held."""
    expired: threading.Event = field(default_factory=threading.Event)
    """Set when an answer was held for the longest time and `go` was not set: a client has waited for it."""


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    host: str


@dataclass
class _Repository:
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    store: bool = False


class LoopbackHub:
    """The state of the hub; tests change it while it serves."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.renamed: dict[str, str] = {}
        self.repositories: dict[str, _Repository] = {}
        self.expired: set[str] = set()
        """Tokens that were valid once."""
        self._lock = threading.Lock()

    def forget(self) -> None:
        """As new."""
        for fault in self.faults:
            fault.go.set()
        for kept in (self.faults, self.requests, self.renamed, self.repositories, self.expired):
            kept.clear()

    def add(
        self,
        repository: str,
        files: Mapping[str, bytes] | Path,
        *,
        token: str | None = None,
        gated: bool = False,
        store: bool = False,
    ) -> str:
        """Commit files (all of them, or a folder's) to `main`; the commit.

        `token` is the only one that may read, `store` redirects large files to another host.
        """
        if isinstance(files, Path):
            files = {str(f.relative_to(files)): f.read_bytes() for f in sorted(files.rglob("*")) if f.is_file()}
        stamp = json.dumps({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})
        commit = hashlib.sha1(stamp.encode(), usedforsecurity=False).hexdigest()
        known = self.repositories.setdefault(repository, _Repository())
        known.token, known.gated, known.store = token, gated, store
        known.commits[commit] = dict(files)
        known.branches["main"] = commit
        return commit

    def fail(self, fault: Fault) -> Fault:
        """Let answers go wrong from now on."""
        self.faults.append(fault)
        return fault

    def file_requests(self) -> list[Request]:
        """The requests for files so far."""
        return [request for request in self.requests if "/resolve/" in request.path and request.method == "GET"]

    def next_fault(self, *subjects: str) -> Fault:
        """The fault that the next answer about the first of `subjects` with one has."""
        with self._lock:
            for fault in (fault for subject in subjects for fault in self.faults if fnmatchcase(subject, fault.match)):
                if fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return Fault()


def blob_id(content: bytes) -> str:
    """What git names a file's content by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.requests.append(
            Request(self.command, path, headers["range"], headers["authorization"], headers["host"])
        )
        try:
            if path.startswith("/api/models/"):
                self._list(path.removeprefix("/api/models/"))
            else:
                name, _, rest = path.removeprefix("/").partition("/resolve/")
                self._send(name.removeprefix("store/"), rest, stored=name.startswith("store/"))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _list(self, rest: str) -> None:
        name, what, revision = "/".join(rest.split("/")[:2]), "revision", "main"
        if len(parts := rest.split("/", 3)) == 4:
            what, revision = parts[2], parts[3]
        if name in self.hub.renamed:
            return self._redirect(self.path.replace(name, self.hub.renamed[name]))
        fault = self.hub.next_fault("api")
        repository = self.hub.repositories.get(name)
        if self._is_refused(fault, repository, gate=False) or repository is None:
            return None
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound")
        listed = [self._entry(path, content) for path, content in repository.commits[commit].items()]
        answer: Any = {"id": name, "modelId": name, "sha": commit, "gated": repository.gated, "siblings": listed}
        if what == "tree":
            answer = [{**e, "type": "file", "path": e["rfilename"], "oid": e["blobId"]} for e in listed]
        self._write(json.dumps(answer).replace(*fault.swap).encode(), fault, {"content-type": "application/json"})
        return None

    @staticmethod
    def _entry(path: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob_id(content)}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def _send(self, name: str, rest: str, stored: bool = False) -> None:
        revision, _, path = rest.partition("/")
        if name in self.hub.renamed:
            return self._redirect(self.path.replace(name, self.hub.renamed[name]))
        fault = self.hub.next_fault(*([f"store:{path}"] if stored else []), path)
        repository = self.hub.repositories.get(name)
        if self._is_refused(fault, repository, gate=True, open_to_all=stored) or repository is None:
            return None
        commit = repository.branches.get(revision, revision)
        content = repository.commits.get(commit, {}).get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound" if commit in repository.commits else "RevisionNotFound")
        large = path.endswith(LARGE)
        etag = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        about = {"etag": f'"{etag}"', "x-repo-commit": commit, "accept-ranges": "bytes"}
        if large:
            about |= {"x-linked-etag": f'"{etag}"', "x-linked-size": str(len(content))}
        if large and repository.store and not stored:
            port = urlsplit(self.hub.endpoint).port
            return self._redirect(f"http://localhost:{port}/store{self.path}", about, status=302)
        self._write(content, fault, about)
        return None

    def _is_refused(
        self, fault: Fault, repository: _Repository | None, *, gate: bool, open_to_all: bool = False
    ) -> bool:
        given = (self.headers["authorization"] or "").removeprefix("Bearer ")
        if fault.status is not None:
            self._refuse(fault.status, "", fault.headers)
        elif fault.cut_at == 0:
            self.close_connection = True
        elif given in self.hub.expired:
            self._refuse(401, "", {"x-error-message": 'User Access Token "mine" is expired'})
        elif repository is None and given:
            self._refuse(404, "RepoNotFound")
        elif repository is None:
            self._refuse(401, "", NOBODY)
        elif repository.token is None or given == repository.token or open_to_all:
            return False
        elif given and repository.gated:
            self._refuse(403, "GatedRepo")
        elif given:
            self._refuse(401, "", {"x-error-message": "Invalid credentials in Authorization header"})
        elif repository.gated and gate:
            self._refuse(401, "GatedRepo")
        elif repository.gated:
            return False
        else:
            self._refuse(401, "", NOBODY)
        return True

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        words = json.dumps({"error": f"The hub says {code or status}."}).encode()
        self.send_response(status)
        about = {"x-error-code": code, "content-type": "application/json", "content-length": str(len(words))}
        for name, value in {**about, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(words)

    def _redirect(self, place: str, headers: Mapping[str, str] | None = None, status: int = 307) -> None:
        self._refuse(status, "", {"location": place, **(headers or {})})

    def _write(self, content: bytes, fault: Fault, headers: Mapping[str, str]) -> None:
        start, asked = 0, self.headers["range"]
        if asked and fault.ranges:
            start = int(asked.removeprefix("bytes=").split("-")[0])
        if start and start >= len(content):
            return self._refuse(416, "")
        if fault.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in {"content-length": str(len(content) - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        return self._stream(content[start:], fault)

    def _stream(self, body: bytes, fault: Fault) -> None:
        if fault.hold_at is not None:
            self.wfile.write(body[: fault.hold_at])
            self.wfile.flush()
            fault.held.set()
            if not fault.go.wait(HOLD_S):
                fault.expired.set()
            body = body[fault.hold_at :]
        if fault.cut_at is not None:
            body = body[: fault.cut_at]
            self.close_connection = True
        for offset in range(0, len(body), PIECE):
            self.wfile.write(body[offset : offset + PIECE])


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def refusing_endpoint() -> Iterator[str]:
    """The address of a hub that is gone: a port on which nobody else can listen meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A running hub, on a free port of the loopback interface only."""
    hub = LoopbackHub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.forget()
        server.shutdown()
        thread.join()
        server.server_close()
