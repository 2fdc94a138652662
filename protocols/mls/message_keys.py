"""The keys of an epoch's messages (RFC 9420 §9.1): one of its own for every message of every member.

``MessageKeys`` is the linear half of an epoch. The epoch itself may be copied, kept and returned to; of its
message keys there is one object, which moves forward only, because whoever holds yesterday's copy would make
yesterday's keys again. So it refuses to be copied or pickled, and a rollback to the epoch finds it as it is.

Receiving has two halves. ``peek`` derives a key and changes nothing; ``consume`` erases it, and is called only
once the message has decrypted and its signature has verified. A forgery therefore costs us time and no key, and
the time is bounded: whoever is in the group can name any leaf and any generation, as the sender data is
protected by a secret that they all share, so what may be named is limited before anything is derived.

Sending takes the generation as an argument. It comes from a ``SendLedger``, where it was reserved durably
before: a state restored from an old backup is then told where to go on, and cannot know better.

Secrets are ``bytes``, which Python cannot overwrite: erasing means that no reference is left here. Keys that were
skipped stay until their message comes, so they are a hole in forward secrecy as wide as the limits below.
"""

from typing import Final, NoReturn

from protocols.errors import LocalError, SpacePandaError
from protocols.mls.codec import Reader, decode, opaque, optional, read_version, uint8, uint16, uint32, vector
from protocols.mls.errors import MlsError
from protocols.mls.ratchets import (
    GENERATIONS,
    Chain,
    MessageKey,
    Ratchet,
    first_secret,
    key_and_nonce,
    next_secret,
    read_position,
)
from protocols.mls.secret_tree import SecretTree, Split
from protocols.mls.suite import CipherSuite, cipher_suite

GENERATION_SKIP_MAX: Final = 1024
"""How far ahead of a ratchet a message may be. Gossip brings the newest first to whoever was away; a sender
that is further ahead is opened in order, oldest first. A forger gets one expansion a step out of us, 2 ms in all."""

SKIPPED_MAX: Final = GENERATION_SKIP_MAX
"""Keys that one ratchet keeps for late messages, oldest dropped first: all that one jump passes."""

SKIPPED_TOTAL_MAX: Final = 8 * SKIPPED_MAX
"""Keys that an epoch keeps, 1.5 MB of them. Beyond it the ratchet that keeps most loses the older half, so a
member that jumps about in its own ratchets pays with its own keys, not with the others'."""

ADVANCE_MAX: Final = 2**20
"""How far our own ratchet may be behind the ledger: 2 s of work, after more messages than an epoch should have."""

STATE_VERSION: Final = 1


class OwnMessageError(SpacePandaError):
    """The message says that it is our own, of which we have no key any more. It is nobody's fault.

    It may be an echo of what we sent, to be told by its bytes, or any member's forgery.
    """


class Opening:
    """What ``peek`` found: the key of a message, and the way to it that ``consume`` need not go again.

    Let go of it once it is consumed: it holds secrets that are erased elsewhere.
    """

    __slots__ = ("_owner", "_secrets", "_split", "_start", "key")

    def __init__(
        self, owner: "MessageKeys", key: MessageKey, start: int, secrets: tuple[bytes, ...], split: Split | None
    ) -> None:
        self.key: Final = key
        self._owner: Final = owner
        self._start: Final = start
        self._secrets: Final = secrets
        self._split: Final = split

    def __repr__(self) -> str:
        return f"Opening({self.key!r})"


class MessageKeys:
    """The message keys of an epoch, for one member of it.

    Args:
        own_leaf: whose keys are for sending only. Without one, this can only receive.
    """

    def __init__(
        self, suite: CipherSuite, encryption_secret: bytes, leaf_count: int, own_leaf: int | None = None
    ) -> None:
        self._setup(SecretTree(suite, leaf_count, {1: encryption_secret}), suite, own_leaf)

    def _setup(self, tree: SecretTree, suite: CipherSuite, own_leaf: int | None) -> None:
        if own_leaf is not None and not 0 <= own_leaf < tree.leaf_count:
            raise LocalError(f"own leaf {own_leaf} of {tree.leaf_count}")
        self.suite = suite
        self.own_leaf = own_leaf
        self._tree: SecretTree | None = tree
        self._chains: dict[int, Chain] = {}
        """By twice the leaf plus the ratchet; both of a leaf are made at once, as its secret is erased then."""
        self._kept_count = 0

    def __repr__(self) -> str:
        state = "wiped" if self._tree is None else f"{len(self._chains)} ratchets, {self._kept_count} skipped keys"
        return f"<MessageKeys of {self.suite.name}: {state}>"

    # -- receiving --------------------------------------------------------------------------------------

    def peek(self, leaf: int, ratchet: Ratchet, generation: int) -> Opening:
        """The key of a message, which stays where it is.

        Raises:
            OwnMessageError: the leaf is ours.
            MlsError: ``6.3.2/unknown-leaf``, ``9.2/generation-used``, ``15.3/generation-too-old``,
                ``15.3/generation-too-far``.
        """
        tree = self._live()
        if leaf == self.own_leaf:
            raise OwnMessageError(f"generation {generation} of our own {ratchet.name.lower()} ratchet")
        if not 0 <= leaf < tree.leaf_count:
            raise MlsError("6.3.2/unknown-leaf", f"leaf {leaf} of {tree.leaf_count}")
        chain = self._chains.get(2 * leaf + ratchet)
        start = chain.generation if chain is not None else 0
        if chain is not None and generation < start:
            return self._peek_kept(chain, leaf, ratchet, generation)
        if generation - start > GENERATION_SKIP_MAX or generation >= GENERATIONS:
            raise MlsError("15.3/generation-too-far", f"{generation} for a ratchet of leaf {leaf} at {start}")
        split = None
        if chain is None:
            split = tree.split(leaf)
            secret = first_secret(self.suite, split.leaf_secret, ratchet)
        else:
            secret = chain.secret
        secrets = [secret]
        for passed in range(start, generation):
            secret = next_secret(self.suite, secret, passed)
            secrets.append(secret)
        key = MessageKey(leaf, ratchet, generation, *key_and_nonce(self.suite, secret, generation))
        return Opening(self, key, start, tuple(secrets), split)

    def _peek_kept(self, chain: Chain, leaf: int, ratchet: Ratchet, generation: int) -> Opening:
        pair = chain.kept.get(generation)
        if pair is None:
            where = f"generation {generation} of leaf {leaf}, whose {ratchet.name.lower()} ratchet"
            if generation < chain.floor:
                raise MlsError("15.3/generation-too-old", f"{where} keeps none below {chain.floor}")
            raise MlsError("9.2/generation-used", f"{where} is at {chain.generation}")
        size = self.suite.key_size
        return Opening(self, MessageKey(leaf, ratchet, generation, pair[:size], pair[size:]), 0, (), None)

    def consume(self, opening: Opening) -> None:
        """Erase the key of a message that was opened, and keep those that it skipped.

        Raises:
            MlsError: ``9.2/generation-used``, ``15.3/generation-too-old``: another copy of the message was first.
        """
        tree = self._live()
        if opening._owner is not self:
            raise LocalError("the opening is from the message keys of another epoch")
        leaf, ratchet, generation = opening.key.leaf, opening.key.ratchet, opening.key.generation
        chain = self._chains.get(2 * leaf + ratchet)
        if chain is not None and generation < chain.generation:
            self._peek_kept(chain, leaf, ratchet, generation)
            del chain.kept[generation]
            self._kept_count -= 1
            return
        if chain is None:
            chain = self._start(tree, leaf, ratchet, opening._split)
        if chain.generation != opening._start:
            # Other messages of the sender were consumed since; what was passed then must not be passed again.
            opening = self.peek(leaf, ratchet, generation)
        secrets, start = opening._secrets, opening._start
        for passed in range(start, generation):
            chain.kept[passed] = b"".join(key_and_nonce(self.suite, secrets[passed - start], passed))
        chain.secret, chain.generation = next_secret(self.suite, secrets[-1], generation), generation + 1
        if start < generation:
            self._kept_count += generation - start
            self._bound(chain)

    def mark_received(self, position: bytes) -> None:
        """Consume what a journal says was received after this state was stored; what is consumed already stays so."""
        leaf, ratchet, generation = read_position(position)
        if leaf == self.own_leaf:
            raise LocalError("the journal says that we received what we sent")
        try:
            self.consume(self.peek(leaf, ratchet, generation))
        except MlsError as error:
            if error.reason not in ("9.2/generation-used", "15.3/generation-too-old"):
                raise LocalError(f"the journal does not belong to these message keys: {error}") from None

    # -- sending ----------------------------------------------------------------------------------------

    def advance(self, ratchet: Ratchet, generation: int) -> MessageKey:
        """Our own key of exactly this generation, which was reserved; it and all before it are erased.

        Raises:
            LocalError: our ratchet is beyond it, or too far behind.
        """
        tree, leaf = self._live(), self.own_leaf
        if leaf is None:
            raise LocalError("these message keys have no leaf of ours to send from")
        chain = self._chains.get(2 * leaf + ratchet)
        start = chain.generation if chain is not None else 0
        if not start <= generation < min(start + ADVANCE_MAX, GENERATIONS):
            raise LocalError(f"our {ratchet.name.lower()} ratchet is at {start} and does not go to {generation}")
        if chain is None:
            chain = self._start(tree, leaf, ratchet, None)
        secret = chain.secret
        for passed in range(start, generation):
            secret = next_secret(self.suite, secret, passed)
        key, nonce = key_and_nonce(self.suite, secret, generation)
        chain.secret, chain.generation = next_secret(self.suite, secret, generation), generation + 1
        return MessageKey(leaf, ratchet, generation, key, nonce)

    def mark_sent(self, ratchet: Ratchet, generation: int) -> None:
        """Erase our own keys up to this generation, as a ledger says that they were given out."""
        chain = None if self.own_leaf is None else self._chains.get(2 * self.own_leaf + ratchet)
        if chain is None or generation >= chain.generation:
            self.advance(ratchet, generation)

    def sent(self, ratchet: Ratchet) -> int:
        """Our own generations below this one are erased here."""
        return 0 if self.own_leaf is None else self.following(self.own_leaf, ratchet)

    def following(self, leaf: int, ratchet: Ratchet) -> int:
        """The generation after the highest of a member's that was used here."""
        chain = self._chains.get(2 * leaf + ratchet)
        return 0 if chain is None else chain.generation

    # -- the one and only -------------------------------------------------------------------------------

    def wipe(self) -> None:
        """Erase every secret; the epoch's messages can no longer be sent or received."""
        self._tree = None
        self._chains = {}
        self._kept_count = 0

    @property
    def wiped(self) -> bool:
        return self._tree is None

    def __copy__(self) -> NoReturn:
        raise LocalError("message keys are not copied: the copy would use a key twice")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise LocalError("message keys are not pickled: store to_bytes() where secrets may be stored")

    # -- to bytes and back ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Every secret that is left, to be sealed by whoever stores it: as large as what was used, not the group."""
        tree = self._live()
        own = None if self.own_leaf is None else uint32(self.own_leaf)
        return b"".join(
            (
                uint8(STATE_VERSION),
                uint16(self.suite.id),
                uint32(tree.leaf_count),
                optional(own),
                vector(uint32(node) + opaque(secret) for node, secret in tree.nodes()),
                vector(_encode_chain(number, chain) for number, chain in sorted(self._chains.items())),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "MessageKeys":
        """What was stored, in place of the object that stored it: never both.

        Raises:
            LocalError: these are not the bytes of message keys.
        """
        try:
            return decode(cls._read, data)
        except MlsError as error:
            raise LocalError(f"these are no stored message keys: {error}") from None

    @classmethod
    def _read(cls, reader: Reader) -> "MessageKeys":
        read_version(reader, "message keys", STATE_VERSION)
        suite = cipher_suite(reader.uint16())
        leaf_count, own_leaf = reader.uint32(), reader.optional(Reader.uint32)
        nodes, chains = dict(reader.vector(_read_node)), dict(reader.vector(_read_chain))
        _check_state(suite, leaf_count, nodes, chains)
        keys = cls.__new__(cls)
        keys._setup(SecretTree(suite, leaf_count, nodes), suite, own_leaf)
        keys._chains = chains
        keys._kept_count = sum(len(chain.kept) for chain in chains.values())
        return keys

    # -- derivation -------------------------------------------------------------------------------------

    def _live(self) -> SecretTree:
        if self._tree is None:
            raise LocalError("these message keys were wiped: their epoch is closed")
        return self._tree

    def _start(self, tree: SecretTree, leaf: int, ratchet: Ratchet, split: Split | None) -> Chain:
        """Both ratchets of a leaf, in place of its secret."""
        if split is None or not tree.take(split):
            split = tree.split(leaf)
            tree.take(split)
        for each in Ratchet:
            self._chains[2 * leaf + each] = Chain(first_secret(self.suite, split.leaf_secret, each))
        return self._chains[2 * leaf + ratchet]

    def _bound(self, chain: Chain) -> None:
        """Keep to the limits after this ratchet has jumped."""
        self._kept_count -= chain.drop_oldest(len(chain.kept) - SKIPPED_MAX)
        while self._kept_count > SKIPPED_TOTAL_MAX:
            _, most = max(self._chains.items(), key=lambda item: (len(item[1].kept), item[0]))
            self._kept_count -= most.drop_oldest((len(most.kept) + 1) // 2)


def _encode_chain(number: int, chain: Chain) -> bytes:
    return uint32(number) + chain.encode()


def _read_chain(reader: Reader) -> tuple[int, Chain]:
    return reader.uint32(), Chain.read(reader)


def _read_node(reader: Reader) -> tuple[int, bytes]:
    return reader.uint32(), reader.opaque()


def _check_state(suite: CipherSuite, leaf_count: int, nodes: dict[int, bytes], chains: dict[int, Chain]) -> None:
    size, pair_size = suite.hash_size, suite.key_size + suite.nonce_size
    sound = all(0 < node < 2 * leaf_count and len(secret) == size for node, secret in nodes.items())
    for number, chain in chains.items():
        order = [chain.floor, *chain.kept, chain.generation]
        sound &= number < 2 * leaf_count and len(chain.secret) == size and order == sorted(order)
        sound &= all(len(pair) == pair_size for pair in chain.kept.values())
    if not sound:
        raise LocalError(f"these are no message keys of {suite.name} for {leaf_count} leaves")
