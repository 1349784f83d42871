"""Why connecting failed, as a one-line message that says what to do."""

import socket
import ssl
import time

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from common.link.certificates import expired_at
from common.link.settings import LinkSettings

_BAD_VERSION = (0x01, 0x84)
_BAD_CLIENT_ID = (0x02, 0x85)
_BAD_CREDENTIALS = (0x04, 0x05, 0x86, 0x87, 0x8C)
_UNAVAILABLE = (0x03, 0x88, 0x89, 0x97, 0x9F)
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_...
_CUT_OFF = (4, 7)  # paho: no connection, connection lost
HUNG_UP = 0x80  # paho's code for a connection that ended before the broker answered


def explain(error: aiomqtt.MqttError, settings: LinkSettings) -> str:
    """The message for an error while connecting."""
    end = expired_at(settings.cert_file, time.time())
    if end is not None and _may_be_about_our_certificate(error):
        return (
            f"TLS: the client certificate {settings.cert_file} has expired on {end}: make a new one "
            "(mosquitto/provision certificates --client NAME)"
        )
    if isinstance(error, aiomqtt.MqttCodeError):
        return _explain_reason(error.rc.value if isinstance(error.rc, ReasonCode) else error.rc, settings)
    if isinstance(error.__context__, OSError) and not isinstance(error.__context__, TimeoutError):
        return _explain_network(error.__context__, settings)
    return (
        f"no answer from {settings.address} within {settings.connect_timeout:g} s: "
        "check the address, the port and the firewall"
    )


def _may_be_about_our_certificate(error: aiomqtt.MqttError) -> bool:
    """With TLS 1.3 a broker refuses a client's certificate after the handshake: as an end or an alert."""
    if isinstance(error, aiomqtt.MqttCodeError):
        return (error.rc.value if isinstance(error.rc, ReasonCode) else error.rc) in (HUNG_UP, *_CUT_OFF)
    cause = error.__context__
    return isinstance(cause, ssl.SSLError | ConnectionResetError) and not isinstance(
        cause, ssl.SSLCertVerificationError
    )


def explain_loss(error: BaseException | None) -> str:
    """What ended an established connection."""
    reason = getattr(error, "rc", None)
    match reason.value if isinstance(reason, ReasonCode) else reason:
        case 0x8D:
            return "it did not answer within the keepalive"
        case 0x8E:
            return "another client connected with the same client id: give each its own name"
        case 0x82 | 0x95:
            return "it refused a packet as too large or invalid"
        case _:
            return "the connection ended"


def _explain_network(error: OSError, settings: LinkSettings) -> str:
    where = settings.address
    match error:
        case ConnectionRefusedError():
            return f"no broker at {where} (connection refused): start mosquitto or set `broker`"
        case socket.gaierror():
            return f"the host name {settings.host!r} is unknown: check `broker`"
        case ssl.SSLCertVerificationError() if error.verify_code == _EXPIRED:
            end = expired_at(settings.ca_file, time.time())
            whose = f"the authority {settings.ca_file}" if end else f"the certificate of {where}"
            return (
                f"TLS: {whose} has expired{f' on {end}' if end else ''}: renew it (mosquitto/provision "
                "certificates), or correct this machine's clock"
            )
        case ssl.SSLCertVerificationError() if error.verify_code == _NOT_YET_VALID:
            return f"TLS: the certificate of {where} is not valid yet: correct this machine's clock"
        case ssl.SSLCertVerificationError():
            problem = error.verify_message.rstrip(".") or "verification failed"
            return (
                f"TLS: the certificate of {where} is not trusted ({problem}): set `ca_file` to its authority"
            )
        case ssl.SSLError() | ConnectionResetError() if settings.tls:
            return f"TLS: the handshake with {where} failed: is that the broker's TLS port?"
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
        return f"the broker at {where} is overloaded or unavailable: try again later"
    if reason == HUNG_UP:
        need = "a client certificate (`cert_file`)" if settings.tls else "TLS (mqtts://)"
        return f"{where} hung up before the MQTT handshake: is it an MQTT broker, and does it need {need}?"
    return f"the broker at {where} refused the connection (reason {reason}): see its log"
