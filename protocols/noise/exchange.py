"""The handshake of a session: Noise XX whose statics are certified. Four steps, from values to values.

XX, as neither side knows the other's static before, and as the initiator's device is then told to nobody but
the authenticated responder. Message 1 carries nothing: whoever sends it has proved nothing, and whoever
replays it gets nothing (attack N3 of the notes).

Between its steps a handshake is bytes. A step works on what it makes of them, so a step that fails has
changed nothing, and trying a forged message costs the genuine one nothing.
"""

from dataclasses import dataclass
from typing import Final

from protocols.crypto import X25519_KEY_SIZE
from protocols.identity import DeviceIdentity, IdentityError, certified_device, prologue
from protocols.noise.datagrams import INDEX_SIZE, INIT_PADDING, SessionError, index_bytes
from protocols.noise.handshake import HandshakeState, KeyPair

NOISE_NAME: Final = "Noise_XX_25519_ChaChaPoly_SHA256"
"""A handshake with BLAKE2s measured the same, 454 µs for both sides; SHA-256 has instructions of its own."""

EPHEMERAL_SIZE: Final = X25519_KEY_SIZE

# X25519 operations of each step, for who accounts for CPU time.
START_EXCHANGES: Final = 1
ANSWER_EXCHANGES: Final = 3
CONCLUDE_EXCHANGES: Final = 3
ACCEPT_EXCHANGES: Final = 1


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a finished handshake leaves."""

    device: bytes
    remote_index: int
    send_key: bytes
    receive_key: bytes
    handshake_hash: bytes

    def __repr__(self) -> str:
        return f"Agreed(with {self.device.hex()[:16]})"


def start(identity: DeviceIdentity, index: int, ephemeral: bytes) -> tuple[bytes, bytes]:
    """Initiator: message 1, and the handshake that waits for message 2."""
    handshake = _handshake(identity, index, ephemeral, initiator=True)
    message = handshake.write_message(INIT_PADDING)
    return message, handshake.to_bytes()


def answer(
    identity: DeviceIdentity, remote_index: int, index: int, ephemeral: bytes, message: bytes
) -> tuple[bytes, bytes]:
    """Responder: message 2, and the handshake that waits for message 3."""
    handshake = _handshake(identity, remote_index, ephemeral, initiator=False)
    handshake.read_message(message)
    reply = handshake.write_message(index_bytes(index) + identity.certificate)
    return reply, handshake.to_bytes()


def conclude(identity: DeviceIdentity, handshake_bytes: bytes, message: bytes) -> tuple[bytes, Agreed]:
    """Initiator: message 3, which nobody may be sent who is not who was dialled, and what was agreed."""
    handshake = HandshakeState.from_bytes(handshake_bytes)
    payload = handshake.read_message(message)
    remote_index = int.from_bytes(payload[:INDEX_SIZE], "big")
    device = _certified(identity, payload[INDEX_SIZE:], handshake)
    final = handshake.write_message(identity.certificate)
    return final, _agreed(handshake, device, remote_index)


def accept(identity: DeviceIdentity, handshake_bytes: bytes, remote_index: int, message: bytes) -> Agreed:
    """Responder: what was agreed."""
    handshake = HandshakeState.from_bytes(handshake_bytes)
    device = _certified(identity, handshake.read_message(message), handshake)
    if device == identity.device_public:
        # An initiator notices by itself: this is not whom it dialled.
        raise SessionError("own_device", "a handshake with ourselves")
    return _agreed(handshake, device, remote_index)


def _handshake(identity: DeviceIdentity, initiator_index: int, ephemeral: bytes, *, initiator: bool) -> HandshakeState:
    return HandshakeState(
        NOISE_NAME,
        initiator=initiator,
        # With INIT's index, which nothing else would protect.
        prologue=prologue(identity.network_id) + index_bytes(initiator_index),
        static=KeyPair(identity.static_private, identity.static_public),
        ephemeral=ephemeral,
    )


def _certified(identity: DeviceIdentity, certificate: bytes, handshake: HandshakeState) -> bytes:
    """The device behind the static that this handshake has just proved."""
    try:
        device = certified_device(certificate, handshake.remote_static or b"", identity.network_id)
    except IdentityError as error:
        raise SessionError(error.reason, error.detail) from None
    return device


def _agreed(handshake: HandshakeState, device: bytes, remote_index: int) -> Agreed:
    transport = handshake.split()
    return Agreed(device, remote_index, transport.send.key, transport.receive.key, transport.handshake_hash)
