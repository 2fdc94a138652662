"""Cookies: proof that somebody receives what is sent to the endpoint he claims, without remembering him.

Under a flood a responder answers INIT with a MAC over the sender's endpoint and index instead of three
Diffie-Hellmans and a table entry (WireGuard's idea, and DTLS's). One secret is drawn when first needed; the
epoch is part of what is MACed, so a cookie ages without a second secret to keep.
"""

from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from typing import Final

from protocols.noise.datagrams import COOKIE_SIZE

SECRET_SIZE: Final = 32

_INPUT: Final = Struct(">QQI")


def cookie(secret: bytes, endpoint: int, index: int, epoch: int) -> bytes:
    data = _INPUT.pack(epoch, endpoint, index)
    return blake2s(data, key=secret, digest_size=COOKIE_SIZE, person=b"session1").digest()


def valid_cookie(secret: bytes, endpoint: int, index: int, epoch: int, presented: bytes) -> bool:
    """A cookie of this epoch or the one before: who got it a moment before the change may use it."""
    return any(
        compare_digest(presented, cookie(secret, endpoint, index, each)) for each in (epoch, epoch - 1) if each >= 0
    )
