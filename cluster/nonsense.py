"""What no honest peer sends: bytes that are nearly right, and good messages where they do not belong.

Two sorts, by how far they get. Outside of a session, datagrams that were real until something happened to them.
Inside, where every byte is authentic, frames that fail at one decoder or rule after another: no frame, another
encoding of one, an answer to nothing, a size that is a lie, a request that no service knows, a forged record or proof.

All randomness is handed in, so an adversary draws it from its run and a test from Hypothesis.
"""

from collections.abc import Callable
from typing import Final

from actors.context import TRACE_NONE
from protocols.crdt.messages import KNOWN_MAX, RANGE_SIZE, Compare, List, Push, Since, Split
from protocols.identity.messages import CHANNEL_SIZE_MAX, Challenge, Proof, ProofPurpose, ProofRequest
from protocols.kademlia.messages import FindNode, FindValue, Nodes, Ping, Store
from protocols.kademlia.records import Record
from protocols.messages import DATAGRAM_SIZE_MAX, Packet, encode
from protocols.noise.datagrams import INIT, INIT_HEADER, INIT_PADDING, NO_COOKIE, PLAINTEXT_SIZE_MAX
from protocols.noise.interface import SessionDown
from protocols.rpc.frames import BODY_SIZE_LIMIT, CHUNK_SIZE, Ack, Chunk, Request, Response

TIMEOUT_MS: Final = 5_000
"""What requests say; nobody waits for the answers."""

BLOT: Final = 16
"""Bytes in a row that are made unreadable: a length, a tag and part of a key."""

Draw = Callable[[int], int]
"""A uniform integer below a limit."""
Entropy = Callable[[int], bytes]
Nonsense = Callable[[int, Draw, Entropy], bytes]
"""``(the next request id of the session, draw, entropy)`` to a frame, or none."""


def mangle(data: bytes, draw: Draw, entropy: Entropy) -> bytes:
    """Another than ``data``, but much like it: cut off, too long, with one bit, its first byte or a few bytes wrong."""
    if not data:
        return entropy(1)
    place = draw(len(data))
    match draw(5):
        case 0:
            return data[:place]
        case 1:
            room = DATAGRAM_SIZE_MAX - len(data)
            extra = min(room, (1, BLOT, 1_000, DATAGRAM_SIZE_MAX)[draw(4)])
            return data + entropy(min(extra, BLOT)) + bytes(max(0, extra - BLOT)) if extra else data[:place]
        case 2:
            return data[:place] + bytes([data[place] ^ 1 << draw(8)]) + data[place + 1 :]
        case 3:
            return bytes([data[0] ^ 1 + draw(255)]) + data[1:]
        case _:
            blot = bytes(byte ^ (mask | 1) for byte, mask in zip(data[place:], entropy(BLOT), strict=False))
            return data[:place] + blot + data[place + len(blot) :]


def forged_init(entropy: Entropy) -> bytes:
    """A first message like any other: an index, a key that is as good as any, and nobody behind them."""
    index = 1 + int.from_bytes(entropy(4), "big") % (2**32 - 1)
    return INIT_HEADER.pack(INIT, index, NO_COOKIE) + entropy(32) + INIT_PADDING


def request(identifier: int, body: bytes, size: int | None = None) -> bytes:
    """A request as RPC would send it, or one that declares another size than it has."""
    return encode(Request(identifier, TIMEOUT_MS, TRACE_NONE, len(body) if size is None else size, body))


def random_bytes(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    return entropy(1 + draw(200))


def mangled_frame(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """Nearly a request."""
    return mangle(request(identifier, encode(FindNode(entropy(32)))), draw, entropy)[:PLAINTEXT_SIZE_MAX]


def other_message(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A good message, where another sort of message belongs."""
    return encode((Ping(), FindNode(entropy(32)), SessionDown(1, entropy(32), "idle"), Packet(1, entropy(8)))[draw(4)])


def not_canonical(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A good request, with its array's length in three bytes instead of one; or with itself behind it."""
    frame = request(identifier, encode(Ping()))
    return b"\xdc\x00" + bytes([frame[0] & 0x0F]) + frame[1:] if draw(2) else frame + frame


def unasked(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """An answer to what nobody asked, a part of one, a part of a request that never began, or a receipt for nothing."""
    never = 2**40 + draw(2**20)
    body = encode(Nodes(()))
    frames = (
        Response(never, len(body), body),
        Chunk(never, True, 1 + draw(100), body),
        Chunk(never, False, 1 + draw(100), body),
        Ack(never, True, 1, 0),
    )
    return encode(frames[draw(len(frames))])


def oversized(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A large body that never comes, or that is not even begun as it should."""
    body = encode(Ping())
    size = (BODY_SIZE_LIMIT, 1024 * 1024, CHUNK_SIZE + 1)[draw(3)]
    return request(identifier, body + bytes(CHUNK_SIZE - len(body)) if draw(2) else body, size)


def bad_body(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A good frame around a request that is none."""
    bodies = (
        encode(["kad.find_node", entropy(5)]),
        encode(["kad.ping", 1]),
        encode(["kad.nothing"]),
        encode(["id.request", "become-somebody", b"", b""]),
        encode(ProofRequest(ProofPurpose.ADD_TO_CHANNEL, entropy(CHANNEL_SIZE_MAX + 1))),
        encode(["id.proof", entropy(32), None, entropy(64)]),
        encode(["nobody.home"]),
        entropy(40),
        mangle(encode(FindValue(entropy(32))), draw, entropy)[:CHUNK_SIZE],
    )
    return request(identifier, bodies[draw(len(bodies))])


def forged_record(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A record that its owner never signed."""
    record = Record(entropy(32), b"name", draw(2**60), entropy(64), 3600, entropy(64))
    return request(identifier, encode(Store(record, 3600)))


def forged_proof(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """A proof that nobody signed, for a challenge that nobody made."""
    purpose = tuple(ProofPurpose)[draw(len(ProofPurpose))]
    device, issuer, binding, key_package = (entropy(32) for _ in range(4))
    challenge = Challenge(entropy(32), draw(2**60), device, issuer, purpose, b"channel", binding, key_package)
    return request(identifier, encode(Proof(challenge, None, entropy(64))))


def bad_question(identifier: int, draw: Draw, entropy: Entropy) -> bytes:
    """About a channel that nobody has, or with more of something than there can be, or nothing at all."""
    channel = entropy(32)
    bodies = (
        encode(Compare(channel, entropy(16))),
        encode(Compare(channel, entropy(17))),
        encode(Since(channel, (channel,) * (KNOWN_MAX + 1))),
        encode(Since(entropy(31), ())),
        encode(Split(channel, 0, 14, bytes(RANGE_SIZE))),
        encode(Split(channel, 33, 1, bytes(RANGE_SIZE))),
        encode(List(channel, 1, b"")),
        encode(Push(channel, (b"",))),
        encode(Push(channel, (entropy(60), entropy(200)))),
        encode(["crdt.push", channel, entropy(60)]),
        encode(["crdt.nothing", channel]),
        mangle(encode(Since(channel, (entropy(32),))), draw, entropy)[:CHUNK_SIZE],
    )
    return request(identifier, bodies[draw(len(bodies))])


NONSENSE: Final[tuple[Nonsense, ...]] = (
    random_bytes,
    mangled_frame,
    other_message,
    not_canonical,
    unasked,
    oversized,
    bad_body,
    bad_question,
    forged_record,
    forged_proof,
)
"""Everything that an authenticated device can say and no honest one does."""
