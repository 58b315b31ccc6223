"""Which network addresses are of the public internet: everything else is somebody's own network, or this machine.

The lists follow IANA's registries of special-purpose addresses (RFC 6890 and what was added to them since). They are
written out here because `ipaddress.is_global` differs between the versions of Python.
"""

import ipaddress

import psutil

__all__ = ["Address", "address_of", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a provider's customers
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host of a virtual machine at Azure
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
UNICAST_6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned to the public internet. Outside of it are loopback, mapped and compatible IPv4, NAT64
(64:ff9b::/96 and 64:ff9b:1::/48), unique local, link-local, site-local and multicast addresses, and SRv6's."""
NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
ISATAP = (0x00005EFE, 0x02005EFE)
"""The third quarter of an IPv6 address that has an IPv4 address as its last (RFC 5214)."""


def address_of(text: str) -> Address | None:
    """Return the address that a text is in its usual spelling; None for any other text."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Check whether an address is of the public internet, and not one of this machine."""
    if isinstance(address, ipaddress.IPv4Address):
        known = not any(address in network for network in NOT_PUBLIC_4)
    else:
        known = (
            address.scope_id is None
            and address in UNICAST_6
            and not any(address in network for network in NOT_PUBLIC_6)
            and (int(address) >> 32) & 0xFFFFFFFF not in ISATAP
        )
    return known and address not in _of_this_machine()


def _of_this_machine() -> set[Address]:
    """Return the addresses of this machine's network interfaces; its services may trust who comes from them."""
    own = (each.address.partition("%")[0] for cards in psutil.net_if_addrs().values() for each in cards)
    return {address for address in map(address_of, own) if address is not None}
