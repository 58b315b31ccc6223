"""A web of images on this machine: a real TLS server under test names, which answers as it is told, byte by byte."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.patience import PATIENCE_S
from wan_mcp.media.image_urls import Reach
from wan_mcp.media.public_addresses import Address, is_public

__all__ = ["HOSTS", "ImageWeb", "answer", "image_web"]

HOSTS = ("pictures.test", "other.test", "internal.test", "mixed.test", "rebound.test")
LOOPBACK = ipaddress.ip_address("127.0.0.1")
"""The one address of this machine that these tests count as one of the public internet."""

Parts = bytes | Iterable[bytes]


def answer(
    body: bytes, kind: str = "image/png", status: str = "200 OK", length: int | None = None, **more: str
) -> bytes:
    """An answer as it is on the wire; `length` is what it says of its body."""
    headers = {"Content-Type": kind, "Content-Length": str(len(body) if length is None else length)}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class ImageWeb:
    """The server, and what it is told."""

    port: int
    tls: ssl.SSLContext
    pages: dict[str, Callable[[], Parts]] = field(default_factory=dict)
    """By path, what is answered."""
    places: dict[str, list[list[str]]] = field(default_factory=dict)
    """By host, what it resolves to: the first time, the second … and then always the last."""
    requests: list[bytes] = field(default_factory=list)
    """The heads of the requests so far."""
    resolved: list[str] = field(default_factory=list)

    def put(self, path: str, parts: Parts | Callable[[], Parts]) -> str:
        """Answer a path from now on; returns its URL."""
        self.pages[path] = parts if callable(parts) else lambda: parts
        return self.url(path)

    def url(self, path: str, host: str = HOSTS[0]) -> str:
        """The URL of a path."""
        return f"https://{host}:{self.port}{path}"

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        places = self.places.get(host, [["127.0.0.1"]])
        return places.pop(0) if len(places) > 1 else places[0]

    def reach(self, total_s: float = PATIENCE_S) -> Reach:
        """The rule, with this server in place of the public internet."""

        def allows(address: Address) -> bool:
            return address == LOOPBACK or is_public(address)

        return Reach(self._resolve, allows, frozenset({443, self.port}), lambda: self.tls, total_s)


@contextmanager
def image_web(folder: Path) -> Iterator[ImageWeb]:
    """A running server; `folder` gets its certificate."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = _certificate(folder)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = ImageWeb(listener.getsockname()[1], trusting)
        accepting = threading.Thread(target=_accept, args=(web, listener, serving))
        accepting.start()
        try:
            yield web
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(web: ImageWeb, listener: socket.socket, tls: ssl.SSLContext) -> None:
    threads = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            break
        threads.append(threading.Thread(target=_serve, args=(web, connection, tls)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _serve(web: ImageWeb, connection: socket.socket, tls: ssl.SSLContext) -> None:
    connection.settimeout(PATIENCE_S)
    with suppress(OSError), tls.wrap_socket(connection, server_side=True) as stream:
        head = b""
        while b"\r\n\r\n" not in head and (data := stream.recv(65_536)):
            head += data
        if not head:
            return
        web.requests.append(head)
        parts = web.pages.get(head.split()[1].decode(), lambda: answer(b"", status="404 Not Found"))()
        for part in [parts] if isinstance(parts, bytes) else parts:
            stream.sendall(part)
        with suppress(OSError):
            stream.unwrap()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images of tests")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "images.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(secret + made.public_bytes(pem))
    return file
