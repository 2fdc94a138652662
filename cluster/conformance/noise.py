"""Noise test vectors, in the JSON shape of cacophony, snow and noise-c."""

from collections.abc import Iterator
from typing import Any

from cluster.conformance.registry import Kind, MismatchError, UnsupportedError, expect_equal, register
from protocols.noise.errors import NoiseError
from protocols.noise.handshake import HandshakeState, KeyPair
from protocols.noise.suite import protocol


def _is_noise(document: Any) -> bool:
    match document:
        case {"vectors": [{"messages": [*_]} as first, *_]}:
            return str(first.get("protocol_name", first.get("name"))).startswith("Noise")
    return False


def _noise_cases(document: Any) -> Iterator[tuple[str, Any]]:
    for number, case in enumerate(document["vectors"]):
        name = _noise_name(case) if isinstance(case, dict) else "not an object"
        yield f"{number}: {name}", case


def _noise_name(case: dict[str, Any]) -> str:
    return str(case.get("protocol_name", case.get("name")))


def _run_noise(case: dict[str, Any]) -> None:
    if case.get("fail"):
        raise UnsupportedError("cases that end in a failure are not specified by revision 34")
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in case["messages"]]
    done = 0
    if case.get("fallback"):
        first, second = _run_to_fallback(case, *messages[0])
        done = 1
    else:
        name = _noise_name(case)
        first, second = _side(case, "init", name, True), _side(case, "resp", name, False)

    while not first.finished:
        if done == len(messages):
            raise MismatchError(f"the handshake needs more than the {done} messages given")
        payload, ciphertext = messages[done]
        writer, reader = (first, second) if first.our_turn else (second, first)
        expect_equal(f"message {done}", writer.write_message(payload), ciphertext)
        expect_equal(f"payload {done}", reader.read_message(ciphertext), payload)
        done += 1

    one_way = first.protocol.pattern.one_way
    handshake_messages = len(first.protocol.pattern.messages)
    ends = first.split(), second.split()
    for end in ends:
        if "handshake_hash" in case:
            expect_equal("handshake hash", end.handshake_hash, bytes.fromhex(case["handshake_hash"]))
    for number, (payload, ciphertext) in enumerate(messages[done:], handshake_messages):
        sender, receiver = ends if one_way or number % 2 == 0 else reversed(ends)
        expect_equal(f"message {done}", sender.encrypt(payload), ciphertext)
        expect_equal(f"payload {done}", receiver.decrypt(ciphertext), payload)
        done += 1


def _run_to_fallback(case: dict[str, Any], payload: bytes, ciphertext: bytes) -> tuple[HandshakeState, HandshakeState]:
    """The responder cannot read the first message and starts the fallback, as its initiator (§10.4).

    noise-c names the fallback and gives the first pattern beside it; others the other way round.
    """
    name = _noise_name(case)
    head, shape, *algorithms = name.split("_")
    fallback_shape = case.get("fallback_pattern", shape)
    first_shape = shape if "fallback_pattern" in case else case.get("pattern", "IK")
    first_name, fallback_name = ("_".join((head, s, *algorithms)) for s in (first_shape, fallback_shape))

    alice, bob = _side(case, "init", first_name, True), _side(case, "resp", first_name, False)
    expect_equal("message 0", alice.write_message(payload), ciphertext)
    try:
        bob.read_message(ciphertext)
    except NoiseError:
        pass
    else:
        raise MismatchError("message 0 was read, so there is nothing to fall back from")
    ephemeral = ciphertext[: alice.protocol.dh.size]
    return (
        _side(case, "resp", fallback_name, True, remote_ephemeral=ephemeral),
        _side(case, "init", fallback_name, False),
    )


def _side(case: dict[str, Any], who: str, name: str, initiator: bool, remote_ephemeral: bytes = b"") -> HandshakeState:
    """One side, with those of the case's keys that the pattern needs: some files give all keys to all."""
    try:
        suite = protocol(name)
    except NoiseError as error:
        raise UnsupportedError(str(error)) from None
    plan = suite.initiator if initiator else suite.responder

    def key(field: str) -> bytes:
        return bytes.fromhex(case.get(f"{who}_{field}", ""))

    static = KeyPair(key("static"), suite.dh.public(key("static"))) if plan.needs_static else None
    return HandshakeState(
        name,
        initiator=initiator,
        prologue=key("prologue"),
        static=static,
        ephemeral=key("ephemeral") if plan.needs_ephemeral else b"",
        remote_static=key("remote_static") if plan.needs_remote_static else b"",
        remote_ephemeral=remote_ephemeral if plan.needs_remote_ephemeral else b"",
        psks=[bytes.fromhex(psk) for psk in case.get(f"{who}_psks", ())],
    )


register(Kind("Noise", _is_noise, _noise_cases, _run_noise))
