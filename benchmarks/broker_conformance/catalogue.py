"""Everything that is needed, in the order of the table. docs/brokers.md has the same rows."""

from benchmarks.broker_conformance.endings import (
    drops_a_will,
    gives_one_name_to_one_client,
    notices_silence,
    publishes_a_will,
    publishes_a_will_on_request,
)
from benchmarks.broker_conformance.lifetimes import (
    clears_retained,
    expires_messages,
    expires_retained,
    expires_sessions,
    forgets_sessions,
    honours_retain_handling,
    keeps_sessions,
    marks_retained,
    retains,
)
from benchmarks.broker_conformance.needs import Need, Weight
from benchmarks.broker_conformance.sharing import (
    deals_to_members,
    reports_an_empty_pool,
    survives_death,
    survives_unsubscribe,
)
from benchmarks.broker_conformance.sizes import (
    echoes,
    echoes_acknowledged,
    keeps_the_order,
    knows_aliases,
    passes_properties,
    takes_large_payloads,
    takes_long_topics,
)

MUST, HELPS, APPS = Weight.MUST, Weight.HELPS, Weight.APPS
NEEDS = (
    Need("shared subscription deals to its members", MUST, "a pool has one worker", deals_to_members),
    Need("a member dies", MUST, "sessions ask again until they reach a live worker", survives_death),
    Need("a member unsubscribes", MUST, "a stopping worker loses new sessions", survives_unsubscribe),
    Need("PUBACK 0x10 for an empty pool", HELPS, "noticed after `cloud_timeout` only", reports_an_empty_pool),
    Need("QoS 0 in order", MUST, "drafts are asked for again", keeps_the_order),
    Need("sessions end with the connection", MUST, "old messages arrive later, ignored", forgets_sessions),
    Need("sessions with an expiry are kept", APPS, "apps that were away miss answers", keeps_sessions),
    Need("session expiry", APPS, "sessions of clients that are gone pile up", expires_sessions),
    Need("message expiry", HELPS, "old messages arrive later, ignored", expires_messages),
    Need("retained message", HELPS, "`cloud-worker status` is empty", retains),
    Need("retained message cleared", HELPS, "removed workers stay listed", clears_retained),
    Need("retained message expires", HELPS, "workers that are gone stay listed", expires_retained),
    Need(
        "retain handling 2",
        HELPS,
        "old retained messages come with each subscription",
        honours_retain_handling,
    ),
    Need("retain as published", APPS, "apps cannot tell old from new", marks_retained),
    Need("will of a dead client", HELPS, "a dead worker stays listed as online", publishes_a_will),
    Need("will on request", HELPS, "a stopped worker stays listed as online", publishes_a_will_on_request),
    Need("no will after an ordinary end", APPS, "statuses are wrong", drops_a_will),
    Need("a silent client counts as dead", MUST, "messages go to a worker that is gone", notices_silence),
    Need("one connection per client id", HELPS, "two processes share a name", gives_one_name_to_one_client),
    Need("our longest topic", MUST, "shorten `root`, names of devices and workers", takes_long_topics),
    Need("our largest payload", HELPS, "no `hlm` above this; shorter prompts", takes_large_payloads),
    Need("topic aliases", HELPS, "30 to 100 bytes more per message", knows_aliases),
    Need("properties arrive", APPS, "apps get no correlation data", passes_properties),
    Need("echo of 200 bytes, median and p99", HELPS, "each verification takes longer", echoes),
    Need("the same at QoS 1", HELPS, "the first token takes longer", echoes_acknowledged),
)
