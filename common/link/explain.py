"""Why connecting failed, as a one-line message that says what to do."""

import socket
import ssl
import time

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from common.link.certificates import expired_at
from common.link.settings import TEMPORARY, LinkSettings, RefusedError

_BAD_VERSION = (0x01, 0x84)
_BAD_CLIENT_ID = (0x02, 0x85)
_BAD_CREDENTIALS = (0x04, 0x05, 0x86, 0x87, 0x8C)
_UNAVAILABLE = (0x03, 0x83, 0x88, 0x89, 0x97, 0x9F)
_ELSEWHERE = (0x9C, 0x9D)
_BANNED, _TOO_LARGE = 0x8A, 0x95
_LOSSES = {  # MQTT 5, 3.14.2.1; 0x80 is also what paho makes of a connection that just ended
    0x81: "it refused a packet as invalid",
    0x82: "it refused a packet as invalid",
    0x83: "it has a fault of its own",
    0x87: "it no longer admits this account: check its access rules",
    0x89: "it is overloaded",
    0x8B: "it is shutting down",
    0x8D: "it did not hear from us within the keepalive",
    0x8E: "another client connected with the same client id: give each its own name",
    0x8F: "it refused a subscription as invalid: check `root` and `pool`",
    0x90: "it refused a topic as invalid: check `root` and `pool`",
    0x93: "it received more messages at once than it takes",
    0x94: "it refused a topic alias",
    0x95: "it refused a packet as too large",
    0x96: "it received messages too fast",
    0x97: "a quota is used up",
    0x98: "its administrator ended the connection",
    0x99: "it refused a payload as invalid",
    0x9A: "it keeps no retained messages",
    0x9B: "it does not take this QoS",
    0x9C: "it sends its clients to another server: set `broker` to that",
    0x9D: "it has moved to another server: set `broker` to that",
    0x9E: "it has no shared subscriptions: use one that has, such as mosquitto 2",
    0x9F: "it received connections too fast",
    0xA0: "the longest time that it allows a connection is over",
    0xA1: "it has no subscription identifiers",
    0xA2: "it has no wildcard subscriptions: use one that has, such as mosquitto 2",
}
SESSION_TAKEN_OVER = 0x8E
_ONLY_ENDS = (0x8B, 0x8D, SESSION_TAKEN_OVER, 0x93, 0x94, 0x98, 0xA0)  # no CONNACK has them
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
        return _explain_reason(reason_of(error), settings, answered=_is_an_answer(error))
    if isinstance(error.__context__, OSError) and not isinstance(error.__context__, TimeoutError):
        return _explain_network(error.__context__, settings)
    return (
        f"no answer from {settings.address} within {settings.connect_timeout:g} s: "
        "check the address, the port and the firewall"
    )


def reason_of(error: aiomqtt.MqttError) -> int | None:
    """MQTT's or paho's code, if the error has one."""
    if not isinstance(error, aiomqtt.MqttCodeError):
        return None
    return error.rc.value if isinstance(error.rc, ReasonCode) else error.rc


def _is_an_answer(error: aiomqtt.MqttCodeError) -> bool:
    """Whether the code is from the broker's CONNACK, not paho's own."""
    return isinstance(error.rc, ReasonCode) and error.rc.packetType == PacketTypes.CONNACK


def _may_be_about_our_certificate(error: aiomqtt.MqttError) -> bool:
    """With TLS 1.3 a broker refuses a client's certificate after the handshake: as an end or an alert."""
    if isinstance(error, aiomqtt.MqttCodeError):
        return reason_of(error) in (HUNG_UP, *_CUT_OFF) and not _is_an_answer(error)
    cause = error.__context__
    return isinstance(cause, ssl.SSLError | ConnectionResetError) and not isinstance(
        cause, ssl.SSLCertVerificationError
    )


def explain_loss(error: BaseException | None) -> tuple[str, int | None]:
    """What ended an established connection, in words and as MQTT's code if the broker gave one."""
    reason = getattr(error, "rc", None)
    code = reason.value if isinstance(reason, ReasonCode) else None
    return _LOSSES.get(code or 0, "the connection ended"), code if code in _LOSSES else None


def explain_subscription(name: str, code: ReasonCode, settings: LinkSettings) -> RefusedError:
    """The error for a subscription that the broker did not accept."""
    what = f"the broker refused the subscription {name!r} ({code})"
    match code.value:
        case 0x87:
            advice = "check its access rules"
        case 0x8F:
            advice = "check `root` and `pool`"
        case 0x9E | 0xA1 | 0xA2:
            advice = "use a broker that has them, such as mosquitto 2"
        case value if value in TEMPORARY:
            advice = "try again later"
        case _:
            advice = f"see the log of {settings.address}"
    return RefusedError(f"{what}: {advice}", code.value)


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


def _explain_reason(reason: int | None, settings: LinkSettings, *, answered: bool) -> str:
    where = settings.address
    if reason in _BAD_CREDENTIALS:
        return f"the broker at {where} refused the user name or password: check both"
    if reason in _BAD_CLIENT_ID:
        return f"the broker at {where} refused the client id {settings.client_id!r}: choose another"
    if reason in _BAD_VERSION:
        return f"the broker at {where} does not speak MQTT 5: use one that does, such as mosquitto 2"
    if reason in _UNAVAILABLE:
        return f"the broker at {where} is overloaded or unavailable: try again later"
    if reason in _ELSEWHERE:
        return f"the broker at {where} sends its clients to another server: set `broker` to that"
    if reason == _BANNED:
        return f"the broker at {where} has banned this client: see its log"
    if reason == _TOO_LARGE:
        return f"the broker at {where} takes only smaller packets than this CONNECT: raise its limit"
    if reason in _ONLY_ENDS:
        return f"the broker at {where} ended the new connection: {_LOSSES[reason]}"
    if reason == HUNG_UP and not answered:
        need = "a client certificate (`cert_file`)" if settings.tls else "TLS (mqtts://)"
        return f"{where} hung up before the MQTT handshake: is it an MQTT broker, and does it need {need}?"
    return f"the broker at {where} refused the connection (reason {reason}): see its log"
