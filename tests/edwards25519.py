"""The curve of Ed25519 in plain integers, for making what no library makes: signatures with points of small order.

Slow, and nothing about it is constant in time: for tests only. RFC 8032 §5.1, affine points.
"""

import hashlib
from typing import Final

Point = tuple[int, int]

PRIME: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""The order of the large subgroup; the whole group has eight times as many points."""
D: Final = -121665 * pow(121666, -1, PRIME) % PRIME
IDENTITY: Final[Point] = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_with(y: int, sign: int) -> Point:
    """The point of that y whose x has that lowest bit."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if (x * x - square) % PRIME:
        raise ValueError("no point has this y")
    return (PRIME - x if x and x & 1 != sign else x), y % PRIME


BASE: Final = point_with(4 * pow(5, -1, PRIME) % PRIME, 0)


def torsion(order: int) -> Point:
    """A point of this order, which divides eight: what remains of some point times ``ORDER``."""
    y = 2
    while True:
        try:
            remainder = multiply(ORDER, point_with(y, 0))
        except ValueError:
            remainder = IDENTITY
        if multiply(4, remainder) != IDENTITY:
            return multiply(8 // order, remainder)
        y += 1


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    """RFC 8032 §5.1.7, step 2: over the bytes as they came, however they encode their points."""
    return int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER


def encode_scalar(number: int) -> bytes:
    return number.to_bytes(32, "little")
