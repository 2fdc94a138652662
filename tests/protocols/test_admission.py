import gc
import tracemalloc
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocols.admission import (
    NS_PER_S,
    Admission,
    AdmissionPolicy,
    BreakerPolicy,
    BreakerState,
    BucketTable,
    Quota,
    Verdict,
)
from protocols.errors import LocalError

HOUR = 3600 * NS_PER_S
ALICE, BOB, MALLORY = (bytes([n]) * 32 for n in (1, 2, 3))
QUOTA = Quota(rate_per_s=100, burst=200)


def admitted(verdicts: list[Verdict]) -> int:
    return sum(map(bool, verdicts))


def cut_off(door: Admission, peer: bytes, now: int) -> None:
    states = [door.record_fault(peer, now) for _ in range(10)]
    assert states[-1] is BreakerState.OPEN


class TokenBucket:
    """The model: so many tokens, as exact fractions, refilled by the time that passed."""

    def __init__(self, quota: Quota) -> None:
        self.rate = Fraction(1, quota.interval_ns)
        self.tokens = self.burst = Fraction(quota.burst)
        self.at = 0

    def admit(self, cost: int, now: int) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


quotas = st.builds(Quota, st.integers(1, 10**9), st.integers(1, 50))


# Rate limits


@given(quotas, st.data())
@settings(max_examples=150)
def test_a_bucket_answers_like_a_token_bucket_of_real_numbers(quota: Quota, data: st.DataObject) -> None:
    interval = quota.interval_ns
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 3 * interval), st.integers(0, 2 * quota.depth_ns))
    steps = data.draw(st.lists(st.tuples(gaps, st.integers(1, quota.burst + 1)), max_size=60))
    table: BucketTable[bytes] = BucketTable(quota.depth_ns, keys_max=4)
    model, now = TokenBucket(quota), 0
    for gap, cost in steps:
        now += gap
        assert bool(table.admit(ALICE, cost * interval, now)) == model.admit(cost, now)


@given(st.data())
@settings(max_examples=60)
def test_with_room_for_all_every_key_has_a_bucket_of_its_own(data: st.DataObject) -> None:
    quota = Quota(1000, 3)
    steps = data.draw(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2_000_000), st.integers(1, 3)), max_size=120)
    )
    table: BucketTable[int] = BucketTable(quota.depth_ns, keys_max=8)
    models, now = [TokenBucket(quota) for _ in range(8)], 0
    for key, gap, cost in steps:
        now += gap
        assert bool(table.admit(key, cost * quota.interval_ns, now)) == models[key].admit(cost, now)


def test_a_rested_peer_gets_its_burst_and_then_its_rate() -> None:
    door = Admission(AdmissionPolicy(requests=QUOTA))
    assert admitted([door.admit_request(ALICE, "ping", 0) for _ in range(1000)]) == 200
    assert door.admit_request(ALICE, "ping", 0) is Verdict.RATE_LIMITED
    second = range(0, NS_PER_S, NS_PER_S // 1000)
    assert admitted([door.admit_request(ALICE, "ping", now) for now in second]) == 99  # the 100th ends it


def test_costly_kinds_pay_more_and_unknown_kinds_pay_one() -> None:
    policy = AdmissionPolicy(requests=QUOTA, costs={"store": 50})
    door = Admission(policy)
    assert admitted([door.admit_request(ALICE, "store", 0) for _ in range(5)]) == 4
    assert not door.admit_request(ALICE, "never heard of", 0)
    assert door.admit_request(ALICE, "never heard of", NS_PER_S // 100)


def test_what_is_refused_costs_nothing() -> None:
    door = Admission(AdmissionPolicy(requests=QUOTA, costs={"store": 50}))
    assert admitted([door.admit_request(ALICE, "ping", 0) for _ in range(160)]) == 160
    before = door.to_bytes()
    assert not any(door.admit_request(ALICE, "store", 0) for _ in range(100))
    assert door.to_bytes() == before
    assert admitted([door.admit_request(ALICE, "ping", 0) for _ in range(100)]) == 40


@given(st.lists(st.tuples(st.integers(0, 65_536), st.integers(0, 5_000_000)), max_size=200))
@settings(max_examples=60)
def test_one_endpoint_stays_within_both_bytes_and_packets(packets: list[tuple[int, int]]) -> None:
    bytes_quota, floor = Quota(1_000_000, 100_000), 1_000
    door = Admission(AdmissionPolicy(endpoint_bytes=bytes_quota, packet_bytes_min=floor))
    now = octets = count = 0
    for size, gap in packets:
        now += gap
        if door.admit_packet(7, size, now):
            octets, count = octets + size, count + 1
        allowance = bytes_quota.burst + Fraction(now, bytes_quota.interval_ns)
        assert octets <= allowance
        assert count <= allowance / floor


def test_many_small_packets_are_bounded_as_packets_and_large_ones_as_bytes() -> None:
    policy = AdmissionPolicy()
    small, large = Admission(policy), Admission(policy)
    assert admitted([small.admit_packet(7, 40, 0) for _ in range(5_000)]) == 2_000
    assert admitted([large.admit_packet(7, 64_000, 0) for _ in range(5_000)]) == 125


def test_endpoints_of_one_subnet_share_a_parent_bucket() -> None:
    quota = Quota(1_000_000, 40_000)
    door = Admission(
        AdmissionPolicy(
            endpoint_bytes=Quota(1_000_000, 20_000),
            group_of=lambda endpoint: endpoint >> 8,
            group_bytes=quota,
        )
    )
    assert admitted([door.admit_packet(endpoint, 4_000, 0) for endpoint in range(256)]) == 10
    assert door.admit_packet(256, 4_000, 0)  # another subnet


# Floods and memory


def test_a_flood_of_keys_keeps_memory_flat_and_does_not_free_an_offender() -> None:
    policy = AdmissionPolicy(requests=QUOTA, peers_max=100)
    door = Admission(policy)
    assert admitted([door.admit_request(MALLORY, "ping", 0) for _ in range(300)]) == 200
    sizes = set()
    for n in range(20_000):
        door.admit_request(n.to_bytes(32), "ping", n)
        sizes.add(door.tracked)
    assert max(sizes) == 100
    assert not door.admit_request(MALLORY, "ping", 20_000)


def test_newcomers_to_a_full_table_share_one_bucket_and_residents_keep_theirs() -> None:
    door = Admission(AdmissionPolicy(requests=QUOTA, peers_max=10))
    residents = [bytes([1, n]) for n in range(10)]
    for peer in residents:
        assert door.admit_request(peer, "ping", 0)
    verdicts = [door.admit_request(n.to_bytes(32), "ping", 0) for n in range(1_000)]
    assert admitted(verdicts) == 200
    assert verdicts[-1] is Verdict.CROWDED_OUT
    for peer in residents:
        assert admitted([door.admit_request(peer, "ping", 0) for _ in range(300)]) == 199


def test_idle_keys_make_room_so_a_slow_flood_of_fresh_keys_crowds_nobody_out() -> None:
    door = Admission(AdmissionPolicy(endpoints_max=64))
    interval = 40_000 * 250 // 40  # each spoofed endpoint is busy for four of these
    for n in range(20_000):
        assert door.admit_packet(n, 100, n * interval) is Verdict.ADMITTED
        assert door.tracked <= 64


def test_idle_keys_are_swept_long_before_the_table_is_full() -> None:
    table: BucketTable[int] = BucketTable(depth_ns=100, keys_max=100_000)
    for n in range(50_000):
        table.admit(n, 100, n)  # a hundred are busy at a time
    assert len(table) < 500


def test_one_idle_key_in_a_full_table_makes_room_for_the_next_newcomer() -> None:
    for idle in range(16):
        table: BucketTable[int] = BucketTable(depth_ns=10, keys_max=16)
        for key in range(16):
            table.admit(key, 1 if key == idle else 10, 0)
        assert table.admit(100, 10, 1) is Verdict.ADMITTED  # in the idle one's place
        assert table.admit(101, 10, 1) is Verdict.ADMITTED  # in the shared bucket
        assert table.admit(102, 10, 1) is Verdict.CROWDED_OUT
        assert len(table) == 16


def test_memory_a_key_is_about_a_hundred_bytes_and_an_idle_door_is_small() -> None:
    policy = AdmissionPolicy(endpoints_max=50_000)
    Admission(policy).admit_packet(1, 1, 0)
    gc.collect()
    tracemalloc.start()
    doors = [Admission(policy) for _ in range(100)]
    assert tracemalloc.get_traced_memory()[0] < 100 * 1_000
    before = tracemalloc.get_traced_memory()[0]
    for n in range(50_000):
        doors[0].admit_packet(2**32 + n, 64_000, HOUR)
    assert doors[0].tracked == 50_000
    assert tracemalloc.get_traced_memory()[0] - before < 50_000 * 140
    tracemalloc.stop()


# Breakers


def test_ten_faults_within_a_minute_cut_a_peer_off_for_thirty_seconds() -> None:
    door = Admission()
    states = [door.record_fault(MALLORY, n * 6 * NS_PER_S) for n in range(10)]
    assert states == [BreakerState.CLOSED] * 9 + [BreakerState.OPEN]
    opened = 54 * NS_PER_S
    assert door.admit_request(MALLORY, "ping", opened) is Verdict.BREAKER_OPEN
    assert door.admit_request(MALLORY, "ping", opened + 30 * NS_PER_S - 1) is Verdict.BREAKER_OPEN
    assert door.admit_request(MALLORY, "ping", opened + 30 * NS_PER_S) is Verdict.ADMITTED
    assert door.admit_request(BOB, "ping", opened) is Verdict.ADMITTED


def test_a_slow_trickle_of_faults_opens_nothing() -> None:
    door = Admission()
    for minute in range(2_000):
        assert door.record_fault(ALICE, minute * 60 * NS_PER_S) is BreakerState.CLOSED


def test_good_requests_in_between_do_not_excuse_faults() -> None:
    door = Admission()
    for n in range(10):
        door.record_success(MALLORY, n)
        state = door.record_fault(MALLORY, n)
    assert state is BreakerState.OPEN


def test_faults_while_open_do_not_prolong_the_punishment() -> None:
    door = Admission()
    cut_off(door, MALLORY, 0)
    for second in range(30):
        assert door.record_fault(MALLORY, second * NS_PER_S) is BreakerState.OPEN
    assert door.breaker_state(MALLORY, 30 * NS_PER_S) is BreakerState.HALF_OPEN


def test_probes_are_bounded_and_an_unreported_one_expires() -> None:
    door = Admission()
    cut_off(door, MALLORY, 0)
    now = 30 * NS_PER_S
    assert admitted([door.admit_request(MALLORY, "ping", now) for _ in range(100)]) == 3
    now += 10 * NS_PER_S
    assert not door.admit_request(MALLORY, "ping", now - 1)
    assert admitted([door.admit_request(MALLORY, "ping", now) for _ in range(100)]) == 3


def test_probes_under_way_are_no_more_than_the_successes_still_needed() -> None:
    door = Admission()
    cut_off(door, MALLORY, 0)
    now = 30 * NS_PER_S
    door.admit_request(MALLORY, "ping", now)
    door.record_success(MALLORY, now)
    assert admitted([door.admit_request(MALLORY, "ping", now) for _ in range(100)]) == 2


def test_a_success_that_answers_no_probe_closes_nothing() -> None:
    door = Admission()
    cut_off(door, MALLORY, 0)
    for _ in range(10):
        assert door.record_success(MALLORY, 30 * NS_PER_S) is BreakerState.HALF_OPEN


def test_a_rate_limited_request_takes_no_probe() -> None:
    door = Admission(AdmissionPolicy(requests=Quota(1, 1), breaker=BreakerPolicy(open_ns=1, probes=1)))
    door.admit_request(MALLORY, "ping", 0)
    cut_off(door, MALLORY, 0)
    assert door.admit_request(MALLORY, "ping", 1) is Verdict.RATE_LIMITED
    assert door.admit_request(MALLORY, "ping", NS_PER_S) is Verdict.ADMITTED  # the one probe was still there


def test_a_full_house_of_open_breakers_frees_no_offender_and_cuts_off_no_stranger() -> None:
    door = Admission(AdmissionPolicy(peers_max=8, breaker=BreakerPolicy(failures=2)))
    offenders = [bytes([9, n]) for n in range(8)]
    for peer in offenders:
        cut_off(door, peer, 0)
    for n in range(1_000):
        for _ in range(3):
            assert door.record_fault(n.to_bytes(32), 1) is BreakerState.CLOSED
        assert door.tracked <= 16
    assert all(door.breaker_state(peer, 1) is BreakerState.OPEN for peer in offenders)
    assert door.breaker_state(BOB, 1) is BreakerState.CLOSED
    cut_off(door, MALLORY, HOUR)  # by now the others are forgotten


def test_a_breaker_that_opened_again_does_not_hide_one_that_is_to_be_forgotten() -> None:
    door = Admission(AdmissionPolicy(peers_max=2))
    cut_off(door, MALLORY, 0)
    cut_off(door, BOB, 0)
    assert door.record_fault(MALLORY, 600 * NS_PER_S) is BreakerState.OPEN
    cut_off(door, ALICE, 700 * NS_PER_S)  # BOB's was forgotten at 630 s
    assert door.breaker_state(MALLORY, 700 * NS_PER_S) is BreakerState.HALF_OPEN


def test_who_was_let_back_starts_afresh() -> None:
    door = Admission()
    cut_off(door, MALLORY, 0)
    now = 30 * NS_PER_S
    for _ in range(3):
        assert door.admit_request(MALLORY, "ping", now)
        state = door.record_success(MALLORY, now)
    assert state is BreakerState.CLOSED
    assert [door.record_fault(MALLORY, now) for _ in range(10)].count(BreakerState.CLOSED) == 9


def test_packets_of_any_endpoint_open_no_breaker() -> None:
    door = Admission()
    for n in range(3_000):
        door.admit_packet(int.from_bytes(MALLORY[:8]), 65_536, n)
    assert door.breaker_state(MALLORY, 0) is BreakerState.CLOSED
    assert door.admit_request(MALLORY, "ping", 3_000)


PEERS = st.sampled_from([ALICE, BOB])
SMALL = BreakerPolicy(failures=3, forgive_ns=40, open_ns=20, probes=2, lease_ns=10)


class ModelBreaker:
    """One breaker, told the slow way: exact levels, and everything kept until it is looked at."""

    def __init__(self) -> None:
        self.level, self.level_at = Fraction(0), 0
        self.reopens_at: int | None = None
        self.successes, self.leases = 0, list[int]()

    def state(self, now: int) -> BreakerState:
        if self.reopens_at is None or now >= self.reopens_at + max(3 * 40, 2 * 20):
            self.reopens_at = None
            return BreakerState.CLOSED
        self.leases = [expiry for expiry in self.leases if expiry > now]
        return BreakerState.OPEN if now < self.reopens_at else BreakerState.HALF_OPEN

    def admit(self, now: int) -> bool:
        state = self.state(now)
        if state is BreakerState.HALF_OPEN:
            if len(self.leases) >= 2 - self.successes:
                return False
            self.leases.append(now + 10)
        return state is not BreakerState.OPEN

    def fault(self, now: int) -> None:
        state = self.state(now)
        if state is BreakerState.CLOSED:
            self.level = max(Fraction(0), self.level - Fraction(now - self.level_at, 40))
            self.level_at = now
            if self.level <= 1:  # a third one is one too many
                self.level += 1
                return
        if state is not BreakerState.OPEN:
            self.reopens_at, self.level = now + 20, Fraction(0)
            self.successes, self.leases = 0, []

    def success(self, now: int) -> None:
        if self.state(now) is BreakerState.HALF_OPEN and self.leases:
            self.leases.pop(0)
            self.successes += 1
            if self.successes == 2:
                self.reopens_at = None


class BreakerMachine(RuleBasedStateMachine):
    """Two peers' breakers beside the model, through stepping clocks and restores."""

    @initialize()
    def start(self) -> None:
        self.policy = AdmissionPolicy(requests=Quota(NS_PER_S, 10**9), breaker=SMALL)
        self.door = Admission(self.policy)
        self.models = {ALICE: ModelBreaker(), BOB: ModelBreaker()}
        self.clock = self.elapsed = 0

    @rule(ns=st.one_of(st.integers(0, 25), st.integers(0, 200)))
    def time_passes(self, ns: int) -> None:
        self.clock += ns
        self.elapsed += ns

    @rule(ns=st.integers(1, 10**15))
    def clock_steps_back(self, ns: int) -> None:
        self.door.breaker_state(ALICE, self.clock)
        self.clock -= ns
        self.door.breaker_state(ALICE, self.clock)

    @rule(peer=PEERS)
    def request(self, peer: bytes) -> None:
        expected = Verdict.ADMITTED if self.models[peer].admit(self.elapsed) else Verdict.BREAKER_OPEN
        assert self.door.admit_request(peer, "ping", self.clock) is expected

    @rule(peer=PEERS)
    def fault(self, peer: bytes) -> None:
        self.models[peer].fault(self.elapsed)
        assert self.door.record_fault(peer, self.clock) is self.models[peer].state(self.elapsed)

    @rule(peer=PEERS)
    def comes_on_probation(self, peer: bytes) -> None:
        for _ in range(3):
            self.fault(peer)
        at = self.models[peer].reopens_at
        if at is not None and at > self.elapsed:
            self.time_passes(at - self.elapsed)

    @rule(peer=PEERS)
    def good_request_and_then_many(self, peer: bytes) -> None:
        self.request(peer)
        self.success(peer)
        for _ in range(3):
            self.request(peer)

    @rule(peer=PEERS)
    def success(self, peer: bytes) -> None:
        self.models[peer].success(self.elapsed)
        assert self.door.record_success(peer, self.clock) is self.models[peer].state(self.elapsed)

    @rule()
    def restore(self) -> None:
        self.door = Admission.from_bytes(self.door.to_bytes(), self.policy)

    @invariant()
    def states_agree(self) -> None:
        for peer, model in self.models.items():
            assert self.door.breaker_state(peer, self.clock) is model.state(self.elapsed)


TestBreakerAgainstItsModel = BreakerMachine.TestCase
TestBreakerAgainstItsModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# Clocks and state


@pytest.mark.parametrize("step", [-HOUR, -1, -(10**18)])
def test_a_clock_that_steps_back_unlocks_nothing_and_locks_nobody_out(step: int) -> None:
    door, now = Admission(), 10 * HOUR
    while door.admit_request(ALICE, "ping", now):
        pass
    cut_off(door, MALLORY, now)
    now += step
    assert door.admit_request(ALICE, "ping", now) is Verdict.RATE_LIMITED
    assert door.admit_request(MALLORY, "ping", now) is Verdict.BREAKER_OPEN
    now += NS_PER_S // 100
    assert admitted([door.admit_request(ALICE, "ping", now) for _ in range(10)]) == 1
    assert door.breaker_state(MALLORY, now) is BreakerState.OPEN
    assert door.breaker_state(MALLORY, now + 30 * NS_PER_S) is BreakerState.HALF_OPEN


def test_a_clock_that_steps_forward_grants_no_more_than_a_rest() -> None:
    door = Admission()
    assert admitted([door.admit_request(ALICE, "ping", 0) for _ in range(300)]) == 200
    assert admitted([door.admit_request(ALICE, "ping", HOUR) for _ in range(300)]) == 200


events = st.lists(
    st.tuples(
        st.sampled_from(["packet", "request", "fault", "success"]),
        st.integers(0, 12),
        st.integers(-1_000_000, 20_000_000),
    ),
    max_size=150,
)


def replay(door: Admission, script: list[tuple[str, int, int]], now: int) -> tuple[list[object], int]:
    answers: list[object] = []
    for what, key, gap in script:
        now += gap
        peer = bytes([key])
        match what:
            case "packet":
                answers.append(door.admit_packet(key, 30_000, now))
            case "request":
                answers.append(door.admit_request(peer, "store", now))
            case "fault":
                answers.append(door.record_fault(peer, now))
            case _:
                answers.append(door.record_success(peer, now))
    return answers, now


@given(events, events)
@settings(max_examples=100)
def test_a_restored_door_answers_like_the_one_that_was_saved(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    """Tables of five entries for thirteen keys: what the sweep has yet to visit is part of the state."""
    policy = AdmissionPolicy(
        endpoints_max=5,
        peers_max=5,
        requests=Quota(100, 8),
        costs={"store": 3},
        endpoint_bytes=Quota(10_000_000, 90_000),
        group_of=lambda endpoint: endpoint // 3,
        breaker=BreakerPolicy(2, 20_000_000, 30_000_000, 2, 10_000_000),
    )
    door = Admission(policy)
    _, now = replay(door, before, 0)
    data = door.to_bytes()
    restored = Admission.from_bytes(data, policy)
    assert restored.to_bytes() == data
    assert replay(restored, after, now) == replay(door, after, now)
    assert restored.to_bytes() == door.to_bytes()


def test_a_restored_door_keeps_budgets_though_the_new_clock_starts_at_zero() -> None:
    door = Admission()
    while door.admit_request(ALICE, "ping", 10 * HOUR):
        pass
    cut_off(door, MALLORY, 10 * HOUR)
    door = Admission.from_bytes(door.to_bytes())
    assert not door.admit_request(ALICE, "ping", 0)
    assert door.admit_request(MALLORY, "ping", 0) is Verdict.BREAKER_OPEN
    assert door.admit_request(ALICE, "ping", NS_PER_S)
    assert door.admit_request(MALLORY, "ping", 30 * NS_PER_S)


def test_offenders_stay_cut_off_under_a_policy_with_smaller_tables() -> None:
    door = Admission(AdmissionPolicy(peers_max=8))
    peers = [bytes([n]) for n in range(8)]
    for peer in peers:
        cut_off(door, peer, 0)
    door = Admission.from_bytes(door.to_bytes(), AdmissionPolicy(peers_max=2))
    now = 30 * NS_PER_S
    for peer in peers:
        assert door.record_fault(peer, now) is BreakerState.OPEN  # on probation, and at it again


def test_damaged_state_is_refused() -> None:
    door = Admission()
    door.admit_packet(1, 1, 1)
    data = door.to_bytes()
    future = msgspec.msgpack.decode(data)
    future[0] = 2
    for bad in (b"", data[:-1], data + b"\x00", msgspec.msgpack.encode(future), b"\x01"):
        with pytest.raises(LocalError):
            Admission.from_bytes(bad)
    beyond = msgspec.msgpack.decode(data, strict=False)
    beyond[3][2] = 2
    with pytest.raises(LocalError):
        Admission.from_bytes(msgspec.msgpack.encode(beyond))


def test_an_endpoint_beyond_64_bits_cannot_be_saved() -> None:
    door = Admission()
    door.admit_packet(2**64, 1, 0)
    with pytest.raises(LocalError):
        door.to_bytes()


def test_a_policy_that_could_admit_nothing_is_an_error() -> None:
    for build in (
        lambda: Quota(0, 1),
        lambda: Quota(1, 0),
        lambda: Quota(2 * NS_PER_S, 1),
        lambda: BreakerPolicy(failures=0),
        lambda: BreakerPolicy(probes=0),
        lambda: AdmissionPolicy(costs={"store": 0}),
        lambda: AdmissionPolicy(costs={"store": 201}),
        lambda: AdmissionPolicy(packet_bytes_min=8_000_001),
        lambda: AdmissionPolicy(peers_max=0),
    ):
        with pytest.raises(LocalError):
            build()
