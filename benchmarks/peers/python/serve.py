"""The ``rfc9420`` package, asked and answering in JSON lines on standard input and output.

It runs in an environment of its own, so this file imports nothing of ours. Every measurement starts from a copy, made
before the clock starts.

Some things are unlike the others. Its commits and proposals are public messages: it has no private ones. And an add
is a signed proposal first, which everybody processes, and a commit that refers to it then: it offers no other way.
A path is never signed: its commits with one are measured for what they do, but nobody accepts them, not even itself.
"""

import copy
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

TEXT = bytes([7]) * 100
MESSAGES = 20
BATCH = 1_000
"""Adds in one commit of those that make a group: their time grows with the square."""

_keys = import_module("cryptography.hazmat.primitives.asymmetric.x25519").X25519PrivateKey
_signing_keys = import_module("cryptography.hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey
_packages = import_module("rfc9420.messages.key_packages")
_structures = import_module("rfc9420.messages.data_structures")
_messages = import_module("rfc9420.messages.messages")
_wire = import_module("rfc9420.interop.wire")
_group = import_module("rfc9420.group.mls_group.processing").MLSGroup
_capabilities = import_module("rfc9420.extensions.extensions").build_capabilities_data

CRYPTO = import_module("rfc9420").DefaultCryptoProvider()


class UnsupportedError(Exception):
    """What this library cannot do."""


@dataclass
class Member:
    name: bytes
    signing: Any = field(default_factory=_signing_keys.generate)
    init: bytes = b""
    encryption: bytes = b""
    package: bytes = b""
    group: Any = None

    @property
    def key(self) -> bytes:
        return bytes(self.signing.private_bytes_raw())

    def copy(self) -> "Member":
        """The same member, whose group shares nothing that changes."""
        return replace(self, group=copy.deepcopy(self.group, {id(CRYPTO): CRYPTO}))


@dataclass
class Sent:
    proposals: list[bytes]
    commit: bytes
    welcome: bytes


def key_package(member: Member) -> bytes:
    init, encryption = _keys.generate(), _keys.generate()
    public = member.signing.public_key().public_bytes_raw()
    leaf = _packages.LeafNode(
        encryption_key=encryption.public_key().public_bytes_raw(),
        signature_key=public,
        credential=_structures.Credential(identity=member.name, public_key=public),
        capabilities=_capabilities([1], []),
        lifetime_not_after=2**63,
    )
    signature = CRYPTO.sign_with_label(member.key, b"LeafNodeTBS", leaf.tbs_serialize())
    leaf = replace(leaf, signature=_structures.Signature(signature))
    package = _packages.KeyPackage(init_key=init.public_key().public_bytes_raw(), leaf_node=leaf)
    signature = CRYPTO.sign_with_label(member.key, b"KeyPackageTBS", package.tbs_serialize())
    member.init, member.encryption = init.private_bytes_raw(), encryption.private_bytes_raw()
    member.package = replace(package, signature=_structures.Signature(signature)).serialize()
    return member.package


def create(member: Member) -> None:
    if not member.package:
        key_package(member)
    member.group = _group.create(os.urandom(16), _packages.KeyPackage.deserialize(member.package), CRYPTO)


def commit(member: Member, adds: list[bytes]) -> Sent:
    group, proposals = member.group, []
    for package in adds:
        proposal = group.create_add_proposal(_packages.KeyPackage.deserialize(package), member.key)
        proposals.append(proposal.serialize())
        group.process_proposal(proposal, _sender(group.get_own_leaf_index()))
    pending = group.create_commit(member.key)
    group.apply_own_commit(pending)
    welcomes = pending.welcomes
    return Sent(proposals, pending.commit_message.serialize(), welcomes[0].serialize() if welcomes else b"")


def create_with(member: Member, packages: list[bytes]) -> Sent:
    create(member)
    return commit(member, packages)


def process(member: Member, sender: int, sent: Sent) -> None:
    for proposal in sent.proposals:
        member.group.process_proposal(_messages.MLSPlaintext.deserialize(proposal), _sender(sender))
    member.group.process_commit(_messages.MLSPlaintext.deserialize(sent.commit), sender)


def join(member: Member, welcome: bytes) -> None:
    member.group = _group.from_welcome(
        _structures.Welcome.deserialize(welcome),
        member.init,
        CRYPTO,
        key_package=_packages.KeyPackage.deserialize(member.package),
        encryption_private_key=member.encryption,
    )


def send(member: Member) -> bytes:
    return bytes(_wire.encode_application(member.group.protect(TEXT, signing_key=member.key)))


def receive(member: Member, message: bytes) -> None:
    if member.group.unprotect(_wire.decode_application(message))[1] != TEXT:
        raise ValueError("another text came out")


def receive_all(member: Member, messages: list[bytes]) -> None:
    for message in messages:
        receive(member, message)


def _sender(leaf: int) -> Any:
    return _structures.Sender(leaf, _structures.SenderType.MEMBER)


@dataclass
class Group:
    first: Member
    last: Member
    creator: Member
    packages: list[bytes]
    joiner: Member
    welcome: bytes


def created(n: int) -> Group:
    """The group of ``create``, in several commits where it is large: the tree is the same."""
    creator, clients = Member(b"0"), [Member(b"%d" % number) for number in range(1, n)]
    packages = [key_package(client) for client in clients]
    first = creator.copy()
    create(first)
    for start in range(0, n - 1, BATCH):
        welcome = commit(first, packages[start : start + BATCH]).welcome
    last = clients[-1].copy()
    join(last, welcome)
    return Group(first, last, creator, packages, clients[-1], welcome)


_created: dict[int, Group] = {}


def measure(op: str, n: int) -> dict[str, Any]:
    if op in ("add_one", "process_add"):
        raise UnsupportedError("its adds have no path, and nothing of its own forces one")
    if op == "process_blank" or op.endswith("_full"):
        raise UnsupportedError("it refuses its own paths: it leaves the leaf in them as it was signed before")
    if op == "key_package":
        member = Member(b"x")
        us, package = timed(lambda: key_package(member))
        return {"us": us, "bytes": len(package)}
    if n not in _created:
        _created[n] = created(n)
    group = _created[n]
    match op:
        case "create":
            creator = group.creator.copy()
            us, sent = timed(lambda: create_with(creator, group.packages))
            return {"us": us, "bytes": len(sent.commit) + sum(map(len, sent.proposals)), "welcome": len(sent.welcome)}
        case "join":
            joiner = group.joiner.copy()
            us, _ = timed(lambda: join(joiner, group.welcome))
            return {"us": us, "bytes": len(group.welcome)}
        case "memory_bytes":
            joiner = group.joiner.copy()
            gc.collect()
            tracemalloc.start()
            join(joiner, group.welcome)
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            return {"bytes": size}
        case "add_one_no_path" | "process_add_no_path" | "commit_blank":
            adds = [key_package(Member(b"one more"))] if "add" in op else []
            first = group.first.copy()
            us, sent = timed(lambda: commit(first, adds))
            if op.startswith("process"):
                last = group.last.copy()
                us, _ = timed(lambda: process(last, 0, sent))
            return {"us": us, "bytes": len(sent.commit) + sum(map(len, sent.proposals))}
        case "send" | "receive":
            first, last = group.first.copy(), group.last.copy()
            receive(last, send(first))
            us, messages = timed(lambda: [send(first) for _ in range(MESSAGES)])
            if op == "receive":
                us, _ = timed(lambda: receive_all(last, messages))
            return {"us": us / MESSAGES, "bytes": len(messages[0])}
        case "state_bytes":
            return {"bytes": len(group.last.group.to_bytes())}
    raise UnsupportedError(f"no such operation: {op}")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter_ns()
    result = work()
    return (time.perf_counter_ns() - start) / 1_000, result


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = measure(request["op"], request["n"])
        except UnsupportedError as error:
            answer = {"unsupported": str(error)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
