"""Topic names: written, parsed again, and never longer than a broker accepts."""

import pytest
from hypothesis import given

from common.protocol.topics import AppTopic, Downlink, Topics, Uplink, check_name, check_pool
from tests.support.wire_messages import names

TOPICS = Topics()
LONG = "x" * 32


def written(topics: Topics, name: str = LONG) -> list[str]:
    """Every topic and subscription, with the same name in every place."""
    return [
        topics.open(name, name, name),
        topics.open_filter(name),
        topics.draft(name, name, name, name),
        topics.draft_filter(name, name),
        topics.correction(name, name),
        topics.correction_filter(name),
        topics.worker(name),
        topics.worker_filter(),
        topics.device(name),
        topics.app(name, name, name),
        topics.app_filter(name),
        *topics.uplink_filters(name, name),
        topics.all_corrections_filter(),
        topics.device_filter(),
    ]


def test_topics_are_those_of_the_protocol() -> None:
    assert written(TOPICS, "n") == [
        "hlm/v1/n/open/n/n",
        "$share/n/hlm/v1/n/open/+/+",
        "hlm/v1/n/draft/n/n/n",
        "hlm/v1/n/draft/n/+/+",
        "hlm/v1/correction/n/n",
        "hlm/v1/correction/n/+",
        "hlm/v1/worker/n",
        "hlm/v1/worker/+",
        "hlm/v1/device/n",
        "hlm/v1/app/n/n/n",
        "hlm/v1/app/n/#",
        "hlm/v1/n/open/n/+",
        "hlm/v1/n/draft/+/n/+",
        "hlm/v1/correction/+/+",
        "hlm/v1/device/+",
    ]


def test_no_topic_has_more_than_seven_slashes_or_256_bytes() -> None:
    for topic in written(Topics(f"{LONG}/{LONG}")):
        assert topic.count("/") <= 7
        assert len(topic.encode()) <= 256


@given(names, names, names)
def test_a_worker_reads_what_a_device_wrote(worker: str, device: str, session: str) -> None:
    assert TOPICS.parse_uplink(TOPICS.open("pool", device, session)) == Uplink("open", device, session)
    topic = TOPICS.draft("pool", worker, device, session)
    assert TOPICS.parse_uplink(topic) == Uplink("draft", device, session)


@given(names, names)
def test_a_device_reads_what_a_worker_or_an_application_wrote(device: str, session: str) -> None:
    assert TOPICS.parse_correction(TOPICS.correction(device, session)) == Downlink(device, session)
    assert TOPICS.parse_app(TOPICS.app(device, "ask", session)) == AppTopic(device, ("ask", session))


def test_a_worker_status_names_its_worker() -> None:
    assert TOPICS.parse_worker("hlm/v1/worker/w1") == "w1"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "hlm/v1",
        "hlm/v1/",
        "hlm/v2/pool/open/d/s",
        "other/hlm/v1/pool/open/d/s",
        "hlm/v1/pool/open/d",
        "hlm/v1/pool/open/d/s/t",
        "hlm/v1/pool/open//s",
        "hlm/v1/pool/open/d/+",
        "hlm/v1/pool/draft/d/s",
        "hlm/v1/correction/d",
        "hlm/v1/correction/d/s/t",
        "hlm/v1/correction/d/\n",
        "hlm/v1/app/d",
        "hlm/v1/app/d/a/b/c",
        "hlm/v1/app/d/#",
        "hlm/v1/worker/w/x",
    ],
)
def test_a_foreign_topic_is_a_value_error(topic: str) -> None:
    for parse in (TOPICS.parse_uplink, TOPICS.parse_correction, TOPICS.parse_app, TOPICS.parse_worker):
        with pytest.raises(ValueError, match=r"topic|is not a valid name"):
            parse(topic)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$share", "ä", "a b", "a\n", "x" * 33, "a\x00"])
def test_a_name_with_anything_but_letters_digits_and_dashes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"worker .* is not a valid name: use 1 to 32 of"):
        check_name(name, "worker")
    with pytest.raises(ValueError, match="is not a valid name"):
        TOPICS.correction("device", name)


@pytest.mark.parametrize("pool", ["correction", "worker", "device", "app"])
def test_a_pool_cannot_take_the_name_of_another_branch(pool: str) -> None:
    with pytest.raises(ValueError, match="choose another"):
        check_pool(pool)


@pytest.mark.parametrize("root", ["", "/", "hlm/", "a/b/c", "hlm/+", "$SYS"])
def test_a_bad_root_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="root"):
        Topics(root)
