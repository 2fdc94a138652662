"""Quantile tables: the right laws, in integers that no machine may change."""

import hashlib
import random
import time
from decimal import Decimal
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.sampling import Table, exponential, gamma, log_normal, normal_quantile, uniform, weibull

S = 1_000_000_000


def draws(table: Table, count: int) -> list[int]:
    source = random.Random(1)
    return [table.sample(source.getrandbits(64)) for _ in range(count)]


def test_tables_are_these_integers_on_every_machine() -> None:
    tables = (weibull(Decimal("0.5"), 10_000 * S), log_normal(2_000_000, Decimal("0.8")), exponential(3_600 * S))
    everything = repr([each.points for each in tables] + [tables[0].residual().points])
    assert hashlib.sha256(everything.encode()).hexdigest()[:16] == "e24ee24eb8a09385"


@pytest.mark.parametrize("shape", ["0.34", "0.5", "1", "2"])
def test_weibull_has_its_mean(shape: str) -> None:
    assert weibull(Decimal(shape), 10_000 * S).mean() == pytest.approx(10_000 * S, rel=1e-3)


def test_weibull_has_its_median() -> None:
    # KAD: scale 5,000 s, so the median is 5,000 ln(2)**2 s.
    assert weibull(Decimal("0.5"), 10_000 * S).sample(1 << 63) == pytest.approx(2_402.27 * S, rel=1e-4)


def test_samples_have_the_mean_of_the_table() -> None:
    table = exponential(S)
    sample = draws(table, 50_000)
    assert sum(sample) / len(sample) == pytest.approx(S, rel=0.02)
    assert sum(each > S for each in sample) / len(sample) == pytest.approx(0.3679, abs=0.01)


def test_log_normal_has_its_median_and_mean() -> None:
    table = log_normal(2_000_000, Decimal("0.8"))
    assert table.sample(1 << 63) == 2_000_000
    assert table.mean() == pytest.approx(2_000_000 * 2.718281828**0.32, rel=1e-3)


def test_residual_of_the_exponential_is_itself() -> None:
    table, residual = exponential(S), exponential(S).residual()
    for bits in (1 << 63, 1 << 60, 3 << 61, 1 << 50):
        assert residual.sample(bits) == pytest.approx(table.sample(bits), rel=2e-3)


def test_residual_lifetime_has_the_mean_that_length_bias_gives() -> None:
    # E[T^2] / (2 E[T]); for Weibull of shape 1/2 and scale s: 24 s^2 / (2 * 2 s) = 6 s.
    assert weibull(Decimal("0.5"), 10_000 * S).residual().mean() == pytest.approx(30_000 * S, rel=1e-3)
    # Uniform on (0, 1): 1/3.
    assert uniform(0, S).residual().mean() == pytest.approx(S / 3, rel=1e-3)


def test_residual_keeps_what_is_always_exceeded() -> None:
    # Uniform on (9, 11): residual time has mean E[T^2] / 2 E[T] = (100 + 1/3) / 20.
    assert uniform(9 * S, 11 * S).residual().mean() == pytest.approx((100 + 1 / 3) / 20 * S, rel=1e-3)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_sample_falls_as_its_bits_rise(first: int, second: int) -> None:
    table = weibull(Decimal("0.5"), 10_000 * S)
    low, high = sorted((first, second))
    assert 0 <= table.sample(high) <= table.sample(low) <= table.points[0]


def test_equally_likely_values_have_the_mean_of_the_law() -> None:
    table = log_normal(2_000_000, Decimal("0.8"))
    values = table.equally_likely(4_096)
    assert len(values) == 4_096
    assert sum(values) / 4_096 == pytest.approx(table.mean(), rel=2e-3)


def test_gamma_and_the_normal_quantile_are_right() -> None:
    assert float(gamma(Decimal(3))) == pytest.approx(2, rel=1e-15)
    assert float(gamma(Decimal("0.5"))) == pytest.approx(1.7724538509055160, rel=1e-15)
    for p in ("1e-12", "0.001", "0.08", "0.3", "0.5", "0.975"):
        assert float(normal_quantile(Decimal(p))) == pytest.approx(NormalDist().inv_cdf(float(p)), rel=1e-12)


def test_table_is_built_in_a_moment_and_then_kept() -> None:
    began = time.perf_counter()
    table = weibull(Decimal("0.123"), 77 * S)
    assert time.perf_counter() - began < 1.5  # 0.1 s on an idle core
    assert weibull(Decimal("0.123"), 77 * S) is table
