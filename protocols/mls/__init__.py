"""Messaging Layer Security, all of RFC 9420, as immutable epochs.

Begin with ``group.py``, which is what an application holds, and ``epoch.py``, the value that all else is computed
from. The rest follows the RFC:

=========  ======================================================================================================
section    modules
=========  ======================================================================================================
2          ``codec`` the presentation language
4, 7, C    ``tree_math``; ``ratchet_tree``, a persistent value of ``tree_nodes``, with ``tree_changes``,
           ``tree_encoding``, ``parent_hash``, ``tree_validation``, ``key_index``; ``leaf_node``, ``support``
5          ``suite``, a table; ``hpke`` and ``kem`` (RFC 9180), ``curves``, ``signatures``; ``credentials``, ``x509``
6          ``framing`` and ``message``, the structures; ``protection``, the cryptography; ``opening``, who said it
7.4-7.6    ``update_path``, ``treekem``, ``tree_private``
8          ``group_context``, ``key_schedule``, ``transcript``, ``psk``
9          ``secret_tree``, ``ratchets``, ``message_keys``; and ours, ``send_ledger``: positions that never go back
10         ``key_package``, ``client``, ``validation``
11         ``founding``: new groups, reinitialised ones, branches
12.1-12.3  ``proposals``; ``proposal_rules``, ``proposal_list``, ``proposal_selection``, ``fresh_leaves``; ``policy``
12.4       ``commit``; ``committing``, ``staging``; ``welcome``, ``joining``; ``external``
13         ``extensions``
=========  ======================================================================================================

Beyond the RFC: ``evidence`` proves that a member forked the group; ``kept``, ``records`` and ``storing`` are what a
group remembers and writes down, ``services`` and ``outcomes`` what it asks for and answers; ``chunks`` spreads
public-key work over threads, if the caller has any. ``rules`` lists every rule whose breach is refused, by the
identifier that the error has as its ``reason``.

Entropy and time are arguments. Suites whose KEM draws its own entropy say so (``CipherSuite.deterministic``).
"""

from protocols.mls.client import KeyPackageBundle, default_capabilities, lifetime_from, new_key_package
from protocols.mls.committing import LeafChange, Welcomes
from protocols.mls.credentials import BasicCredential, X509Credential
from protocols.mls.epoch import Epoch
from protocols.mls.errors import MlsError
from protocols.mls.evidence import ForkEvidence
from protocols.mls.external import (
    epoch_shown_by,
    external_message,
    make_external_commit,
    propose_from_outside,
    propose_oneself,
    self_remove_from_outside,
)
from protocols.mls.founding import branch, reinitialise
from protocols.mls.group import Group
from protocols.mls.joining import stage_welcome
from protocols.mls.message import encode_message, parse
from protocols.mls.opening import ApplicationMessage, VerifiedCommit, VerifiedProposal
from protocols.mls.outcomes import Echo
from protocols.mls.policy import Policy
from protocols.mls.proposals import Add, GroupContextExtensions, PreSharedKey, ReInit, Remove, SelfRemove
from protocols.mls.psk import ExternalPsk, ResumptionPsk
from protocols.mls.rules import NOBODYS_FAULT, RULES
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention, Services
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.staging import Checks, MissingProposalsError, StagedCommit
from protocols.mls.suite import SUITES, cipher_suite
from protocols.mls.welcome import Welcome

__all__ = [
    "NOBODYS_FAULT",
    "RULES",
    "SUITES",
    "Add",
    "ApplicationMessage",
    "BasicCredential",
    "Checks",
    "Echo",
    "Epoch",
    "ExternalPsk",
    "ForkEvidence",
    "Group",
    "GroupContextExtensions",
    "KeyPackageBundle",
    "LeafChange",
    "MissingProposalsError",
    "MlsError",
    "Policy",
    "PreSharedKey",
    "ReInit",
    "Remove",
    "ResumptionPsk",
    "Retention",
    "SelfRemove",
    "SendLedger",
    "Services",
    "SignatureKeyPair",
    "StagedCommit",
    "VerifiedCommit",
    "VerifiedProposal",
    "Welcome",
    "Welcomes",
    "X509Credential",
    "branch",
    "cipher_suite",
    "default_capabilities",
    "encode_message",
    "epoch_shown_by",
    "external_message",
    "lifetime_from",
    "make_external_commit",
    "new_key_package",
    "parse",
    "propose_from_outside",
    "propose_oneself",
    "reinitialise",
    "self_remove_from_outside",
    "stage_welcome",
]
