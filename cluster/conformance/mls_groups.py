"""The MLS working group's vectors of whole groups: ``welcome`` and ``passive-client``.

A passive client joins and then only follows. Here it is a ``Group`` like everybody's, told to believe whatever is
not a rule of RFC 9420: a file has neither a clock nor an application that knows which credential may follow which.

A group that continues another one (§11.2, §11.3) is joined with a secret of the old one. The shape has no field
for that, so the epochs that a document's earlier cases went through are there for the later ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, numbered, octets, suite_of
from protocols.mls.client import KeyPackageBundle
from protocols.mls.credentials import Credential
from protocols.mls.group import Group
from protocols.mls.joining import Origin, open_welcome, stage_welcome
from protocols.mls.key_package import KeyPackage
from protocols.mls.message import parse
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.policy import Policy
from protocols.mls.psk import PreSharedKeyId, ResumptionPsk
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.send_ledger import SendLedger
from protocols.mls.services import Retention, Services
from protocols.mls.staging import Checks
from protocols.mls.suite import CipherSuite
from protocols.mls.welcome import GROUP_INFO_LABEL, Welcome

_Case = dict[str, Any]

CREDULOUS: Final = Policy(may_succeed=lambda _old, _new: True)


def _believed(_credential: Credential, _signature_key: bytes) -> bool:
    """Every credential is its owner's, also of who comes back with a new signature key."""
    return True


FOREVER: Final = Retention(epochs=2**32)
"""A commit may name the resumption PSK of any epoch since the client joined."""


def _message(text: str, kind: type) -> Any:
    message = parse(octets(text))
    if not isinstance(message, kind):
        raise MismatchError(f"a {type(message).__name__} where a {kind.__name__} belongs")
    return message


# -- welcome (§12.4.3.1) ----------------------------------------------------------------------------


def _run_welcome(case: _Case) -> None:
    """Without a tree it cannot be joined, only opened."""
    suite = suite_of(case)
    key_package: KeyPackage = _message(case["key_package"], KeyPackage)
    bundle = KeyPackageBundle(key_package, _hpke_private(suite, case["init_priv"], key_package.init_key), b"", b"")
    opened = open_welcome(_message(case["welcome"], Welcome), [bundle])
    content, signature = opened.group_info.to_be_signed(), opened.group_info.signature
    if not suite.verify_with_label(octets(case["signer_pub"]), GROUP_INFO_LABEL, content, signature):
        raise MismatchError("the group info is not signed by signer_pub")
    opened.epoch_secrets()


# -- passive client (§12.4.2, §12.4.3.1) ------------------------------------------------------------


@dataclass
class _Past:
    """The epochs of a document's cases so far, by group id and number."""

    epochs: dict[tuple[bytes, int], tuple[bytes, Origin]] = field(default_factory=dict)

    def keep(self, group: Group) -> None:
        epoch = group.current
        self.epochs[epoch.group_id, epoch.number] = epoch.resumption_psk, group.origin()

    def resumption_psk(self, psk: ResumptionPsk) -> bytes | None:
        found = self.epochs.get((psk.psk_group_id, psk.psk_epoch))
        return None if found is None else found[0]

    def origin(self, group_id: bytes, epoch: int) -> Origin | None:
        found = self.epochs.get((group_id, epoch))
        return None if found is None else found[1]


def _passive_client_cases(document: Any) -> Iterator[tuple[str, Any]]:
    past = _Past()
    return ((name, (case, past)) for name, case in numbered(document))


def _run_passive_client(case_and_past: tuple[_Case, _Past]) -> None:
    case, past = case_and_past
    group = _joined(case, past)
    expect_equal(
        "epoch authenticator on joining", group.current.authenticator, octets(case["initial_epoch_authenticator"])
    )
    past.keep(group)
    for number, each in enumerate(case["epochs"]):
        for proposal in each["proposals"]:
            content = group.receive(octets(proposal)).content
            if not isinstance(content, VerifiedProposal):
                raise MismatchError(f"epoch {number}: a {type(content).__name__} among the proposals")
        content = group.receive(octets(each["commit"])).content
        if not isinstance(content, VerifiedCommit):
            raise MismatchError(f"epoch {number}: a {type(content).__name__} as the commit")
        group.adopt(group.stage(content, now_ns=0).commit, now_ns=0)
        if group.removed:
            raise MismatchError(f"epoch {number}: the commit removes the passive client")
        expect_equal(f"epoch authenticator {number}", group.current.authenticator, octets(each["epoch_authenticator"]))
        past.keep(group)


def _joined(case: _Case, past: _Past) -> Group:
    suite = suite_of(case)
    external_psks = {octets(each["psk_id"]): octets(each["psk"]) for each in case["external_psks"]}

    def psks(psk: PreSharedKeyId) -> bytes | None:
        return past.resumption_psk(psk) if isinstance(psk, ResumptionPsk) else external_psks.get(psk.psk_id)

    tree = case.get("ratchet_tree")
    joined = stage_welcome(
        _message(case["welcome"], Welcome),
        [_bundle(suite, case)],
        ratchet_tree=None if tree is None else RatchetTree.decode(suite, octets(tree)),
        psks=psks,
        origins=past.origin,
        checks=Checks(policy=CREDULOUS),
    )
    services = Services(authenticate=_believed, policy=CREDULOUS, psks=psks)
    return Group.join(joined, now_ns=0, services=services, retention=FOREVER, ledger=SendLedger())


def _bundle(suite: CipherSuite, case: _Case) -> KeyPackageBundle:
    key_package: KeyPackage = _message(case["key_package"], KeyPackage)
    leaf = key_package.leaf_node
    # A published scalar of P-521 comes without its leading zero.
    signature_private = octets(case["signature_priv"]).rjust(suite.signature.private_size, b"\0")
    expect_equal("signature public key", suite.signature_public(signature_private), leaf.signature_key)
    return KeyPackageBundle(
        key_package,
        _hpke_private(suite, case["init_priv"], key_package.init_key),
        _hpke_private(suite, case["encryption_priv"], leaf.encryption_key),
        signature_private,
    )


def _hpke_private(suite: CipherSuite, text: str, public: bytes) -> bytes:
    private = octets(text).rjust(suite.kem.private_size, b"\0")
    expect_equal("HPKE public key", suite.kem.public(private), public)
    return private


register(Kind("MLS welcome", cases_with("init_priv", "signer_pub", "welcome"), numbered, _run_welcome))
register(
    Kind(
        "MLS passive-client",
        cases_with("welcome", "initial_epoch_authenticator", "epochs"),
        _passive_client_cases,
        _run_passive_client,
    )
)
