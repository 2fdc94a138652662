"""Identities among the real actors of their peers: who proves what to whom, and what it costs."""

from collections import Counter
from hashlib import sha512

import pytest

from actors.context import Context
from actors.host import HandlerError
from actors.identity import FLIGHTS_MAX, UNLOCK_UNITS, WATCHERS_MAX, Identity
from actors.setup import PeerSetup
from protocols.errors import LocalError
from protocols.identity import DeviceCertificate
from protocols.identity.messages import (
    AskCertificate,
    CertificateKnown,
    CertificateUnknown,
    DeviceProven,
    ProofAccepted,
    ProofPurpose,
    ProofRefused,
    Prove,
    WatchProofs,
)
from protocols.identity.possession import CHALLENGES_PER_DEVICE_MAX
from tests.actors.provers import ADD, ALICE, ASKED, DEVICES, IDENTITIES, ISSUER, MALLORY, USER, World, certificate
from tests.actors.worlds import MS

# -- the honest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [None, certificate(ALICE)])
def test_prover_is_accepted_and_whoever_watches_is_told(shown: DeviceCertificate | None) -> None:
    world = World(certificates=(shown, None, None))
    world.prove()
    world.run()
    assert world.results(ALICE) == [ProofAccepted(1, DEVICES[ISSUER])]
    (proven,) = world.results(ISSUER)
    assert isinstance(proven, DeviceProven)
    assert proven == DeviceProven(DEVICES[ALICE], ADD, ASKED.channel, ASKED.key_package, shown, proven.at)
    assert proven.user == (b"" if shown is None else USER.public)
    assert world.blamed == []
    assert world.count("possession_checks", "accepted") == world.count("possession_proofs", "accepted") == 1


def lossy(source: int, destination: int, sent_at: int) -> tuple[int, ...]:
    """Loses, doubles and delays by the time of sending; no two runs differ."""
    dice = sha512(b"%d %d %d" % (source, destination, sent_at)).digest()
    delays = [10 * MS + each * MS for each in dice[: 1 + dice[10] % 2]]
    return () if dice[11] < 51 else tuple(sent_at + delay for delay in delays)


def test_losses_and_copies_end_in_one_proof_or_in_a_failure_that_is_told() -> None:
    world = World(lossy)
    for token in range(20):
        world.prove(token=token)
        world.run(100)
    outcomes = world.results(ALICE)
    assert [outcome.token for outcome in outcomes] == list(range(20))  # type: ignore[attr-defined]
    accepted = sum(isinstance(outcome, ProofAccepted) for outcome in outcomes)
    assert accepted >= 18
    assert len(world.results(ISSUER)) >= accepted
    assert world.count("rpc_retransmissions") > 0
    assert world.blamed == []
    assert not world.identity(ALICE)._flights


def test_purpose_that_nobody_watches_gets_no_challenge() -> None:
    world = World()
    world.tell(ALICE, "identity", Prove(1, DEVICES[ISSUER], ISSUER, ProofPurpose.REPLACE_DEVICE))
    world.run()
    assert world.results(ALICE) == [ProofRefused(1, DEVICES[ISSUER], "unwanted")]
    assert len(world.identity(ISSUER).challenger) == 0
    assert world.blamed == []


def test_device_that_is_not_there_is_told_as_it_is() -> None:
    world = World()
    world.host.down(ISSUER)
    world.prove()
    world.run()
    world.tell(ALICE, "identity", AskCertificate(2, DEVICES[ISSUER], MALLORY))
    world.run()
    assert world.results(ALICE) == [
        ProofRefused(1, DEVICES[ISSUER], "timeout"),
        CertificateUnknown(2, DEVICES[ISSUER], "wrong_device"),
    ]


def test_session_that_ends_between_challenge_and_proof_costs_another_challenge() -> None:
    world = World()
    world.prove()
    world.run_until_signed()
    world.close(ALICE, ISSUER)
    world.run()
    assert world.results(ALICE) == [ProofAccepted(1, DEVICES[ISSUER])]
    assert world.blamed == []


def test_issuer_that_restarted_is_asked_again() -> None:
    world = World()
    world.prove()
    world.run_until_signed()
    challenger = world.identity(ISSUER).challenger
    world.identity(ISSUER).challenger = type(challenger)(DEVICES[ISSUER])
    world.run()
    assert world.results(ALICE) == [ProofAccepted(1, DEVICES[ISSUER])]
    assert world.count("possession_checks", "unknown_challenge") == 1
    assert world.blamed == []


def test_issuer_that_forgot_its_sessions_is_asked_on_a_new_one() -> None:
    world = World()
    world.prove()
    world.run()
    world.results(ALICE)
    world.host.down(ISSUER)
    world.host.up(ISSUER)
    world.tell(ISSUER, "identity", WatchProofs(ADD))
    world.prove(token=2)
    world.run()
    assert world.results(ALICE) == [ProofAccepted(2, DEVICES[ISSUER])]
    assert len(world.results(ISSUER)) == 1
    assert world.blamed == []


# -- whose device is it -----------------------------------------------------------------------------------


def test_peer_says_whose_device_it_is() -> None:
    shown = certificate(ISSUER)
    world = World(certificates=(None, None, shown))
    world.tell(ALICE, "identity", AskCertificate(4, DEVICES[ISSUER], ISSUER))
    world.tell(ISSUER, "identity", AskCertificate(5, DEVICES[ALICE], ALICE))
    world.run()
    assert world.results(ALICE) == [CertificateKnown(4, DEVICES[ISSUER], shown)]
    assert world.results(ISSUER) == [CertificateKnown(5, DEVICES[ALICE], None)]


# -- bounds, costs and state ------------------------------------------------------------------------------


def test_flood_of_requests_keeps_a_few_challenges_and_honest_proofs_go_on() -> None:
    world = World()
    for token in range(400):
        world.call(MALLORY, ISSUER, ASKED, token=token)
        world.run(1) if token % 50 == 0 else None
        assert len(world.identity(ISSUER).challenger) <= CHALLENGES_PER_DEVICE_MAX + 1
    world.prove()
    world.run()
    assert world.results(ALICE) == [ProofAccepted(1, DEVICES[ISSUER])]


def test_services_that_ask_too_much_at_once_are_told_so() -> None:
    world = World()
    for token in range(FLIGHTS_MAX + 1):
        world.tell(ALICE, "identity", Prove(token, token.to_bytes(32), MALLORY, ADD))
    assert world.results(ALICE) == [ProofRefused(FLIGHTS_MAX, FLIGHTS_MAX.to_bytes(32), "overloaded")]
    world.run()
    assert len(world.results(ALICE)) == FLIGHTS_MAX
    assert not world.identity(ALICE)._flights


def test_unlocking_costs_what_the_kdf_would() -> None:
    world = World(costs={"argon2id": (0, MS)} | dict.fromkeys(("aead", "x25519", "ed25519_sign"), (0, 0)))
    assert world.host._peer(ALICE).busy_until == UNLOCK_UNITS * MS
    assert UNLOCK_UNITS == 64 * 3


def test_every_signature_made_or_checked_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(certificates=(certificate(ALICE), None, None))
    bill: Counter[tuple[int, str]] = Counter()

    def charge(ctx: Context, operation: str, n: int = 1) -> None:
        if ctx.service == "identity":
            bill[ctx._peer.number, operation] += n

    monkeypatch.setattr(Context, "charge", charge)
    world.prove()
    world.run()
    assert bill == {(ALICE, "ed25519_sign"): 1, (ISSUER, "ed25519_verify"): 3}
    world.tell(ISSUER, "identity", AskCertificate(2, DEVICES[ALICE], ALICE))
    world.run()
    assert bill == {(ALICE, "ed25519_sign"): 1, (ISSUER, "ed25519_verify"): 5}


@pytest.mark.parametrize("moment", [0, 5, 15, 25, 35, 45, 55, 65, 75])
def test_restored_identities_finish_what_the_saved_ones_began(moment: int) -> None:
    world = World(certificates=(certificate(ALICE), None, None))
    world.prove()
    world.run(until=world.now + moment * MS)
    for number in (ALICE, ISSUER):
        context = world.host._peer(number).contexts["identity"]
        saved = context.actor.to_bytes()
        context.actor = Identity.from_bytes(saved, world.setup(number))
        assert context.actor.to_bytes() == saved
    world.run()
    assert world.results(ALICE) == [ProofAccepted(1, DEVICES[ISSUER])]
    assert len(world.results(ISSUER)) == 1


def test_state_of_another_version_is_refused() -> None:
    world = World()
    saved = world.identity(ISSUER).to_bytes()
    with pytest.raises(LocalError):
        Identity.from_bytes(saved[:1] + b"\x63" + saved[2:], world.setup(ISSUER))


def test_wrong_use_by_our_own_services_is_a_bug() -> None:
    with pytest.raises(LocalError):
        Identity(PeerSetup(IDENTITIES[ALICE], ALICE, certificate=certificate(ISSUER)))
    for mistake in (
        Prove(1, DEVICES[ISSUER], ISSUER, ADD, bytes(65)),
        Prove(1, DEVICES[ISSUER], ISSUER, ADD, b"", bytes(65)),
    ):
        with pytest.raises(HandlerError, match="no proof for a channel"):
            World().tell(ALICE, "identity", mistake)
    world = World()
    world.prove()
    with pytest.raises(HandlerError, match="waits for 1 already"):
        world.prove()


def test_one_watcher_is_told_once_and_their_number_is_bounded() -> None:
    world = World()
    world.tell(ISSUER, "identity", WatchProofs(ADD))
    world.prove()
    world.run()
    assert len(world.results(ISSUER)) == 1
    watchers = world.identity(ISSUER)._watchers[ADD]
    watchers += [f"service {number}" for number in range(WATCHERS_MAX)]
    world.identity(ISSUER)._watchers[ADD] = watchers[1:]
    with pytest.raises(HandlerError, match="wait for proofs"):
        world.tell(ISSUER, "identity", WatchProofs(ADD))
