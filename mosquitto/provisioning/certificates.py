"""A private certificate authority and the certificates it signs, made with the openssl program.

Why openssl and not a library: it is installed wherever mosquitto is, and anyone who wants to check or replace
a step can read these commands. Law: only its owner can read a key. Certificates state their purpose, because
strict clients such as Python 3.13 refuse them otherwise.
"""

import ipaddress
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.protocol.topics import check_name
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.folder import Folder, stage, write_secret

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825  # the longest that Apple's systems accept
LOCAL_NAMES = ("localhost", "127.0.0.1")  # for provision itself, on the broker's machine

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_AUTHORITY = """
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usage}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def make_authority(folder: Folder) -> bool:
    """Make the authority's key and certificate; False if they exist already."""
    if folder.authority.exists() and folder.authority_key.exists():
        return False
    if folder.authority.exists():
        raise ProvisionError(
            f"{folder.authority} exists but its key {folder.authority_key} is missing: put it back to sign"
        )
    with tempfile.TemporaryDirectory(dir=folder.password.parent) as scratch:
        Path(scratch, "conf").write_text(_AUTHORITY)
        subject = ("-subj", "/CN=hybrid-lm authority")
        _openssl(
            scratch,
            *("req", "-x509", *_NEW_KEY, *subject, "-days", str(AUTHORITY_DAYS), "-config", "conf"),
            *("-keyout", "key", "-out", "crt"),
        )
        write_secret(folder.authority_key, Path(scratch, "key").read_text(), replace=True)
        _write_public(folder.authority, Path(scratch, "crt").read_text())
    return True


def certify_server(folder: Folder, hosts: Sequence[str]) -> None:
    """Make a key and certificate for the broker; `hosts` are the names and addresses that clients use."""
    names = dict.fromkeys((*hosts, *LOCAL_NAMES))
    alternatives = ", ".join(_alternative(one) for one in names)
    key, certificate = _sign(folder, hosts[0][:64], "serverAuth", alternatives)
    staged_key = stage(folder.key, key, for_broker=True)  # both are written before either is replaced
    try:
        _write_public(folder.certificate, certificate)
    except OSError:
        staged_key.unlink()
        raise
    staged_key.rename(folder.key)


def certify_client(folder: Folder, name: str) -> tuple[Path, Path]:
    """Make an account's certificate and key, for brokers with `require_certificate true`; their paths."""
    check_name(name, "account")
    key, certificate = _sign(folder, name, "clientAuth", f"DNS:{name}")
    certificate_file, key_file = client_files(folder, name)
    write_secret(key_file, key, replace=True)
    write_secret(certificate_file, certificate, replace=True)
    return certificate_file, key_file


def client_files(folder: Folder, name: str) -> tuple[Path, Path]:
    """The files of an account's certificate and key; for `ca` the key would be the authority's own."""
    if name == "ca":
        raise ProvisionError("an account called ca would get the authority's own files: choose another name")
    return folder.password.parent / f"{name}.crt", folder.password.parent / f"{name}.key"


def _sign(folder: Folder, common_name: str, usage: str, names: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(dir=folder.password.parent) as scratch:
        Path(scratch, "ext").write_text(_LEAF.format(usage=usage, names=names))
        _openssl(scratch, "req", *_NEW_KEY, "-subj", f"/CN={common_name}", "-keyout", "key", "-out", "csr")
        _openssl(
            scratch,
            *("x509", "-req", "-in", "csr"),
            *("-CA", str(folder.authority), "-CAkey", str(folder.authority_key)),
            *("-CAcreateserial", "-CAserial", "serial", "-days", str(CERTIFICATE_DAYS), "-sha256"),
            *("-extfile", "ext", "-out", "crt"),
        )
        return Path(scratch, "key").read_text(), Path(scratch, "crt").read_text()


def _alternative(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ProvisionError(f"{host[:80]!r} is neither a host name nor an IP address") from None
        return f"DNS:{host}"


def _write_public(path: Path, text: str) -> None:
    write_secret(path, text, replace=True)
    path.chmod(0o644)


def _openssl(folder: str, *arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise ProvisionError("openssl is not installed: install it (Debian: apt install openssl)")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProvisionError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-300:]}")
