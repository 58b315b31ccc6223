"""The user at the other end of a connection within this machine, as Linux's kernel knows it.

The kernel keeps the owner of every socket and answers questions about one connection over netlink (sock_diag(7)).
Nothing that a client sends takes part, so nothing can be forged.
"""

import ipaddress
import os
import socket
import struct
from enum import Enum, auto

__all__ = ["Peer", "can_tell_users", "peer_of"]

Address = tuple[str, int]

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
NLM_F_REQUEST = 1
ESTABLISHED = 1  # of the states of TCP, net/tcp_states.h
ANY = 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
QUESTION = struct.Struct("=BBBBI")  # inet_diag_req_v2: family, protocol, extensions, padding, states
SOCKET = struct.Struct("=2s2s16s16sIII")  # inet_diag_sockid: ports and addresses in network order, interface, cookie
ANSWER = struct.Struct("=BBBB48sIIIII")  # inet_diag_msg: family, state, …, socket, …, uid, inode
TIMEOUT_S = 1.0


class Peer(Enum):
    """Who is at the other end of a connection."""

    SAME_USER = auto()
    """The user of this process."""
    OTHER = auto()
    """Another user."""
    GONE = auto()
    """The client has hung up, or begun to: nobody owns its end for sure any more."""
    UNKNOWN = auto()
    """This system does not tell."""


def can_tell_users() -> bool:
    """Check whether this system tells whose connections are: try it with a connection to this process itself."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        return peer_of(client.getsockname(), server.getsockname()) is Peer.SAME_USER


def peer_of(client: Address, server: Address) -> Peer:
    """Return who owns the client's end of a TCP connection; both ends are (address, port) and on this machine."""
    try:
        state, user = _owner(client, server)
    except LookupError:
        return Peer.GONE
    except (AttributeError, OSError, ValueError, struct.error):  # not Linux, or netlink is not allowed
        return Peer.UNKNOWN
    if state != ESTABLISHED:  # the kernel may call the owner of a closing socket user 0
        return Peer.GONE
    return Peer.SAME_USER if user == os.geteuid() else Peer.OTHER


def _owner(client: Address, server: Address) -> tuple[int, int]:
    """Return the state of the client's socket and the user id of its owner.

    Raises:
        LookupError: the connection does not exist.
        OSError: the kernel does not answer such questions.
    """
    here, there = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
    family = socket.AF_INET if here.version == 4 else socket.AF_INET6
    ports = client[1].to_bytes(2, "big"), server[1].to_bytes(2, "big")
    connection = SOCKET.pack(*ports, here.packed, there.packed, 0, ANY, ANY)
    question = QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, ANY) + connection
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(TIMEOUT_S)
        kernel.send(HEADER.pack(HEADER.size + len(question), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + question)
        answer = kernel.recv(4096)
    kind = HEADER.unpack_from(answer)[1]
    if kind != SOCK_DIAG_BY_FAMILY:
        (error,) = struct.unpack_from("=i", answer, HEADER.size)
        raise LookupError("no such connection") if -error == 2 else OSError(-error, os.strerror(-error))
    _, state, _, _, _, _, _, _, user, _ = ANSWER.unpack_from(answer, HEADER.size)
    return state, user
