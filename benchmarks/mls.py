"""MLS beside other implementations: the same operations on groups of 2 to 10,000, from bytes to bytes.

``peers/mls.py`` says what each operation is. Ours is done as an application does it, through ``Group``: the figures
include the ledger's reservation and the records to be stored. ``ratio`` is our time over that of the fastest peer
that can be had from Python or JavaScript (``ts-mls``, ``core-crypto``, ``openmls-wasm``, ``rfc9420``); below 1 we
are faster. ``native_ratio`` is the same against the faster of OpenMLS and mls-rs compiled from Rust.

The floors come last: a join beside nothing but its signature checks, the worst commit (a blank tree) beside the bare
primitives of its encryptions, and two threads beside one.

Groups without blank parents are built directly, as 10,000 commits would take minutes and end in the same tree; a
peer joins one as its first and its last member.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from statistics import median
from typing import Any, Final

from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from benchmarks.peers.mls import Missing, Peer, one_core, peers
from benchmarks.rows import OURS, Row, interleaved, key, main, rounded, row, skipped, time_us, traced_bytes
from protocols.crypto import SHA256, aes_gcm, ed25519_sign
from protocols.mls.client import KeyPackageBundle, default_capabilities, lifetime_from, new_key_package
from protocols.mls.committing import make_commit
from protocols.mls.credentials import BasicCredential
from protocols.mls.epoch import Epoch, entered, take_message_keys
from protocols.mls.founding import found
from protocols.mls.framing import member
from protocols.mls.group import Group
from protocols.mls.group_context import GroupContext
from protocols.mls.joining import stage_welcome
from protocols.mls.key_package import MLS_1_0, KeyPackage
from protocols.mls.key_schedule import confirmation_tag, derived_secrets
from protocols.mls.leaf_node import LEAF_NODE_LABEL, LeafIndex
from protocols.mls.message import encode_message, parse
from protocols.mls.message_keys import MessageKeys
from protocols.mls.opening import VerifiedCommit
from protocols.mls.outcomes import OwnCommit
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposals import Add, Remove
from protocols.mls.protection import no_padding
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Services
from protocols.mls.staging import Checks
from protocols.mls.suite import cipher_suite
from protocols.mls.tree_private import TreePrivate
from protocols.mls.welcome import Welcome
from tests.protocols.mls.trees import KeyedTree, filled_tree

SUITE: Final = cipher_suite(1)
SIZES: Final = (2, 10, 100, 1_000, 10_000)
QUICK_SIZES: Final = (2, 10)
OPERATIONS: Final = (
    "key_package",
    "create",
    "add_one",
    "process_add",
    "add_one_no_path",
    "process_add_no_path",
    "commit_blank",
    "process_blank",
    "commit_full",
    "process_full",
    "join",
    "send",
    "receive",
)
STORED: Final = ("state_bytes", "memory_bytes")
TO_BE_STORED: Final = (
    "stored_after_send",
    "stored_after_receive",
    "stored_after_commit_full",
    "stored_after_process_full",
)
"""What has to become durable for one message or commit."""
NATIVE: Final = ("openmls", "mls-rs")
TEXT: Final = os.urandom(100)
NOW_S: Final = int(time.time()) + 1_800
"""The peers make their key packages later, and some of them to the second."""
NOW_NS: Final = NOW_S * 1_000_000_000


def run(quick: bool) -> Iterator[Row]:
    """Every operation at every size, then what is stored, then the floors."""
    others: list[Peer] = []
    for each in peers(quick):
        if isinstance(each, Missing):
            yield skipped("mls", "all", each.name, each.reason)
        else:
            others.append(each)
    try:
        for n in QUICK_SIZES if quick else SIZES:
            ours = Ours(n)
            yield from _let_in(others, n)
            for operation in OPERATIONS:
                with one_core():
                    line = _timed(operation, n, ours, others, 1 if quick else _rounds(n, operation))
                yield line
            for operation in STORED:
                yield _sized(operation, n, ours, others)
            for operation in TO_BE_STORED:
                yield row("mls", f"{operation}, {n:,}", "bytes", {OURS: [ours.measure(operation)]})
            if n > 2:
                yield from _floors(n, ours, 1 if quick else _rounds(n))
    finally:
        for peer in others:
            peer.close()


def _rounds(n: int, operation: str = "") -> int:
    """Some create a group of 10,000 in half a minute."""
    return 7 if n <= 100 else 5 if n <= 1_000 else 1 if operation == "create" else 3


def _timed(operation: str, n: int, ours: "Ours", others: list[Peer], rounds: int) -> Row:
    """One row: everybody who can do it takes turns."""
    contenders: dict[str, Callable[[], float]] = {OURS: partial(_turn, partial(ours.measure, operation), n)}
    missing = {}
    for peer in others:
        # The first answer tells whether it can, and warms it up.
        if peer.measure(operation, n) is None:
            missing[f"{key(peer.name)}_cannot"] = peer.reason(operation, n)
        else:
            contenders[peer.name] = partial(_turn, partial(_asked, peer, operation, n), n)
    ours.measure(operation)
    figures = interleaved(contenders, rounds)
    managed = [who for who in figures if who not in (OURS, *NATIVE)]
    fastest = min(managed, key=lambda who: median(figures[who]), default=None)
    natives = [median(figures[who]) for who in NATIVE if who in figures]
    more: dict[str, Any] = {**missing}
    if operation in ours.sizes:
        more["bytes"] = ours.sizes[operation]
    if natives:
        more["native_ratio"] = rounded(median(figures[OURS]) / min(natives))
    result = row("mls", f"{operation}, {n:,}", "us", figures, beside=fastest, **more)
    return result if managed else result | {"ratio": None}


def _turn(measure: Callable[[], float], n: int) -> float:
    """Several times in a row where it is quick, as the first finds the caches full of another's data."""
    return median(measure() for _ in range(5 if n <= 100 else 1))


def _asked(peer: Peer, operation: str, n: int) -> float:
    figure = peer.measure(operation, n)
    if figure is None:
        raise RuntimeError(f"{peer.name}, {operation} at {n}: {peer.reason(operation, n)}")
    return figure


def _sized(operation: str, n: int, ours: "Ours", others: list[Peer]) -> Row:
    """A size needs no rounds."""
    figures = {OURS: [ours.measure(operation)]}
    for peer in others:
        if (figure := peer.measure(operation, n)) is not None:
            figures[peer.name] = [figure]
    return row("mls", f"{operation}, {n:,}", "bytes", figures)


def _let_in(others: list[Peer], n: int) -> Iterator[Row]:
    """Each peer gets into a group of ours that has no blank parent, as far as it can."""
    for peer in others:
        cannot = any(peer.reason("process_full", smaller) for smaller in SIZES if smaller <= peer.largest.full)
        if n > peer.largest.full and n > 2 and not cannot:
            try:
                packages = [each for each in map(parse, peer.packages(n)) if isinstance(each, KeyPackage)]
                peer.enter(n, welcome_to_full(n, packages))
            except (ValueError, TimeoutError) as error:
                yield skipped("mls", f"a group of {n:,} without blank parents", peer.name, error)


# -- ours -------------------------------------------------------------------------------------------


@cache
def client(number: int) -> KeyPackageBundle:
    """The key package of one of all the clients there are."""
    private, public = SUITE.signature_key_pair(os.urandom)
    return key_package(number, private, public)


def key_package(number: int, private: bytes, public: bytes) -> KeyPackageBundle:
    return new_key_package(
        SUITE,
        BasicCredential(b"member %d" % number),
        signature_private=private,
        signature_public=public,
        capabilities=default_capabilities(),
        lifetime=lifetime_from(NOW_S),
        entropy=os.urandom,
    )


class Member:
    """An epoch as a value, from which a group can be made as often as an operation is measured."""

    def __init__(self, epoch: Epoch, keys: MessageKeys) -> None:
        self.epoch: Final = epoch
        self.keys: Final = keys.to_bytes()

    def group(self) -> Group:
        keys = MessageKeys.from_bytes(self.keys)
        return Group(self.epoch, keys, ledger=SendLedger(), now_ns=NOW_NS)


class Ours:
    """Groups of ``n`` of ours, and what is done with them."""

    def __init__(self, n: int) -> None:
        self.n: Final = n
        self.sizes: Final[dict[str, int]] = {}
        self.newcomer: Final = client(-1)
        self.bundles: Final = [client(number) for number in range(n)]
        founded = found(self.bundles[0], b"group", (), os.urandom)
        adds = [SentProposal(Add(each.key_package), member(0)) for each in self.bundles[1:]]
        created = make_commit(founded.epoch, adds, entropy=os.urandom)
        assert created.next is not None
        assert created.keys is not None
        self.welcome: Final = encode_message(created.welcomes[0].welcome)
        self.first: Final = Member(created.next, created.keys)
        self.last: Final = Member(*self._joined())
        self.full: Final = (_full_member(n, LeafIndex(0)), _full_member(n, LeafIndex(n - 1)))

    def _joined(self) -> tuple[Epoch, MessageKeys]:
        joined = stage_welcome(_welcome(self.welcome), [self.bundles[-1]], checks=Checks(now_s=NOW_S))
        return joined.epoch, joined.keys

    def measure(self, operation: str) -> float:
        """Microseconds, or bytes of what is stored."""
        figure: float = getattr(self, operation)()
        return figure

    def key_package(self) -> float:
        bundle = self.newcomer
        public = bundle.key_package.leaf_node.signature_key
        return time_us(lambda: encode_message(key_package(0, bundle.signature_private, public).key_package), 1)

    def create(self) -> float:
        adds = [Add(each.key_package) for each in self.bundles[1:]]

        def work() -> None:
            group = Group.create(self.bundles[0], b"group", entropy=os.urandom, now_ns=NOW_NS)
            own = group.commit(adds, entropy=os.urandom, now_ns=NOW_NS, padding=no_padding)
            group.adopt(own.commit, now_ns=NOW_NS)
            self.sizes["create"] = len(encode_message(own.commit.welcomes[0].welcome))

        return time_us(work, 1)

    def add_one(self, with_path: bool = True) -> float:
        group = self.first.group()

        def work() -> None:
            own = _commit(group, [Add(self.newcomer.key_package)], with_path)
            group.adopt(own.commit, now_ns=NOW_NS)
            encode_message(own.commit.welcomes[0].welcome)
            self.sizes["add_one" if with_path else "add_one_no_path"] = len(own.message)

        return time_us(work, 1)

    def process_add(self, with_path: bool = True) -> float:
        own = _commit(self.first.group(), [Add(self.newcomer.key_package)], with_path)
        return self._processed(self.last, own)

    def add_one_no_path(self) -> float:
        return self.add_one(with_path=False)

    def process_add_no_path(self) -> float:
        return self.process_add(with_path=False)

    def commit_blank(self) -> float:
        return self._committed(self.first, "commit_blank")

    def process_blank(self) -> float:
        return self._processed(self.last, _commit(self.first.group()))

    def commit_full(self) -> float:
        return self._committed(self.full[0], "commit_full")

    def process_full(self) -> float:
        return self._processed(self.full[1], _commit(self.full[0].group()))

    def _committed(self, committer: Member, operation: str) -> float:
        group = committer.group()

        def work() -> None:
            own = _commit(group)
            group.adopt(own.commit, now_ns=NOW_NS)
            self.sizes[operation] = len(own.message)

        return time_us(work, 1)

    def _processed(self, member: Member, own: OwnCommit) -> float:
        group = member.group()

        def work() -> None:
            received = group.receive(own.message)
            assert isinstance(received.content, VerifiedCommit)
            group.adopt(group.stage(received.content, now_ns=NOW_NS).commit, now_ns=NOW_NS)

        return time_us(work, 1)

    def join(self) -> float:
        self.sizes["join"] = len(self.welcome)

        def work() -> None:
            joined = stage_welcome(_welcome(self.welcome), [self.bundles[-1]], checks=Checks(now_s=NOW_S))
            Group.join(joined, now_ns=NOW_NS, ledger=SendLedger())

        return time_us(work, 1)

    def send(self) -> float:
        group = self.first.group()
        _say(group)
        self.sizes["send"] = len(_say(group))
        return time_us(partial(_say, group), 20)

    def receive(self) -> float:
        sender, receiver = self.first.group(), self.last.group()
        receiver.receive(_say(sender))
        messages = iter([_say(sender) for _ in range(20)])
        return time_us(lambda: receiver.receive(next(messages)), 20)

    def stored_after_send(self) -> float:
        sent = self.first.group().send(TEXT, entropy=os.urandom)
        return sum(map(len, (*sent.reservations, *sent.records)))

    def stored_after_receive(self) -> float:
        return len(self.last.group().receive(_say(self.first.group())).record)

    def stored_after_commit_full(self) -> float:
        own = _commit(self.full[0].group())
        return sum(map(len, (*own.reservations, own.record)))

    def stored_after_process_full(self) -> float:
        group = self.full[1].group()
        received = group.receive(_commit(self.full[0].group()).message)
        assert isinstance(received.content, VerifiedCommit)
        return len(received.record) + len(group.stage(received.content, now_ns=NOW_NS).record)

    def state_bytes(self) -> float:
        return len(self.last.group().to_bytes())

    def memory_bytes(self) -> float:
        """One more member's group, sharing nothing with another."""
        return traced_bytes(lambda _: Member(*self._joined()).group(), 2 if self.n <= 1_000 else 1)


def welcome_to_full(n: int, packages: Sequence[KeyPackage]) -> bytes:
    """A Welcome to two, who become the first and the last member of a group without blank parents.

    The first takes the place of a member, and the second comes to its end: one of the parents above it was of no use
    before and stays blank, and those further up have it as an unmerged leaf. To go where a commit of the first
    leads costs it the same.
    """
    first, last = packages
    own = _commit(_full_member(n - 1, LeafIndex(1)).group(), [Remove(0), Add(first), Add(last)])
    assert [leaf for leaf, _ in own.commit.added] == [0, n - 1]
    return encode_message(own.commit.welcomes[0].welcome)


def _say(group: Group) -> bytes:
    return group.send(TEXT, entropy=os.urandom, padding=no_padding).message


def _commit(group: Group, proposals: Any = (), with_path: bool = True) -> OwnCommit:
    return group.commit(proposals, entropy=os.urandom, now_ns=NOW_NS, with_path=with_path, padding=no_padding)


def _welcome(data: bytes) -> Welcome:
    message = parse(data)
    assert isinstance(message, Welcome)
    return message


def _full_member(n: int, leaf: LeafIndex) -> Member:
    """One of a group without blank parents."""
    keyed = _filled(n)
    context = GroupContext(MLS_1_0, SUITE.id, b"full", n, keyed.tree.tree_hash, bytes(32), ())
    secrets = derived_secrets(SUITE, bytes(32))
    tag = confirmation_tag(SUITE, secrets.confirmation_key, context.confirmed_transcript_hash)
    kept, keys = take_message_keys(SUITE, secrets, keyed.tree, leaf)
    private = TreePrivate(leaf, keyed.leaf_private(leaf), keyed.path_privates(leaf))
    signature_private = keyed.signature_keys[leaf].private
    return Member(entered(SUITE, context, keyed.tree, tag, kept, private, signature_private), keys)


@cache
def _filled(n: int) -> KeyedTree:
    return filled_tree(SUITE, n, group_id=b"full")


# -- floors -----------------------------------------------------------------------------------------


def _floors(n: int, ours: Ours, rounds: int) -> Iterator[Row]:
    leaves = [each.key_package.leaf_node for each in ours.bundles]
    signed = [(each.signature_key, each.to_be_signed(b"", 0), each.signature) for each in leaves]

    def signatures() -> None:
        for public, content, signature in signed:
            SUITE.verify_with_label(public, LEAF_NODE_LABEL, content, signature)

    with ThreadPoolExecutor(2) as pool:

        def join_threaded() -> float:
            checks = Checks(now_s=NOW_S, run=pool.map)
            return time_us(lambda: stage_welcome(_welcome(ours.welcome), [ours.bundles[-1]], checks=checks), 1)

        def commit_threaded() -> float:
            keys = MessageKeys.from_bytes(ours.first.keys)
            services = Services(run=pool.map)
            group = Group(ours.first.epoch, keys, ledger=SendLedger(), now_ns=NOW_NS, services=services)
            return time_us(lambda: _commit(group), 1)

        joins: dict[str, Callable[[], float]] = {
            OURS: partial(ours.measure, "join"),
            "signature checks": lambda: time_us(signatures, 1),
            "two threads": join_threaded,
        }
        yield row("mls", f"join beside its floor, {n:,}", "us", interleaved(joins, rounds), cores=2)
        commits: dict[str, Callable[[], float]] = {
            OURS: partial(ours.measure, "commit_blank"),
            "primitives": lambda: time_us(partial(_commit_primitives, leaves), 1),
            "two threads": commit_threaded,
        }
        yield row("mls", f"commit_blank beside its floor, {n:,}", "us", interleaved(commits, rounds), cores=2)


def _commit_primitives(leaves: list[Any]) -> None:
    """What an empty commit needs on a blank tree, with nothing around it: two signatures, a key pair for the leaf and
    for each node of the path, and HPKE to everybody else (RFC 9180 §4.1, §5.1)."""
    seed, public = SUITE.signature_key_pair(os.urandom)
    for _ in range(2):
        ed25519_sign(seed, public, bytes(300))
    for _ in range((len(leaves) - 1).bit_length() + 1):
        crypto_scalarmult_base(os.urandom(32))
    hmac, nonce, text = SHA256.hmac, bytes(12), bytes(32)
    for leaf in leaves[1:]:
        private = hmac(b"", os.urandom(32))
        hmac(private, text)
        crypto_scalarmult_base(private)
        shared = crypto_scalarmult(private, leaf.encryption_key)
        for _ in range(5):
            shared = hmac(shared, text)
        aes_gcm(shared[:16]).encrypt(nonce, text, b"")


if __name__ == "__main__":
    main(run)
