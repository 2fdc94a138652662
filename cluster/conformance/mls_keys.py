"""The published vectors of RFC 9420 §6, §8 and §9: key schedule, PSKs, secret tree, transcripts, protection.

The shapes are those of the MLS working group's ``test-vectors``: an array of cases, a cipher suite in each.
"""

from typing import Any

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, numbered, octets, suite_of
from protocols.mls.codec import decode
from protocols.mls.commit import Commit
from protocols.mls.framing import (
    ApplicationData,
    AuthenticatedContent,
    Content,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    WireFormat,
    member,
)
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import MLS_1_0
from protocols.mls.key_schedule import (
    confirmation_tag,
    epoch_secrets,
    exporter,
    external_key_pair,
    joiner_secret,
    welcome_secret,
)
from protocols.mls.message import encode_message, parse
from protocols.mls.message_keys import MessageKeys
from protocols.mls.proposals import read_proposal
from protocols.mls.protection import (
    buckets,
    open_private,
    open_public,
    public_message,
    seal_private,
    sender_data_key_nonce,
    sign_content,
    verify_content,
)
from protocols.mls.psk import ExternalPsk, psk_secret
from protocols.mls.ratchets import Ratchet
from protocols.mls.suite import CipherSuite
from protocols.mls.transcript import confirmed_transcript_hash, interim_transcript_hash

_SENDER = 1
_LEAVES = 2
"""Every message of the message-protection vectors is sent by leaf 1 of a tree of two."""


def _bytes(case: Any, field: str) -> bytes:
    return octets(case[field])


# -- key schedule (§8) ------------------------------------------------------------------------------


def _run_key_schedule(case: Any) -> None:
    suite, group_id = suite_of(case), _bytes(case, "group_id")
    init_secret = _bytes(case, "initial_init_secret")
    for number, epoch in enumerate(case["epochs"]):
        hashes = _bytes(epoch, "tree_hash"), _bytes(epoch, "confirmed_transcript_hash")
        context = GroupContext(MLS_1_0, suite.id, group_id, number, *hashes, ()).encode()
        psk = _bytes(epoch, "psk_secret")
        joiner = joiner_secret(suite, init_secret, _bytes(epoch, "commit_secret"), context)
        secrets = epoch_secrets(suite, joiner, psk, context)
        init_secret = secrets.init_secret
        export = epoch["exporter"]
        ours = {
            "group_context": context,
            "joiner_secret": joiner,
            "welcome_secret": welcome_secret(suite, joiner, psk),
            **{field: getattr(secrets, field) for field in secrets.__struct_fields__},
            "external_pub": external_key_pair(suite, secrets.external_secret)[1],
        }
        for field, value in ours.items():
            expect_equal(f"epoch {number}: {field}", value, _bytes(epoch, field))
        label, context, size = export["label"].encode(), _bytes(export, "context"), export["length"]
        exported = exporter(suite, secrets.exporter_secret, label, context, size)
        expect_equal(f"epoch {number}: exporter", exported, _bytes(export, "secret"))


def _run_psk_secret(case: Any) -> None:
    suite = suite_of(case)
    psks = [(ExternalPsk(_bytes(psk, "psk_id"), _bytes(psk, "psk_nonce")), _bytes(psk, "psk")) for psk in case["psks"]]
    expect_equal("psk_secret", psk_secret(suite, psks), _bytes(case, "psk_secret"))


def _run_transcript_hashes(case: Any) -> None:
    suite = suite_of(case)
    authenticated = decode(AuthenticatedContent.read, _bytes(case, "authenticated_content"))
    confirmed = confirmed_transcript_hash(suite, _bytes(case, "interim_transcript_hash_before"), authenticated)
    expect_equal("confirmed transcript hash", confirmed, _bytes(case, "confirmed_transcript_hash_after"))
    tag = confirmation_tag(suite, _bytes(case, "confirmation_key"), confirmed)
    expect_equal("confirmation tag", authenticated.auth.confirmation_tag, tag)
    interim = interim_transcript_hash(suite, confirmed, tag)
    expect_equal("interim transcript hash", interim, _bytes(case, "interim_transcript_hash_after"))


# -- secret tree (§9) -------------------------------------------------------------------------------


def _run_secret_tree(case: Any) -> None:
    suite, published = suite_of(case), case["sender_data"]
    secret, ciphertext = _bytes(published, "sender_data_secret"), _bytes(published, "ciphertext")
    key, nonce = sender_data_key_nonce(suite, secret, ciphertext)
    expect_equal("sender data key", key, _bytes(published, "key"))
    expect_equal("sender data nonce", nonce, _bytes(published, "nonce"))
    keys = MessageKeys(suite, _bytes(case, "encryption_secret"), len(case["leaves"]))
    for leaf, generations in enumerate(case["leaves"]):
        for expected in generations:
            for ratchet in Ratchet:
                where = f"leaf {leaf}, {ratchet.name.lower()}, generation {expected['generation']}"
                opening = keys.peek(leaf, ratchet, expected["generation"])
                keys.consume(opening)
                name = ratchet.name.lower()
                expect_equal(f"key of {where}", opening.key.key, _bytes(expected, f"{name}_key"))
                expect_equal(f"nonce of {where}", opening.key.nonce, _bytes(expected, f"{name}_nonce"))


# -- message protection (§6) ------------------------------------------------------------------------


def _run_message_protection(case: Any) -> None:
    suite = suite_of(case)
    contents = {
        "proposal": decode(read_proposal, _bytes(case, "proposal")),
        "commit": decode(Commit.read, _bytes(case, "commit")),
        "application": ApplicationData(_bytes(case, "application")),
    }
    for name, content in contents.items():
        for form in ("pub", "priv"):
            if f"{name}_{form}" in case:
                published = _bytes(case, f"{name}_{form}")
                opened = _opened(suite, case, published)
                expect_equal(f"{name}_{form}", opened, content.encode())
            elif (name, form) != ("application", "pub"):
                raise MismatchError(f"{name}_{form} is missing")
            if (name, form) != ("application", "pub"):
                opened = _opened(suite, case, _protected(suite, case, content, form))
                expect_equal(f"{name}, protected by us ({form})", opened, content.encode())


def _context(suite: CipherSuite, case: Any) -> bytes:
    hashes = _bytes(case, "tree_hash"), _bytes(case, "confirmed_transcript_hash")
    return GroupContext(MLS_1_0, suite.id, _bytes(case, "group_id"), case["epoch"], *hashes, ()).encode()


def _opened(suite: CipherSuite, case: Any, message: bytes) -> bytes:
    """The content of a message whose tags and signature verify, encoded."""
    context, parsed = _context(suite, case), parse(message)
    if isinstance(parsed, PrivateMessage):
        keys = MessageKeys(suite, _bytes(case, "encryption_secret"), _LEAVES)
        authenticated, _ = open_private(suite, _bytes(case, "sender_data_secret"), keys, parsed)
    elif isinstance(parsed, PublicMessage):
        authenticated = open_public(suite, _bytes(case, "membership_key"), parsed, context)
    else:
        raise MismatchError(f"a {type(parsed).__name__} where a public or private message was expected")
    verify_content(suite, _bytes(case, "signature_pub"), authenticated, context)
    expect_equal("sender", authenticated.content.sender, member(_SENDER))
    return authenticated.content.content.encode()


def _protected(suite: CipherSuite, case: Any, content: Content, form: str) -> bytes:
    context = _context(suite, case)
    framed = FramedContent(_bytes(case, "group_id"), case["epoch"], member(_SENDER), b"authenticated", content)
    wire_format = WireFormat.PUBLIC_MESSAGE if form == "pub" else WireFormat.PRIVATE_MESSAGE
    tag = bytes(suite.hash_size) if isinstance(content, Commit) else None
    # A published scalar of P-521 comes without its leading zero.
    private = _bytes(case, "signature_priv").rjust(suite.signature.private_size, b"\0")
    public = _bytes(case, "signature_pub")
    authenticated = sign_content(suite, private, public, wire_format, framed, context, tag)
    if form == "pub":
        return encode_message(public_message(suite, _bytes(case, "membership_key"), authenticated, context))
    keys = MessageKeys(suite, _bytes(case, "encryption_secret"), _LEAVES, own_leaf=_SENDER)
    kind = Ratchet.APPLICATION if isinstance(content, ApplicationData) else Ratchet.HANDSHAKE
    secret = _bytes(case, "sender_data_secret")
    return encode_message(seal_private(suite, secret, keys.advance(kind, 0), authenticated, b"\1\2\3\4", buckets))


register(Kind("MLS key-schedule", cases_with("initial_init_secret", "epochs"), numbered, _run_key_schedule))
register(Kind("MLS psk_secret", cases_with("psks", "psk_secret"), numbered, _run_psk_secret))
register(Kind("MLS transcript-hashes", cases_with("interim_transcript_hash_before"), numbered, _run_transcript_hashes))
register(Kind("MLS secret-tree", cases_with("encryption_secret", "leaves"), numbered, _run_secret_tree))
register(
    Kind("MLS message-protection", cases_with("proposal_priv", "membership_key"), numbered, _run_message_protection)
)
