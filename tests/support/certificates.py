"""A throwaway certificate authority and what it signs, made by openssl as mosquitto/provision does."""

import subprocess
from pathlib import Path


class Authority:
    """Files `ca.crt`, and `NAME.crt` with `NAME.key` for every `issue(NAME)`, in one folder."""

    def __init__(self, folder: Path, *, days: int = 2) -> None:
        self._folder = folder
        self.ca_file = str(folder / "ca.crt")
        _openssl(
            folder,
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days {days} "
            "-keyout ca.key -out ca.crt -subj /CN=throwaway-authority",
        )

    def expire(self) -> None:
        """Sign the authority's own certificate again, with an end in the past."""
        _openssl(self._folder, "x509 -in ca.crt -signkey ca.key -days -1 -out expired.crt")
        (self._folder / "expired.crt").replace(self.ca_file)

    def issue(self, name: str, host: str = "127.0.0.1", *, days: int = 2) -> tuple[str, str]:
        """A certificate for a server at an IP address (or for a client); its file and its key's."""
        (self._folder / f"{name}.ext").write_text(f"subjectAltName=IP:{host}\n")
        _openssl(
            self._folder,
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-keyout {name}.key -out {name}.csr -subj /CN={name}",
        )
        _openssl(
            self._folder,
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} "
            f"-extfile {name}.ext -out {name}.crt",
        )
        return str(self._folder / f"{name}.crt"), str(self._folder / f"{name}.key")


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
