"""A group's records and its stored form: to them, and back (``records`` has the formats).

A stored commit is not its epoch over again. The commit, the proposals and the parent's tree are there, so the
next tree follows; beside them only our share is stored, the secrets that came out of decrypting, which could not
be done a second time. What is read back is held against the confirmation tag.
"""

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, decode, vector
from protocols.mls.epoch import Epoch
from protocols.mls.framing import AuthenticatedContent
from protocols.mls.kept import KeptEpoch
from protocols.mls.key_schedule import EpochSecrets
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.message_keys import MessageKeys
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal, verified
from protocols.mls.proposals import Update
from protocols.mls.records import CommitKept, CommitStaged, KeptState, ProposalKept
from protocols.mls.staging import Checks, LeafSecrets, OwnPart, SealedWelcome, StagedCommit, restage
from protocols.mls.tree_private import TreePrivate
from protocols.mls.welcome import EncryptedGroupSecrets, Welcome


def kept_state(kept: KeptEpoch) -> KeptState:
    """One kept epoch, whole."""
    name = kept.epoch.authenticator
    return KeptState(
        kept.epoch.to_bytes(),
        kept.keys.to_bytes(),
        kept.parent,
        kept.since_ns,
        kept.echoes,
        tuple(_proposal_record(kept, each) for each in kept.proposals.values()),
        tuple(CommitKept(name, each.authenticated.encode()) for each in kept.commits.values()),
        tuple(staged_record(each, kept.messages.get(each.id, b"")) for each in kept.staged.values()),
    )


def kept_from(state: KeptState) -> KeptEpoch:
    """But for the staged commits, which need the whole group around them."""
    kept = KeptEpoch(Epoch.from_bytes(state.epoch), MessageKeys.from_bytes(state.keys), state.parent, state.since)
    for echo in state.echoes:
        kept.remember(echo)
    for proposal in state.proposals:
        keep_again(kept, proposal)
    for commit in state.commits:
        keep_again(kept, commit)
    return kept


def keep_again(kept: KeptEpoch, record: ProposalKept | CommitKept) -> VerifiedProposal | VerifiedCommit:
    """What arrived in an epoch, or was proposed by us, as it was before.

    Raises:
        LocalError: the record says one thing and holds another.
    """
    found = verified(kept.epoch, decode(AuthenticatedContent.read, record.authenticated))
    if isinstance(found, ApplicationMessage):
        raise LocalError("an application message is stored as a proposal or commit")
    own_update: dict[bytes, LeafSecrets] = {}
    if isinstance(record, ProposalKept) and record.encryption_private:
        if not isinstance(found, VerifiedProposal) or not isinstance(found.proposal, Update):
            raise LocalError("private keys are stored with a proposal that is no Update")
        secrets = LeafSecrets(record.encryption_private, record.signature_private)
        own_update[found.proposal.leaf_node.encryption_key] = secrets
    if record.position:
        kept.keys.mark_received(record.position)
    kept.keep(found)
    kept.own_updates.update(own_update)
    if isinstance(record, ProposalKept) and isinstance(found, VerifiedProposal) and record.message:
        kept.messages[found.reference] = record.message
    return found


def _proposal_record(kept: KeptEpoch, proposal: VerifiedProposal) -> ProposalKept:
    message = kept.messages.get(proposal.reference, b"")
    record = ProposalKept(kept.epoch.authenticator, proposal.authenticated.encode(), message=message)
    if isinstance(proposal.proposal, Update):
        secrets = kept.own_updates.get(proposal.proposal.leaf_node.encryption_key)
        if secrets is not None:
            return msgspec.structs.replace(
                record,
                encryption_private=secrets.encryption_private,
                signature_private=secrets.signature_private,
            )
    return record


def staged_record(staged: StagedCommit, message: bytes, position: bytes = b"") -> CommitStaged:
    """``message`` is what is sent of a commit of ours, and ``position`` the key that it used up."""
    entry, keys = staged.next, staged.keys
    return CommitStaged(
        epoch=staged.parent,
        authenticated=staged.authenticated.encode(),
        own=staged.own,
        message=message,
        position=position,
        group_info=staged.welcomes[0].welcome.encrypted_group_info if staged.welcomes else b"",
        welcomes=tuple(
            (each.joiners, vector(secrets.encode() for secrets in each.welcome.secrets)) for each in staged.welcomes
        ),
        secrets=b"" if entry is None else entry.secrets.encode(),
        keys=b"" if keys is None else keys.to_bytes(),
        private=b"" if entry is None else entry.private.encode(),
        signature_private=b"" if entry is None else entry.signature_private,
    )


def staged_again(kept: KeptEpoch, record: CommitStaged, checks: Checks) -> StagedCommit:
    """The commit of a record, on the epoch that it was staged on.

    Raises:
        LocalError: the record says one thing and holds another.
        MlsError: it was altered, or belongs to another epoch.
    """
    found = verified(kept.epoch, decode(AuthenticatedContent.read, record.authenticated))
    if not isinstance(found, VerifiedCommit):
        raise LocalError("a staged commit is stored that is none")
    part = None
    if record.secrets:
        part = OwnPart(
            decode(EpochSecrets.read, record.secrets),
            MessageKeys.from_bytes(record.keys),
            decode(TreePrivate.read, record.private),
            record.signature_private,
        )
    suite = kept.epoch.suite.id
    welcomes = tuple(
        SealedWelcome(tuple(map(LeafIndex, joiners)), Welcome(suite, decode(_read_secrets, secrets), record.group_info))
        for joiners, secrets in record.welcomes
    )
    return restage(kept.epoch, found, kept.proposals, part, checks, own=record.own, welcomes=welcomes)


def _read_secrets(reader: Reader) -> tuple[EncryptedGroupSecrets, ...]:
    return reader.vector(EncryptedGroupSecrets.read)
