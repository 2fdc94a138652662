"""The handshake: one walker over a message's tokens, for writing and for reading (§5.3).

A message either happens whole or not at all: the walker works on a copy of the symmetric state and swaps it
in at the end, so a forged or cut message costs its sender a packet and us some time, not the handshake.

A handshake encrypts no transport data. When its last message is done ``split`` turns it into a ``Transport``
and erases it. It draws no keys either: the ephemeral private key is an argument, and who gives the same one
twice has lost the secrecy of both handshakes.

A half-open handshake is part of a peer's state, so it goes to bytes and back; what is stored are secrets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from protocols.crypto import AEAD_TAG_SIZE, SHA256, CryptoError
from protocols.errors import LocalError
from protocols.noise.errors import NoiseError
from protocols.noise.patterns import PSK_TOKEN
from protocols.noise.suite import PSK_SIZE, protocol
from protocols.noise.symmetric import (
    CHACHA_POLY,
    CIPHER_KEY_SIZE,
    MESSAGE_SIZE_MAX,
    CipherState,
    SymmetricState,
)

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A static key pair with its public half kept, as deriving it costs half a Diffie-Hellman."""

    private: bytes = field(repr=False)
    public: bytes


class Transport:
    """What a finished handshake becomes: the keys of both directions and what the session is bound to.

    Of a one-way pattern only one direction exists (§7.4). ``remote_static`` is the peer's proven key, if it
    has one; ``handshake_hash`` names this session and no other (§11.2, channel binding).
    """

    __slots__ = ("_receive", "_send", "handshake_hash", "remote_static")

    def __init__(
        self,
        send: CipherState | None,
        receive: CipherState | None,
        handshake_hash: bytes,
        remote_static: bytes | None,
    ) -> None:
        self._send = send
        self._receive = receive
        self.handshake_hash = handshake_hash
        self.remote_static = remote_static

    @property
    def send(self) -> CipherState:
        if self._send is None:
            raise LocalError("the responder of a one-way pattern sends nothing")
        return self._send

    @property
    def receive(self) -> CipherState:
        if self._receive is None:
            raise LocalError("the initiator of a one-way pattern receives nothing")
        return self._receive

    def encrypt(self, plaintext: bytes, ad: bytes = b"") -> bytes:
        return self.send.encrypt_with_ad(ad, plaintext)

    def decrypt(self, ciphertext: bytes, ad: bytes = b"") -> bytes:
        return self.receive.decrypt_with_ad(ad, ciphertext)


class HandshakeState:
    """One side of one handshake. ``psks`` are in the order in which the pattern uses them.

    For ``fallback`` the ephemeral key that the first message carried is ``ephemeral`` to who sent it, now the
    responder, and ``remote_ephemeral`` to who could not read the rest.
    """

    # A key that is not there is empty.
    __slots__ = (
        "_ephemeral",
        "_plan",
        "_position",
        "_psks",
        "_remote_ephemeral",
        "_remote_static",
        "_static",
        "_symmetric",
        "initiator",
        "protocol",
    )

    def __init__(
        self,
        name: str,
        *,
        initiator: bool,
        prologue: bytes = b"",
        static: KeyPair | None = None,
        ephemeral: bytes = b"",
        remote_static: bytes = b"",
        remote_ephemeral: bytes = b"",
        psks: Sequence[bytes] = (),
    ) -> None:
        self.protocol = suite = protocol(name)
        self._plan = plan = suite.initiator if initiator else suite.responder
        self._static = static = static or _NO_KEY_PAIR
        size = suite.dh.size
        _require_key("a static private key", static.private, size if plan.needs_static else 0)
        _require_key("a static public key", static.public, size if plan.needs_static else 0)
        _require_key("an ephemeral private key", ephemeral, size if plan.needs_ephemeral else 0)
        _require_key("a remote static key", remote_static, size if plan.needs_remote_static else 0)
        _require_key("a remote ephemeral key", remote_ephemeral, size if plan.needs_remote_ephemeral else 0)
        if len(psks) != suite.pattern.psk_count or any(len(psk) != PSK_SIZE for psk in psks):
            raise LocalError(f"{name} takes {suite.pattern.psk_count} PSKs of {PSK_SIZE} bytes")
        self.initiator = initiator
        self._position = 0
        self._ephemeral = ephemeral
        self._remote_static = remote_static
        self._remote_ephemeral = remote_ephemeral
        self._psks = tuple(psks)
        self._symmetric = symmetric = SymmetricState(suite.cipher, suite.hash, suite.initial_hash, suite.initial_hash)
        symmetric.mix_hash(prologue)
        for ours, token in plan.pre:
            if token == "s":
                symmetric.mix_hash(static.public if ours else remote_static)
            else:
                self._mix_ephemeral(symmetric, suite.dh.public(ephemeral) if ours else remote_ephemeral)

    @property
    def finished(self) -> bool:
        """Every message is done, so ``split`` may be called, and nothing else."""
        return self._position == len(self._plan.steps)

    @property
    def our_turn(self) -> bool:
        """The next message is ours to write."""
        return not self.finished and self._plan.steps[self._position].writing

    @property
    def remote_static(self) -> bytes | None:
        """The key the peer named, known or read so far. Only ``Transport.remote_static`` is proven."""
        return self._remote_static or None

    def write_message(self, payload: bytes = b"") -> bytes:
        return self._walk(payload, writing=True)

    def read_message(self, message: bytes) -> bytes:
        """The payload. How well its sender is authenticated depends on pattern and message: §7.7."""
        return self._walk(message, writing=False)

    def split(self) -> Transport:
        if not self.finished or self._symmetric is _ERASED:
            raise LocalError(f"{self.protocol.name}: no transport before the handshake is finished, nor twice")
        symmetric, self._symmetric = self._symmetric, _ERASED
        self._static, self._ephemeral, self._psks = _NO_KEY_PAIR, b"", ()
        first, second = symmetric.split()
        reverse = None if self.protocol.pattern.one_way else second
        send, receive = (first, reverse) if self.initiator else (reverse, first)
        return Transport(send, receive, symmetric.transcript_hash, self._remote_static or None)

    def _walk(self, data: bytes, *, writing: bool) -> bytes:
        """``data`` is a payload to write or a message to read; the answer is the other."""
        steps = self._plan.steps
        if self._position == len(steps) or steps[self._position].writing != writing:
            raise LocalError(f"{self.protocol.name}: not our turn to {'write' if writing else 'read'}")
        step = steps[self._position]
        _require_size(len(data), step.overhead, writing)

        dh = self.protocol.dh
        static, ephemeral = self._static, self._ephemeral
        remote_static, remote_ephemeral = self._remote_static, self._remote_ephemeral
        symmetric = self._symmetric.copy()
        crypt = symmetric.encrypt_and_hash if writing else symmetric.decrypt_and_hash
        psks = iter(self._psks[step.psks_used :])
        written, offset = b"", 0
        try:
            for token in step.tokens:
                if token == "e":
                    if writing:
                        key = dh.public(ephemeral)
                        written += key
                    else:
                        key = remote_ephemeral = data[offset : offset + dh.size]
                        offset += dh.size
                    self._mix_ephemeral(symmetric, key)
                elif token == "s":
                    if writing:
                        written += crypt(static.public)
                    else:
                        size = dh.size if symmetric.cipher_state is None else dh.size + AEAD_TAG_SIZE
                        remote_static = crypt(data[offset : offset + size])
                        offset += size
                elif token == PSK_TOKEN:
                    symmetric.mix_key_and_hash(next(psks))
                else:
                    private = ephemeral if token[0] == "e" else static.private
                    public = remote_ephemeral if token[1] == "e" else remote_static
                    symmetric.mix_key(dh.exchange(private, public))
            result = written + crypt(data) if writing else crypt(data[offset:])
        except CryptoError as error:
            raise NoiseError(error.reason, error.detail) from None

        self._symmetric = symmetric
        self._remote_static, self._remote_ephemeral = remote_static, remote_ephemeral
        self._position += 1
        return result

    def _mix_ephemeral(self, symmetric: SymmetricState, public: bytes) -> None:
        symmetric.mix_hash(public)
        # §9.2: where a PSK is used, ephemeral keys randomise the cipher keys too.
        if self._psks:
            symmetric.mix_key(public)

    # -- to bytes and back -----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Everything, secrets included: to be sealed before it leaves memory."""
        if self._symmetric is _ERASED:
            raise LocalError("a handshake that became a transport has no state left")
        cipher_state = self._symmetric.cipher_state
        return msgspec.msgpack.encode(
            _Saved(
                STATE_VERSION,
                self.protocol.name,
                self.initiator,
                self._position,
                self._static.private,
                self._static.public,
                self._ephemeral,
                self._remote_static,
                self._remote_ephemeral,
                self._psks,
                self._symmetric.chaining_key,
                self._symmetric.transcript_hash,
                cipher_state.key if cipher_state is not None else b"",
                cipher_state.nonce if cipher_state is not None else 0,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "HandshakeState":
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            suite = protocol(saved.protocol_name)
        except (msgspec.DecodeError, UnicodeDecodeError, NoiseError) as error:
            raise LocalError(f"not a saved handshake: {error}") from None
        plan = suite.initiator if saved.initiator else suite.responder
        size = suite.dh.size
        static_size = size if plan.needs_static else 0
        if (
            saved.version != STATE_VERSION
            or not 0 <= saved.position <= len(plan.steps)
            or {len(saved.static_private), len(saved.static_public)} != {static_size}
            or len(saved.ephemeral) != (size if plan.needs_ephemeral else 0)
            or not {len(saved.remote_static), len(saved.remote_ephemeral)} <= {0, size}
            or [len(psk) for psk in saved.psks] != [PSK_SIZE] * suite.pattern.psk_count
            or {len(saved.chaining_key), len(saved.transcript_hash)} != {suite.hash.digest_size}
            or len(saved.cipher_key) not in (0, CIPHER_KEY_SIZE)
        ):
            raise LocalError(f"not a saved handshake of {saved.protocol_name}, version {STATE_VERSION}")
        state = cls.__new__(cls)
        state.protocol = suite
        state._plan = plan
        state.initiator = saved.initiator
        state._position = saved.position
        state._static = KeyPair(saved.static_private, saved.static_public)
        state._ephemeral = saved.ephemeral
        state._remote_static, state._remote_ephemeral = saved.remote_static, saved.remote_ephemeral
        state._psks = saved.psks
        cipher_state = CipherState(suite.cipher, saved.cipher_key, saved.nonce) if saved.cipher_key else None
        state._symmetric = SymmetricState(
            suite.cipher, suite.hash, saved.chaining_key, saved.transcript_hash, cipher_state
        )
        return state


class _Saved(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    version: int
    protocol_name: str
    initiator: bool
    position: int
    static_private: bytes
    static_public: bytes
    ephemeral: bytes
    remote_static: bytes
    remote_ephemeral: bytes
    psks: tuple[bytes, ...]
    chaining_key: bytes
    transcript_hash: bytes
    cipher_key: bytes
    nonce: int

    def __repr__(self) -> str:
        return f"_Saved({self.protocol_name})"


_NO_KEY_PAIR = KeyPair(b"", b"")
_ERASED = SymmetricState(CHACHA_POLY, SHA256, b"", b"")


def _require_key(what: str, key: bytes, size: int) -> None:
    """An unneeded key is refused too: its owner believes in an authentication that does not happen."""
    if len(key) != size:
        raise LocalError(f"this side of the handshake takes {what} of {size} bytes, not {len(key)}")


def _require_size(size: int, overhead: int, writing: bool) -> None:
    if writing and size + overhead > MESSAGE_SIZE_MAX:
        raise LocalError(f"{size} bytes of payload do not fit a handshake message of {MESSAGE_SIZE_MAX}")
    if not writing and not overhead <= size <= MESSAGE_SIZE_MAX:
        reason = "message_too_short" if size < overhead else "message_too_long"
        raise NoiseError(reason, f"{size} bytes")
