"""Two sides of any Noise protocol, made from a seed."""

import hashlib
from typing import Any

from hypothesis import strategies as st

from protocols.noise.errors import NoiseError
from protocols.noise.handshake import HandshakeState, KeyPair, Transport
from protocols.noise.patterns import PATTERNS
from protocols.noise.suite import Protocol, protocol

XX = "Noise_XX_25519_ChaChaPoly_BLAKE2s"


@st.composite
def protocols(draw: st.DrawFn) -> Protocol:
    """Any pattern of the table with any set of PSKs (those that §9.3 allows), any suite."""
    shape = draw(st.sampled_from(sorted(PATTERNS)))
    positions = range(len(PATTERNS[shape].messages) + 1)
    psks = sorted(draw(st.sets(st.sampled_from(positions), max_size=2)))
    cipher = draw(st.sampled_from(["ChaChaPoly", "AESGCM"]))
    hash = draw(st.sampled_from(["SHA256", "SHA512", "BLAKE2s", "BLAKE2b"]))
    # X448 is slow, and differs in nothing but sizes.
    dh = draw(st.sampled_from(["25519", "25519", "25519", "448"]))
    modifiers = "+".join(f"psk{position}" for position in psks)
    return protocol(f"Noise_{shape}{modifiers}_{dh}_{cipher}_{hash}")


def key(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(size)


def side(suite: Protocol, *, initiator: bool, **changed: Any) -> HandshakeState:
    plan, size = (suite.initiator if initiator else suite.responder), suite.dh.size
    us, them = ("initiator", "responder") if initiator else ("responder", "initiator")
    private = key(us + "s", size)
    arguments: dict[str, Any] = {
        "prologue": b"the same on both sides",
        "static": KeyPair(private, suite.dh.public(private)) if plan.needs_static else None,
        "ephemeral": key(us + "e", size) if plan.needs_ephemeral else b"",
        "remote_static": suite.dh.public(key(them + "s", size)) if plan.needs_remote_static else b"",
        "remote_ephemeral": suite.dh.public(key(them + "e", size)) if plan.needs_remote_ephemeral else b"",
        "psks": [key(f"psk{number}", 32) for number in range(suite.pattern.psk_count)],
    }
    return HandshakeState(suite.name, initiator=initiator, **(arguments | changed))


def pair(name: str) -> tuple[HandshakeState, HandshakeState]:
    suite = protocol(name)
    return side(suite, initiator=True), side(suite, initiator=False)


def shake(initiator: HandshakeState, responder: HandshakeState) -> tuple[Transport, Transport]:
    while not initiator.finished:
        writer, reader = (initiator, responder) if initiator.our_turn else (responder, initiator)
        payload = b"payload" * len(writer.protocol.name)
        assert reader.read_message(writer.write_message(payload)) == payload
    return initiator.split(), responder.split()


def reason(call: Any, *arguments: Any) -> str:
    """The reason of the NoiseError that the call raises; "" if it raises none."""
    try:
        call(*arguments)
    except NoiseError as error:
        return error.reason
    return ""
