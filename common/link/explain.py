"""Why a connection could not be made, in one sentence that says what to do."""

import socket
import ssl

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from common.link.settings import LinkSettings

_BAD_VERSION = (0x01, 0x84)
_BAD_CLIENT_ID = (0x02, 0x85)
_BAD_CREDENTIALS = (0x04, 0x05, 0x86, 0x87, 0x8C)
_UNAVAILABLE = (0x03, 0x88, 0x89, 0x97, 0x9F)
HUNG_UP = 0x80  # what paho calls a connection that ended before the broker answered


def explain(error: aiomqtt.MqttError, settings: LinkSettings) -> str:
    """The sentence for an error of connecting."""
    if isinstance(error, aiomqtt.MqttCodeError):
        return _explain_reason(error.rc.value if isinstance(error.rc, ReasonCode) else error.rc, settings)
    if isinstance(error.__context__, OSError) and not isinstance(error.__context__, TimeoutError):
        return _explain_network(error.__context__, settings)
    return (
        f"no answer from {settings.address} within {settings.connect_timeout:g} s: "
        "check the address, the port and the firewall"
    )


def explain_loss(error: BaseException | None) -> str:
    """What ended a connection that stood."""
    reason = getattr(error, "rc", None)
    match reason.value if isinstance(reason, ReasonCode) else reason:
        case 0x8D:
            return "it did not answer within the keepalive"
        case 0x8E:
            return "another client connected with our client id: give each its own name"
        case 0x82 | 0x95:
            return "it refused a packet: too large, or against the protocol"
        case _:
            return "the connection ended"


def _explain_network(error: OSError, settings: LinkSettings) -> str:
    where = settings.address
    match error:
        case ConnectionRefusedError():
            return f"no broker at {where} (connection refused): start mosquitto or set `broker`"
        case socket.gaierror():
            return f"the host name {settings.host!r} is not known: check `broker`"
        case ssl.SSLCertVerificationError():
            problem = error.verify_message.rstrip(".") or "verification failed"
            return (
                f"TLS: the certificate of {where} is not trusted ({problem}): set `ca_file` to its authority"
            )
        case ssl.SSLError() | ConnectionResetError() if settings.tls:
            return f"TLS: {where} does not complete a TLS handshake: is that the broker's TLS port?"
        case _:
            return f"cannot reach the broker at {where} ({error.strerror or error}): check `broker`"


def _explain_reason(reason: int | None, settings: LinkSettings) -> str:
    where = settings.address
    if reason in _BAD_CREDENTIALS:
        return f"the broker at {where} refused the user name or password: check both"
    if reason in _BAD_CLIENT_ID:
        return f"the broker at {where} refused the client id {settings.client_id!r}: choose another"
    if reason in _BAD_VERSION:
        return f"the broker at {where} does not speak MQTT 5: use one that does, such as mosquitto 2"
    if reason in _UNAVAILABLE:
        return f"the broker at {where} is overloaded or not available: try again later"
    if reason == HUNG_UP:
        wish = "a certificate of ours (`cert_file`)" if settings.tls else "TLS (mqtts://)"
        return f"{where} hung up before the MQTT handshake: is it an MQTT broker, and does it want {wish}?"
    return f"the broker at {where} refused the connection (reason {reason}): see its log"
