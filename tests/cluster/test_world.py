"""The world: facts about peers are functions of scenario and seed, and shards are cut where it pays."""

from typing import Any

import pytest

from cluster.options import ScenarioError
from cluster.scenario import Scenario
from cluster.world import World, _clusters
from protocols.contact import node_id
from protocols.identity import DeviceIdentity

MS = 1_000_000


def world(peers: int = 200, **options: Any) -> World:
    return World(Scenario.from_table({"name": "x", "peers": peers, "duration_s": 600, **options}))


def facts(of: World, peer: int) -> tuple[Any, ...]:
    return (of.region(peer), of.access_delay(peer), of.identity_seed(peer), of.journal_key(peer), of.schedule(peer))


def test_a_peer_is_the_same_in_worlds_of_any_size_and_another_under_another_seed() -> None:
    small, large, other = world(), world(300), world(seed=2)
    assert [facts(small, peer) for peer in range(200)] == [facts(large, peer) for peer in range(200)]
    assert [facts(small, peer) for peer in range(200)] != [facts(other, peer) for peer in range(200)]


def test_device_is_that_of_the_whole_identity() -> None:
    here = world()
    identity = DeviceIdentity.generate(here.identity_seed(7), here.network_id)
    assert here.device(7) == identity.device_public
    assert here.node_id(7) == node_id(identity.device_public)
    assert len({here.device(peer) for peer in range(200)}) == 200


def test_two_devices_have_one_user_who_says_so() -> None:
    here = world()
    devices = [DeviceIdentity.generate(here.identity_seed(peer), here.network_id).signing for peer in range(4)]
    certificates = [here.certificate(peer, device) for peer, device in enumerate(devices)]
    for certificate, device in zip(certificates, devices, strict=True):
        certificate.verify()
        assert certificate.device == device.public
    users = [certificate.user for certificate in certificates]
    assert users[0] == users[1] == here.user(1).public
    assert users[2] == users[3] != users[0]
    assert users[0] != world(seed=2).user(0).public
    assert certificates[3] == world(300).certificate(3, devices[3])


def test_regions_have_their_weights() -> None:
    here = world(4_000)
    share = {name: sum(here.region(peer) == name for peer in range(4_000)) / 4_000 for name in here.geography.names}
    assert share["europe"] == pytest.approx(0.494, abs=0.03)
    assert share["na_east"] == pytest.approx(0.255, abs=0.03)


def test_access_delays_have_their_median_and_floor() -> None:
    delays = sorted(world(4_000).access_ns)
    assert delays[2_000] == pytest.approx(5 * MS, rel=0.05)
    assert delays[0] == MS


def test_adversaries_are_the_last_peers_and_never_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import registry

    liars: registry.Registry[Any] = registry.Registry("adversary")
    liars.register("silent")(object)
    liars.register("loud")(object)
    monkeypatch.setattr("cluster.scenario.ADVERSARIES", liars)
    here = world(20, adversaries=[{"kind": "silent", "count": 2}, {"kind": "loud", "count": 3}])
    assert list(here.honest) == list(range(15))
    assert [here.adversary(peer) for peer in range(14, 20)] == [None, 0, 0, 1, 1, 1]
    with pytest.raises(ScenarioError, match="21 adversaries"):
        world(20, adversaries=[{"kind": "silent", "count": 21}])
    with pytest.raises(ScenarioError, match=r"adversaries.0.kind: .*did you mean 'silent'"):
        world(20, adversaries=[{"kind": "silnt", "count": 1}])


def test_two_shards_are_cut_between_continents() -> None:
    here = world(1_000)
    assignment = here.assign(2)
    assert here.lookahead(assignment) > 60 * MS
    assert 0.45 < assignment.count(0) / 1_000 < 0.55
    assert len({(here.region(peer), assignment[peer]) for peer in range(1_000)}) == len(
        set(map(here.region, range(1_000)))
    )


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 13])
def test_every_shard_has_work_and_every_peer_a_shard(shards: int) -> None:
    here = world(1_000)
    assignment = here.assign(shards)
    assert set(assignment) == set(range(shards))
    assert len(assignment) == 1_000
    assert here.lookahead(assignment) > 0


def test_more_work_makes_balance_worth_more_than_lookahead() -> None:
    light, heavy = world(100), world(10_000)
    assert light.lookahead(light.assign(3)) > 50 * MS
    balanced = heavy.assign(3)
    assert max(balanced.count(shard) for shard in range(3)) <= 3_334


def test_one_region_is_split_evenly() -> None:
    here = world(10, network={"model": "constant", "latency_s": 0.05})
    assert sorted(here.assign(2)) == [0] * 5 + [1] * 5
    assert here.lookahead(here.assign(2)) >= 50 * MS


def test_alone_a_shard_may_run_to_the_end() -> None:
    here = world()
    assert here.lookahead(here.assign(1)) == here.scenario.duration_ns


def test_more_shards_than_peers_are_refused() -> None:
    with pytest.raises(ScenarioError, match="11 shards cannot share 10 peers"):
        world(10).assign(11)


def test_clusters_join_through_others() -> None:
    matrix = ((1, 5, 9), (5, 1, 5), (9, 5, 1))
    assert _clusters(matrix, 5) == [[0], [1], [2]]
    assert _clusters(matrix, 6) == [[0, 1, 2]]
