"""Which addresses are of the public internet."""

import ipaddress

import psutil
import pytest

from wan_mcp.media.public_addresses import is_public


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "93.184.216.34", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "2a00::1"]
)
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
        *("192.168.0.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
        *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:7f00:1::1"),
        *("2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd12::1"),
        *("fe80::1", "fe80::1%lo", "2606:4700::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254"),
        *("2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1"),
    ],
)
def test_all_others_are_not(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_a_public_address_of_this_machine_is_not_one_to_fetch_from(monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.net_if_addrs()
    [own, *_] = next(iter(real.values()))
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: real | {"wan0": [own._replace(address="93.184.216.34")]})
    assert not is_public(ipaddress.ip_address("93.184.216.34"))
    assert is_public(ipaddress.ip_address("93.184.216.35"))
