"""The one file that a device cannot lose and nobody else may read.

``kdf`` makes keys of a passphrase, ``sealed`` is the bytes of the file, ``content`` what they seal. The file itself
is written in ``actors/storage``.
"""

from protocols.identity.keystore.content import Anchor, Content, DeviceKeys, RetiredKeys, unlock_content
from protocols.identity.keystore.errors import KeystoreError
from protocols.identity.keystore.kdf import Argon2Parameters, calibrate, wipe
from protocols.identity.keystore.sealed import KEYSTORE_SIZE_MAX, Header, Role, Unlocked

__all__ = [
    "KEYSTORE_SIZE_MAX",
    "Anchor",
    "Argon2Parameters",
    "Content",
    "DeviceKeys",
    "Header",
    "KeystoreError",
    "RetiredKeys",
    "Role",
    "Unlocked",
    "calibrate",
    "unlock_content",
    "wipe",
]
