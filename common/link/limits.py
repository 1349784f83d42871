"""What a broker takes, as its CONNACK states it (MQTT 5, 3.2.2.3). Pure.

Law: nothing is sent that the broker has said it does not take: it would end the connection.
"""

from dataclasses import dataclass, replace

from common.link.values import Publish

NO_LIMIT = 268_435_460  # bytes: the largest packet of the protocol
RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED = 0x9A, 0x9B


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """`max_packet_size` is in bytes; `max_unacknowledged` counts QoS 1 messages without a PUBACK."""

    max_packet_size: int = NO_LIMIT
    max_qos: int = 1
    max_unacknowledged: int = 65_535
    max_aliases: int = 0
    keeps_retained: bool = True
    has_wildcards: bool = True
    has_shared: bool = True

    @classmethod
    def of(cls, properties: object) -> "BrokerLimits":
        """From paho's properties of a CONNACK; what is absent has the default of the standard."""

        def number(name: str, default: int) -> int:
            return int(getattr(properties, name, default))

        return cls(
            max_packet_size=number("MaximumPacketSize", NO_LIMIT),
            max_qos=min(1, number("MaximumQoS", 1)),
            max_unacknowledged=number("ReceiveMaximum", 65_535),
            max_aliases=number("TopicAliasMaximum", 0),
            keeps_retained=bool(number("RetainAvailable", 1)),
            has_wildcards=bool(number("WildcardSubscriptionAvailable", 1)),
            has_shared=bool(number("SharedSubscriptionAvailable", 1)),
        )

    def without(self, reason: int | None) -> "BrokerLimits":
        """As it turned out, when the broker ended a connection for a `reason` without stating a limit."""
        if reason == RETAIN_NOT_SUPPORTED:
            return replace(self, keeps_retained=False)
        return replace(self, max_qos=0) if reason == QOS_NOT_SUPPORTED else self

    def both(self, other: "BrokerLimits") -> "BrokerLimits":
        """These limits, and what `other` knows of QoS and retained messages."""
        return replace(
            self,
            max_qos=min(self.max_qos, other.max_qos),
            keeps_retained=self.keeps_retained and other.keeps_retained,
        )

    def fit(self, publish: Publish) -> Publish:
        """The message with a QoS and a retain flag that the broker takes."""
        if publish.qos <= self.max_qos and (self.keeps_retained or not publish.retain):
            return publish
        return replace(
            publish, qos=min(publish.qos, self.max_qos), retain=publish.retain and self.keeps_retained
        )

    def missing(self, subscription: str) -> str | None:
        """What the broker lacks for a subscription, in words."""
        if subscription.startswith("$share/") and not self.has_shared:
            return "shared subscriptions"
        if not self.has_wildcards and not {"+", "#"}.isdisjoint(subscription):
            return "wildcard subscriptions"
        return None
