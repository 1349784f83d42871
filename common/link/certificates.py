"""When the certificates of a connection expire.

Law: a certificate that cannot be read is no error here: the TLS library judges certificates, this module only
reads their last day, from DER (X.690) as RFC 5280, 4.1 lays it out.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from common.link.settings import LinkSettings
from common.link.values import Certificate

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17
_FORMATS = {_UTC_TIME: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}


def certificates_of(settings: LinkSettings, broker: bytes | None) -> tuple[Certificate, ...]:
    """Those of a connection: the broker's as it sent it (DER), ours, and an authority that is alone."""
    found = [("broker", broker), *(("client", one) for one in _in_file(settings.cert_file)[:1])]
    authorities = _in_file(settings.ca_file)
    if len(authorities) == 1:
        found.append(("authority", authorities[0]))
    certificates: list[Certificate] = []
    for name, der in found:
        with suppress(ValueError):
            certificates.append(Certificate(name, expiry(der or b"").timestamp()))
    return tuple(certificates)


def expired_at(path: str | None, now: float) -> str | None:
    """The day on which the only certificate in a file, or its first, has expired; None if it has not."""
    for der in _in_file(path)[:1]:
        with suppress(ValueError):
            end = expiry(der)
            return f"{end:%Y-%m-%d}" if end.timestamp() < now else None
    return None


def expiry(der: bytes) -> datetime:
    """The last moment at which a certificate (DER) is valid; ValueError when it is not a certificate."""
    (_, certificate), *_ = _elements(der)
    (_, signed), *_ = _elements(certificate)
    fields = [content for tag, content in _elements(signed) if tag != _VERSION]
    if len(fields) < 4:
        raise ValueError("not a certificate")
    times = list(_elements(fields[3]))  # after serial number, signature and issuer: the validity
    if len(times) != 2 or times[1][0] not in _FORMATS:
        raise ValueError("not a certificate")
    tag, text = times[1]
    return datetime.strptime(text.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that follow each other, as tag and content; ValueError at one that is cut short."""
    at = 0
    while at < len(content) or not content:
        if at + 2 > len(content):
            raise ValueError("cut short")
        tag, size, at = content[at], content[at + 1], at + 2
        if size & 0x80:
            num = size & 0x7F
            size, at = int.from_bytes(content[at : at + num], "big"), at + num
        if at + size > len(content):
            raise ValueError("cut short")
        yield tag, content[at : at + size]
        at += size


def _in_file(path: str | None) -> list[bytes]:
    """The certificates in a PEM file, as DER; none if it cannot be read."""
    if path is None:
        return []
    try:
        return [ssl.PEM_cert_to_DER_cert(one) for one in _PEM.findall(Path(path).read_text("ascii"))]
    except (OSError, ValueError):
        return []
