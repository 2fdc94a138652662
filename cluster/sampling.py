"""Random times from integer quantile tables, the same on every machine.

``exp`` and ``log`` of the C library differ in their last bit from one system to the next, and one
nanosecond is enough to give a run another digest. So a law of time becomes a table of integers once,
computed with ``decimal`` (its ``exp`` and ``ln`` are correctly rounded by specification, everywhere; its
power is not, and is not used), and a draw is a lookup and an integer interpolation.

The table is indexed by the upper tail probability v, in octaves: 32 cells for v in (1/2, 1], 32 for
(1/4, 1/2], and so on down to 2**-40. Equal cells, the obvious way, would lose the tail, where
heavy-tailed sessions have most of their mean. Between two entries the law is uniform, and ``residual``
integrates that law, so the two agree whatever the table approximates.
"""

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import Final

OCTAVES: Final = 40
"""The tail ends at probability 2**-40, which a million draws a second meet once in 13 days."""

CELLS: Final = 32
"""Cells of an octave; the mean of a table is within 0.1 % of its law's."""

_DIGITS: Final = Context(prec=24)
"""Enough for 64-bit integers with five digits to spare, and few enough to build a table in 50 ms."""

_CELL_BITS: Final = CELLS.bit_length() - 1
_FRACTION_BITS: Final = 16


class Table:
    """A law of non-negative integer times."""

    __slots__ = ("points",)

    def __init__(self, points: tuple[int, ...]) -> None:
        self.points: Final = points
        """The times that are exceeded with probability ``tail(i)``, i ascending: the largest time comes first."""

    def sample(self, bits: int) -> int:
        """The time that belongs to 64 uniform bits; zeros are the far end of the tail."""
        size = bits.bit_length()
        octave = size - (64 - OCTAVES) - 1
        if octave < 0:
            return self.points[0]
        index = (octave << _CELL_BITS) + (bits >> (size - _CELL_BITS - 1)) - CELLS
        fraction = (bits >> (size - _CELL_BITS - 1 - _FRACTION_BITS)) & ((1 << _FRACTION_BITS) - 1)
        high = self.points[index]
        return high - ((high - self.points[index + 1]) * fraction >> _FRACTION_BITS)

    def equally_likely(self, count: int) -> tuple[int, ...]:
        """``count`` times, each as likely as the others: a coarser table for a draw that must be fast."""
        return tuple(self.sample(((2 * i + 1) << 64) // (2 * count)) for i in range(count))

    def mean(self) -> int:
        """The mean of what ``sample`` returns, to the nanosecond."""
        return _areas(self.points)[-1] // (2 << (OCTAVES + _CELL_BITS))

    def residual(self) -> "Table":
        """How long what is under way at a random moment still takes: density S(t) / mean.

        At such a moment long sessions are likelier met than short ones. A run that starts with fresh
        sessions instead shows for hours more departures than its law has.
        """
        points, areas = (*self.points, 0), _areas(self.points)
        total = areas[-1]
        residual = [points[0]]
        cell = 0
        for index in range(1, len(self.points) - 1):
            target = total * _tail(index) >> (OCTAVES + _CELL_BITS)
            while areas[cell + 1] < target:
                cell += 1
            width = areas[cell + 1] - areas[cell]
            step = points[cell] - points[cell + 1]
            residual.append(points[cell] - (step * (target - areas[cell]) // width if width else 0))
        return Table((*residual, 0))


def _tail(index: int) -> int:
    """The upper tail probability of an entry, in units of 2**-(OCTAVES + 5); its last entry is 1."""
    octave, cell = divmod(index, CELLS)
    return (CELLS + cell) << octave


def _areas(points: tuple[int, ...]) -> list[int]:
    """The integral of the survival function from each entry to infinity, in units of 2**-(OCTAVES + 6) ns.

    One more than there are entries: the last one is from zero, and so the mean. Until the least time the
    survival function is 1.
    """
    areas = [0]
    for index in range(1, len(points)):
        step = points[index - 1] - points[index]
        areas.append(areas[-1] + step * (_tail(index - 1) + _tail(index)))
    areas.append(areas[-1] + points[-1] * 2 * _tail(len(points) - 1))
    return areas


def _build(quantile: Callable[[Decimal], Decimal], least: int = 0) -> Table:
    """A table from the function that maps an upper tail probability below 1 to a time in ns."""
    count = OCTAVES * CELLS
    with localcontext(_DIGITS):
        unit = Decimal(1 << (OCTAVES + _CELL_BITS))
        times = [int(quantile(Decimal(_tail(i)) / unit).to_integral_value()) for i in range(count)]
    return Table((*times, least))


@cache
def exponential(mean_ns: int) -> Table:
    """Without memory: residual and whole lifetimes have the same law."""
    return _build(lambda v: -v.ln(_DIGITS) * mean_ns)


@cache
def weibull(shape: Decimal, mean_ns: int) -> Table:
    """Of this mean; a shape below 1 means that who has stayed long stays longer."""
    with localcontext(_DIGITS):
        scale = mean_ns / gamma(1 + 1 / shape)
        return _build(lambda v: scale * ((-v.ln()).ln() / shape).exp())


@cache
def log_normal(median_ns: int, sigma: Decimal) -> Table:
    """The exponential of a normal variate."""
    return _build(lambda v: median_ns * (sigma * -normal_quantile(v)).exp())


@cache
def uniform(low_ns: int, high_ns: int) -> Table:
    """Between two times."""
    return _build(lambda v: high_ns - (high_ns - low_ns) * v, low_ns)


def gamma(x: Decimal) -> Decimal:
    """The gamma function for x > 0, by Stirling's series (DLMF 5.11.1) far out, and back by the recurrence."""
    with localcontext(_DIGITS):
        product = Decimal(1)
        while x < 24:
            product *= x
            x += 1
        series = sum(
            (1 / (Decimal(c) * x**n) for n, c in ((1, 12), (3, -360), (5, 1260), (7, -1680), (9, 1188))),
            Decimal(0),
        )
        log = (x - Decimal("0.5")) * x.ln() - x + (2 * _PI).ln() / 2 + series
        return log.exp() / product


def normal_quantile(p: Decimal) -> Decimal:
    """The inverse of the normal distribution function: Wichura's AS 241 (PPND16), good to 16 digits."""
    with localcontext(_DIGITS):
        q = p - Decimal("0.5")
        if abs(q) <= Decimal("0.425"):
            r = Decimal("0.180625") - q * q
            return q * _polynomial(_A, r) / _polynomial(_B, r)
        r = (-min(p, 1 - p).ln()).sqrt()
        if r <= 5:
            value = _polynomial(_C, r - Decimal("1.6")) / _polynomial(_D, r - Decimal("1.6"))
        else:
            value = _polynomial(_E, r - 5) / _polynomial(_F, r - 5)
        return -value if q < 0 else value


def _polynomial(coefficients: tuple[Decimal, ...], x: Decimal) -> Decimal:
    value = Decimal(0)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _decimals(text: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(each) for each in text.split())


_PI: Final = Decimal("3.14159265358979323846264338327950288")

# Applied Statistics algorithm AS 241, constants of PPND16, lowest power first.
_A: Final = _decimals(
    "3.3871328727963666080e0 1.3314166789178437745e2 1.9715909503065514427e3 1.3731693765509461125e4"
    " 4.5921953931549871457e4 6.7265770927008700853e4 3.3430575583588128105e4 2.5090809287301226727e3"
)
_B: Final = _decimals(
    "1 4.2313330701600911252e1 6.8718700749205790830e2 5.3941960214247511077e3"
    " 2.1213794301586595867e4 3.9307895800092710610e4 2.8729085735721942674e4 5.2264952788528545610e3"
)
_C: Final = _decimals(
    "1.42343711074968357734e0 4.63033784615654529590e0 5.76949722146069140550e0 3.64784832476320460504e0"
    " 1.27045825245236838258e0 2.41780725177450611770e-1 2.27238449892691845833e-2 7.74545014278341407640e-4"
)
_D: Final = _decimals(
    "1 2.05319162663775882187e0 1.67638483018380384940e0 6.89767334985100004550e-1"
    " 1.48103976427480074590e-1 1.51986665636164571966e-2 5.47593808499534494600e-4 1.05075007164441684324e-9"
)
_E: Final = _decimals(
    "6.65790464350110377720e0 5.46378491116411436990e0 1.78482653991729133580e0 2.96560571828504891230e-1"
    " 2.65321895265761230930e-2 1.24266094738807843860e-3 2.71155556874348757815e-5 2.01033439929228813265e-7"
)
_F: Final = _decimals(
    "1 5.99832206555887937690e-1 1.36929880922735805310e-1 1.48753612908506148525e-2"
    " 7.86869131145613259100e-4 1.84631831751005468180e-5 1.42151175831644588870e-7 2.04426310338993978564e-15"
)
