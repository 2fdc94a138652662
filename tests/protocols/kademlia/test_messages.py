import pytest

from protocols.contact import Contact
from protocols.identity import SigningKey
from protocols.kademlia.messages import (
    REQUESTS,
    RESPONSES,
    FindNode,
    FindValue,
    Found,
    Nodes,
    Ping,
    Pong,
    Request,
    Response,
    Store,
    Stored,
)
from protocols.kademlia.records import Record
from protocols.messages import Codec, CodecError, peek_tag

RECORD = Record.sign(SigningKey(bytes(32)), b"name", 2**62, bytes(1024), 3600)
CONTACTS = tuple(Contact(bytes([n]) * 32, 2**63 - 1) for n in range(20))

CASES: list[tuple[Codec[Request] | Codec[Response], Request | Response, str]] = [
    (REQUESTS, Ping(), "kad.ping"),
    (REQUESTS, FindNode(bytes(32)), "kad.find_node"),
    (REQUESTS, FindValue(bytes(32)), "kad.find_value"),
    (REQUESTS, Store(RECORD, 60), "kad.store"),
    (RESPONSES, Pong(), "kad.pong"),
    (RESPONSES, Nodes(CONTACTS), "kad.nodes"),
    (RESPONSES, Found(RECORD, 60, CONTACTS), "kad.value"),
    (RESPONSES, Stored("stale"), "kad.stored"),
]


@pytest.mark.parametrize(("codec", "message", "tag"), CASES, ids=[tag for _, _, tag in CASES])
def test_every_message_goes_both_ways_whole_and_no_other_way(
    codec: Codec[Request | Response], message: Request | Response, tag: str
) -> None:
    data = codec.encode(message)
    assert codec.decode(data) == message
    assert peek_tag(data) == tag
    for broken in [data[:cut] for cut in range(len(data))] + [data + b"\0"]:
        with pytest.raises(CodecError):
            codec.decode(broken)


def test_requests_are_not_responses() -> None:
    with pytest.raises(CodecError, match="unknown_tag"):
        RESPONSES.decode(REQUESTS.encode(Ping()))
    with pytest.raises(CodecError, match="unknown_tag"):
        REQUESTS.decode(RESPONSES.encode(Pong()))


def test_no_message_names_its_sender() -> None:
    """Whoever could say who he is could say that he is somebody else."""
    fields = {field for _, message, _ in CASES for field in message.__struct_fields__}
    assert fields == {"target", "key", "record", "remaining_s", "contacts", "outcome"}


def test_an_answer_with_a_record_fits_a_datagram_of_two_fragments() -> None:
    assert len(RESPONSES.encode(Found(RECORD, 2**20 // 2, CONTACTS))) < 2 * 1400
