"""What is left of a range of addresses without those that are closed, held against single addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af_operator import cidrs
from af_operator.cidrs import Block, Network, covers, left_of, parse

V4 = st.builds(
    lambda bits, length: IPv4Network((bits, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
)
V6 = st.builds(
    lambda bits, length: IPv6Network((bits, length), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
)
NEAR = st.builds(
    lambda low, length: IPv4Network((0x0A000000 | low, length), strict=False), st.integers(0, 255), st.integers(22, 32)
)
"""Ranges that meet: of one small corner."""


@given(NEAR, st.lists(NEAR, max_size=6), st.integers(0, 1023))
def test_an_address_is_left_if_it_was_there_and_is_not_closed(cidr: Network, closed: list[Network], low: int) -> None:
    address = IPv4Address(0x0A000000 | low)
    block = left_of(cidr, closed)
    is_left = block is not None and address in block.cidr and not any(address in part for part in block.without)
    assert is_left == (address in cidr and not any(address in part for part in closed))


@given(st.one_of(V4, V6, NEAR), st.lists(st.one_of(V4, V6, NEAR), max_size=8))
def test_kubernetes_takes_what_is_left(cidr: Network, closed: list[Network]) -> None:
    """Each exception must be a part of the range, and less than all of it; none twice, and always in one order."""
    block = left_of(cidr, closed)
    if block:
        assert all(part.version == cidr.version and part != cidr and covers(cidr, part) for part in block.without)
        assert len(set(block.without)) == len(block.without)
        assert block == left_of(cidr, closed[::-1])


@pytest.mark.parametrize(
    ("cidr", "closed", "left"),
    [
        ("10.0.0.0/8", [], Block(IPv4Network("10.0.0.0/8"))),
        ("10.0.0.0/8", ["192.168.0.0/16"], Block(IPv4Network("10.0.0.0/8"))),
        ("10.0.0.0/8", ["10.0.0.0/8"], None),
        ("10.1.0.0/16", ["10.0.0.0/8"], None),
        # Two halves are the whole.
        ("10.0.0.0/8", ["10.0.0.0/9", "10.128.0.0/9"], None),
        ("10.0.0.0/8", ["10.0.0.0/9", "10.1.0.0/16"], Block(IPv4Network("10.0.0.0/8"), (IPv4Network("10.0.0.0/9"),))),
        ("::/0", ["10.0.0.0/8", "fc00::/7"], Block(IPv6Network("::/0"), (IPv6Network("fc00::/7"),))),
        # Of IPv4 addresses that are written as IPv6 ones, the kernel makes IPv4.
        ("::/0", ["::ffff:10.0.0.0/104"], Block(IPv6Network("::/0"))),
        ("0.0.0.0/0", ["::ffff:10.0.0.0/104"], Block(IPv4Network("0.0.0.0/0"), (IPv4Network("10.0.0.0/8"),))),
    ],
)
def test_what_is_left(cidr: str, closed: list[str], left: Block | None) -> None:
    assert left_of(ip_network(cidr), map(ip_network, closed)) == left


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("::ffff:169.254.169.254/128", "169.254.169.254/32"),
        ("::FFFF:A9FE:0/112", "169.254.0.0/16"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("FE80::1/10", "fe80::/10"),
    ],
)
def test_how_a_range_may_be_written(text: str, means: str) -> None:
    assert parse(text) == ip_network(means)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # AWS, Google, Azure, OpenStack
        "169.254.170.2",  # AWS, of containers
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",  # OpenStack
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_no_range_with_a_metadata_service_in_it_leaves_that(address: str) -> None:
    one = ip_address(address)
    for length in range(one.max_prefixlen + 1):
        block = left_of(ip_network((address, length), strict=False), cidrs.METADATA)
        assert block is None or any(one in part for part in block.without)
