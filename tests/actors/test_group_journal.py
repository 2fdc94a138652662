"""What a group's two streams hold, for how long, and what is refused of them."""

from collections.abc import Iterator

import msgspec
import pytest

from actors import group_journal
from actors.group_journal import recovered_ledger
from actors.group_mail import Entered, Heard, Invite, Post, Proven, group_stream, ledger_stream
from actors.journaled_group import JournaledGroup
from protocols.errors import LocalError, StorageError
from protocols.journal import JournalError, Table
from protocols.journal.messages import Append, Forget, Record
from protocols.mls.codec import decode
from protocols.mls.evidence import ForkEvidence
from protocols.mls.group import Group
from protocols.mls.key_schedule import EpochSecrets
from protocols.mls.records import RECORDS, CommitStaged
from tests.actors.group_world import STREAMS, Person, World, acknowledge, meet, recovered, watched
from tests.protocols.mls.room import NOW_NS, SERVICES


@pytest.fixture
def world() -> Iterator[World]:
    with watched(World()) as made:
        meet(made)
        yield made


def test_mail_comes_out_again_until_it_is_settled(world: World) -> None:
    ada, bob = world["ada"], world["bob"]
    world.settle("ada")
    world.say("ada", b"hello")
    world.deliver("bob")
    mail = {person.name: person.group.mail for person in (ada, bob)}
    for person, kind in ((ada, Post), (bob, Heard)):
        for _ in range(2):
            person.held = None
            seen = recovered(person).released()
            assert [each for each in seen if isinstance(each, kind) and each.number] == list(mail[person.name])
        assert person.recover()
        world.confirm(person.name)
        world.settle(person.name)
        person.held = None
        assert recovered(person).mail == ()
    assert bob.read[mail["bob"][-1].number].data == b"hello"


def test_a_commit_and_its_welcomes_leave_again_after_a_crash(world: World) -> None:
    ada = world["ada"]
    own = world.add("ada", "dan")
    message, invite = next(reversed(world.sent)), world.invitations[-1]
    ada.held = None
    effects = recovered(ada).released()
    assert Post(0, message) in effects
    assert invite in [each for each in effects if isinstance(each, Invite)]
    [(leaves, _)] = invite.sealed()
    assert leaves == tuple(leaf for leaf, _ in own.added)
    world.join("dan")
    world.deliver("bob")
    assert world["dan"].group.current.authenticator == world["bob"].group.current.authenticator


def test_proof_of_a_fork_is_kept_until_it_is_taken(world: World) -> None:
    """Bob's store is put back and he trusts it: Ada has two commits of his."""
    bob, ada = world["bob"], world["ada"]
    copy = dict(bob.rows)
    world.commit("bob", public=True)
    bob.rows = copy
    assert bob.recover()
    bob.group.confirmed = True
    world.commit("bob", public=True)
    world.deliver("ada", adopt=False)
    [proof] = ada.proofs
    ForkEvidence.from_bytes(proof).verify()
    ada.held = None
    [again] = [each for each in recovered(ada).released() if isinstance(each, Proven)]
    assert again.evidence == proof


def test_what_waits_for_the_journal_is_not_sent_again_behind_itself(world: World) -> None:
    ada = world["ada"]
    ada.turn(lambda group: group.settle(*(each.number for each in group.mail)))
    ada.group.send(b"hello", entropy=ada.entropy)
    for _ in range(3):
        ada.group.resend()
    writes = ada.group.writes()
    acknowledge(ada.group, *writes)
    assert [type(each) for each in ada.group.released()] == [Post]
    ada.group.resend()
    assert [each.number for each in ada.group.released() if isinstance(each, Post)] == [ada.group.mail[0].number, 0]


def test_nobody_sends_or_receives_once_too_much_mail_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.say("ada", b"hello")
    ada, bob = world["ada"], world["bob"]
    [message] = [post.message for post in ada.group.mail if isinstance(post, Post)]
    for limit in ("MAIL_MAX", "MAIL_SIZE_MAX"):
        monkeypatch.setattr(group_journal, limit, 0)
        with pytest.raises(LocalError, match="wait to be taken"):
            ada.group.send(b"more", entropy=ada.entropy)
        with pytest.raises(LocalError, match="wait to be taken"):
            bob.group.receive(message)
        monkeypatch.undo()
    assert bob.group.writes() == []


def test_records_are_summed_up_when_they_outgrow_the_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_journal, "COMPACT_SIZE_MIN", 1000)
    monkeypatch.setattr(group_journal, "RESERVATIONS_MAX", 10)
    ada = world["ada"]
    for _ in range(100):
        ada.turn(lambda group: group.settle(group.send(bytes(1000), entropy=ada.entropy)))
    stored = sum(len(data) for (table, _, _), data in ada.rows.items() if table is not Table.ROLL)
    assert stored < 6 * len(ada.group._group.to_bytes())
    assert len(ada.open()[1].records) < 10
    before = ada.state
    ada.held = recovered(ada)
    assert ada.state == before
    damage_newest_snapshot(ada)
    ada.held = recovered(ada)
    assert ada.state == before


def damage_newest_snapshot(person: Person) -> None:
    rows, stream = dict(person.rows), person.streams[STREAMS[0]].id
    newest = max(at for at in rows if at[:2] == (Table.SNAPSHOT, stream))
    rows[newest] = rows[newest][:-1] + bytes((rows[newest][-1] ^ 1,))
    person.rows = rows


def test_a_record_too_large_for_the_journal_becomes_a_whole_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_journal, "PAYLOAD_SIZE_MAX", 200)
    ada = world["ada"]
    ada.turn(lambda group: group.send(bytes(300), entropy=ada.entropy))
    assert recovered(ada).mail == ada.group.mail
    assert ada.open()[0].records == ()
    damage_newest_snapshot(ada)
    with pytest.raises(JournalError, match="snapshot"):  # no record says what led here, so there is no other way
        ada.open()


def move_on(world: World) -> None:
    """Until the epochs that are kept now are erased."""
    before = world["bob"].group.epochs
    for author in ("ada", "bob", "cyd"):
        world.commit(author)
        world.deliver()
    assert not set(before) & set(world["bob"].group.epochs)


def secrets_in(group: Group) -> list[bytes]:
    """Of every epoch that is kept: those of the schedule, of the message keys, and our private keys."""
    found = []
    for kept in group._kept.values():
        secrets = msgspec.structs.replace(kept.epoch.secrets, epoch_authenticator=b"")  # a name, which is shown around
        found += [each for each in msgspec.structs.astuple(secrets) if each]
        assert kept.keys._tree is not None
        found += [secret for _, secret in kept.keys._tree.nodes()]
        found += [chain.secret for chain in kept.keys._chains.values()]
        found.append(kept.epoch.private.encode())
    return found


def test_secrets_of_erased_epochs_are_nowhere_in_the_journal(world: World) -> None:
    """Nor anything that they could be derived from; whoever has the root key reads all that is there."""
    world.say("ada", b"hello")
    world.deliver("bob")
    bob = world["bob"]
    secrets = secrets_in(bob.group._group)
    move_on(world)
    group, ledger = bob.open()
    opened = b"".join([group.snapshot or b"", *(each.payload for each in group.records), ledger.snapshot or b""])
    assert len(secrets) > 10
    for secret in secrets:
        assert len(secret) >= 32
        assert secret not in opened
    assert all(secret in opened for secret in secrets_in(bob.group._group)[:5])


def test_rows_that_the_disk_kept_of_erased_epochs_do_not_open_again(world: World) -> None:
    """Who has the root key, and the old rows but the one with their key, has nothing."""
    bob = world["bob"]
    before = dict(bob.rows)
    move_on(world)
    stream = bob.streams[STREAMS[0]].id
    [lost] = [at for at in before if at[0] is Table.KEY and at[1] == stream]
    keys = {at: data for at, data in bob.rows.items() if at[0] is Table.KEY}
    assert lost not in keys
    del before[lost]
    bob.rows = before | keys
    with pytest.raises(JournalError):
        bob.open()


def test_a_reservation_that_is_there_alone_costs_a_key_and_repeats_none(world: World) -> None:
    """As if a journal had cut a turn in two; for a store, that is one batch."""
    bob = world["bob"]
    world.speak(bob.group, b"lost")
    lost = bob.group.mail[-1]
    reserved = next(each for each in bob.group.writes() if isinstance(each, Append))
    bob.streams[reserved.stream].append(reserved.entries, NOW_NS)
    bob.write(bob.journal.flush(bob.entropy))
    bob.held = recovered(bob)
    assert lost not in bob.group.mail
    bob.group.confirmed = True
    world.say("bob", b"said")
    keys = {world.texts[message]: pair for message, pair in world.under.items() if message in world.texts}
    assert keys[b"lost"] != keys[b"said"]
    world.deliver("ada")
    assert [each.data for each in world["ada"].read.values()] == [b"said"]


def test_an_altered_init_secret_in_a_staged_commit_is_refused_and_named(world: World) -> None:
    """The group would take it: nothing in the commit says what the next init secret is. The journal does not."""
    world.commit("ada")
    world.deliver("bob", adopt=False)
    bob = world["bob"]
    [commit] = bob.group.commits()
    bob.turn(lambda group: group.stage(commit, now_ns=NOW_NS))
    records = bob.open()[0].records
    [record] = [each for each in records if each.kind == "mls.staged"]
    staged = RECORDS.decode(record.payload)
    assert isinstance(staged, CommitStaged)
    secrets = decode(EpochSecrets.read, staged.secrets)
    altered = msgspec.structs.replace(secrets, init_secret=bytes(len(secrets.init_secret)))
    group = Group.from_bytes(bob.group._group.to_bytes(), bob.group._group.ledger, services=SERVICES)
    group.replay(RECORDS.encode(msgspec.structs.replace(staged, secrets=altered.encode())))  # not noticed

    stored = dict(bob.rows)
    stream = bob.streams[STREAMS[0]].id
    [at] = [at for at in stored if at[:2] == (Table.GROUP, stream) and at[2] == record.sequence]
    for place in range(0, len(stored[at]), 7):
        data = bytearray(stored[at])
        data[place] ^= 0x40
        bob.rows = stored | {at: bytes(data)}
        with pytest.raises(JournalError, match=rf"records from {record.sequence}\b|version"):
            bob.open()


def test_a_record_that_does_not_follow_is_named(world: World) -> None:
    bob = world["bob"]
    group, ledger = bob.open()
    foreign = RECORDS.encode(CommitStaged(bytes(32), b"", False, b"", b"", b"", (), b"", b"", b"", b""))
    for kind, payload in (("mls.staged", foreign), ("mls.sent", b"rubbish"), ("odd", b"rubbish")):
        with pytest.raises(StorageError, match=rf"record 1 \({kind}\) in stream mls/") as caught:
            JournaledGroup.recover(msgspec.structs.replace(group, records=(Record(1, 0, kind, payload),)), ledger)
        assert caught.value.reason == "bad_record"
    with pytest.raises(StorageError, match="the state in stream mls/") as caught:
        JournaledGroup.recover(msgspec.structs.replace(group, snapshot=b"rubbish"), ledger)
    assert caught.value.reason == "bad_state"
    with pytest.raises(StorageError, match="in stream mls-ledger/"):
        JournaledGroup.recover(group, msgspec.structs.replace(ledger, snapshot=b"rubbish"))
    with pytest.raises(LocalError, match="no checkpoint"):
        JournaledGroup.from_bytes(b"\x01rubbish")


def test_a_group_that_was_never_durable_is_none(world: World) -> None:
    eve = world.person("eve")
    assert JournaledGroup.recover(*eve.open()) is None
    group = Group.create(eve.client.bundle, b"other", entropy=eve.entropy, now_ns=NOW_NS)
    eve.held = JournaledGroup.begin(group)
    assert eve.group.streams == (group_stream(b"other"), ledger_stream(b"other"))
    assert eve.group.released() == []
    acknowledge(eve.group, *eve.group.writes())
    assert eve.group.released() == [Entered(group.current.authenticator, False)]


def test_a_group_that_is_forgotten_leaves_its_ledger_and_nothing_else(world: World) -> None:
    cyd = world["cyd"]
    world.say("ada", b"hello")
    world.say("cyd", b"good bye")
    world.deliver("cyd")
    assert cyd.group.mail
    ledger = cyd.group._group.ledger.to_bytes()
    cyd.turn(lambda group: group.forget())
    assert cyd.group.mail == ()
    with pytest.raises(LocalError, match="was forgotten"):
        cyd.group.send(b"again", entropy=cyd.entropy)
    with pytest.raises(LocalError, match="was forgotten"):
        cyd.group.return_to(cyd.group.current.authenticator)
    assert cyd.group.writes() == []
    assert [name for name in STREAMS if name in cyd.journal.streams] == [STREAMS[1]]
    group, stored = cyd.open()
    assert JournaledGroup.recover(group, stored) is None
    assert recovered_ledger(stored).to_bytes() == ledger


def test_what_waited_when_a_group_was_forgotten_leaves_before_it(world: World) -> None:
    bob = world["bob"]
    bob.group.send(b"last words", entropy=bob.entropy)
    bob.group.forget()
    *earlier, last = bob.group.writes()
    assert isinstance(last, Forget)
    acknowledge(bob.group, *earlier)
    assert [type(each) for each in bob.group.released()] == [Post]
