"""The variables that Kubernetes sets in every container for each service of the namespace.

A service called `edge-agent` gives EDGE_AGENT_SERVICE_HOST, EDGE_AGENT_PORT=tcp://10.0.0.1:1883,
EDGE_AGENT_PORT_1883_TCP_ADDR and so on, which look like settings of ours. Law: only a name and a value of
that form are recognised; everything else stays an unknown setting, which is an error.
"""

import re
from ipaddress import ip_address

_URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
_PORT = re.compile(r"\d{1,5}")
_FORMS = (  # of the name, after a prefix, and of the value
    (re.compile(r"(\w+_)?SERVICE_PORT(_\w+)?"), _PORT),
    (re.compile(r"(\w+_)?PORT"), _URL),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)"), _URL),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PROTO"), re.compile("tcp|udp|sctp")),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PORT"), _PORT),
)
_HOST = re.compile(r"(\w+_)?(SERVICE_HOST|PORT_\d+_(TCP|UDP|SCTP)_ADDR)")


def is_service_variable(name: str, value: str) -> bool:
    """Whether Kubernetes has set this variable; `name` is without our prefix."""
    if _HOST.fullmatch(name):
        return _is_address(value)
    return any(form.fullmatch(name) and content.fullmatch(value) for form, content in _FORMS)


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True
