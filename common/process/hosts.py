"""Addresses and names of machines, as settings and Host headers have them. Pure."""

import re
from ipaddress import ip_address

_PORT = re.compile(r":\d*$")


def is_address(name: str) -> bool:
    """Whether it is an IP address, which no name server can point elsewhere."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    return host.lower() == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def name_in(header: str) -> str:
    """The name or address of a Host header, without port, brackets and the root's dot."""
    return _PORT.sub("", header.strip()).lower().rstrip(".").strip("[]")
