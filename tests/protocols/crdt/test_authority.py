"""Roles by a set of acts, without anybody's judgement."""

from protocols.crdt.authority import GENESIS, Authority, bits, role_needed
from protocols.crdt.changes import Acknowledge, Assign, Change, Genesis, Grant, Revoke, Role
from tests.protocols.crdt.worlds import World, Written, deliver

OWNER, ADMIN, MEMBER, READER = Role.OWNER, Role.ADMIN, Role.MEMBER, Role.READER


class Acts:
    """A world in which only acts are written; ``view`` is what an operation after these would know."""

    def __init__(self, *roles: Role | None) -> None:
        self.world = World(*roles)
        self.history = self.world.history()
        self.authority = Authority()
        self.authority.add(self.history.authority[0])
        self.public = self.world.public

    def write(self, author: int, change: Change, *after: Written, accused: bytes | None = None) -> Written:
        written = self.world.write(author, change, after)
        self.authority.add(deliver(self.history, written), accused)
        return written

    def view(self, *written: Written) -> int:
        view = GENESIS
        for each in written:
            held = self.history.operations[each.id]
            view |= held.known | held.mark
        return view

    def roles(self, device: int, view: int) -> tuple[int, int]:
        """As it stands, and with the benefit of the doubt."""
        authority = self.authority
        return authority.role(self.public(device), view), authority.admissible_role(self.public(device), view)


def test_bits_are_the_numbers_in_a_mask() -> None:
    assert list(bits(0)) == []
    assert list(bits(0b1011 | 1 << 5000)) == [0, 1, 3, 5000]


def test_what_a_change_takes() -> None:
    device, other = bytes(32), bytes([1]) * 32
    assert role_needed(Assign(("a",), 1), device) == MEMBER
    assert role_needed(Acknowledge(), device) == READER
    assert role_needed(Grant(other, MEMBER), device) == ADMIN
    assert role_needed(Revoke(other), device) == ADMIN
    assert role_needed(Revoke(device), device) == READER
    assert role_needed(Genesis(((device, OWNER),), bytes(32), 64, 1), device) == OWNER


def test_the_highest_role_that_stands_is_the_device_s() -> None:
    acts = Acts(OWNER, ADMIN, READER)
    up = acts.write(0, Grant(acts.public(2), MEMBER))
    removal = acts.write(1, Revoke(acts.public(2)), up)
    again = acts.write(0, Grant(acts.public(2), READER), removal)
    assert acts.roles(2, GENESIS) == (READER, READER)
    assert acts.roles(2, acts.view(up)) == (MEMBER, MEMBER)
    assert acts.roles(2, acts.view(removal)) == (0, 0)
    assert acts.roles(2, acts.view(again)) == (READER, READER)


def test_a_grant_falls_with_a_revocation_that_it_had_not_seen() -> None:
    acts = Acts(OWNER, ADMIN, None)
    grant, removal = (
        acts.write(0, Grant(acts.public(2), MEMBER)),
        acts.write(1, Revoke(acts.public(2)), acts.world.genesis),
    )
    assert acts.roles(2, acts.view(grant)) == (MEMBER, MEMBER)
    assert acts.roles(2, acts.view(grant, removal)) == (0, 0)


def test_a_revocation_whose_author_may_be_revoked_is_no_reason_to_refuse() -> None:
    acts = Acts(OWNER, ADMIN, ADMIN, MEMBER)
    genesis = acts.world.genesis
    removal = acts.write(1, Revoke(acts.public(3)), genesis)
    concurrent = acts.write(2, Revoke(acts.public(1)), genesis)
    assert acts.roles(3, acts.view(removal)) == (0, 0)
    assert acts.roles(3, acts.view(removal, concurrent)) == (0, MEMBER)
    later = acts.write(0, Revoke(acts.public(1)), removal)
    assert acts.roles(3, acts.view(removal, later)) == (0, 0), "who is revoked later was not when it revoked"


def test_nor_is_one_that_rests_on_such_a_grant() -> None:
    acts = Acts(OWNER, ADMIN, ADMIN, MEMBER, None, None)
    genesis = acts.world.genesis
    first = acts.write(1, Grant(acts.public(4), ADMIN), genesis)
    second = acts.write(4, Grant(acts.public(5), ADMIN), first)
    removal = acts.write(5, Revoke(acts.public(3)), second)
    assert acts.roles(3, acts.view(removal)) == (0, 0)
    assert acts.roles(3, acts.view(removal, acts.write(2, Revoke(acts.public(1)), genesis))) == (0, MEMBER)


def test_nor_is_one_by_a_proven_equivocator() -> None:
    acts = Acts(OWNER, ADMIN, MEMBER, READER)
    removal = acts.write(1, Revoke(acts.public(2)), acts.world.genesis)
    proof = acts.write(3, Grant(bytes(32), READER), acts.world.genesis, accused=acts.public(1))
    assert acts.roles(2, acts.view(removal, proof)) == (0, MEMBER)


def test_leaving_is_in_doubt_where_a_removal_beside_it_is_known() -> None:
    acts = Acts(OWNER, ADMIN, MEMBER)
    leave = acts.write(2, Revoke(acts.public(2)), acts.world.genesis)
    removal = acts.write(1, Revoke(acts.public(2)), acts.world.genesis)
    again = acts.write(0, Grant(acts.public(2), MEMBER), removal)
    assert acts.roles(2, acts.view(leave)) == (0, 0)
    assert acts.roles(2, acts.view(leave, again)) == (0, MEMBER)


def test_depth_is_the_shortest_way_to_an_owner() -> None:
    acts = Acts(OWNER, ADMIN, None, None)
    far = acts.write(1, Grant(acts.public(2), ADMIN), acts.world.genesis)
    farther = acts.write(2, Grant(acts.public(3), ADMIN), far)
    view = acts.view(farther)
    assert [acts.authority.depth(acts.public(each), view) for each in range(4)] == [0, 1, 2, 3]
    assert acts.authority.depths([2], view, view) == {0: 0, 1: 1, 2: 2}
    near = acts.write(0, Grant(acts.public(3), ADMIN), farther)
    assert acts.authority.depth(acts.public(3), acts.view(near)) == 1
    removal = acts.write(0, Revoke(acts.public(2)))
    assert acts.authority.depth(acts.public(2), acts.view(removal)) is None
