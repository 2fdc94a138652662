"""What can be wrong with a keystore."""

from protocols.errors import StorageError


class KeystoreError(StorageError):
    """These bytes are no keystore of ours, or not opened by this passphrase; the file is as it was.

    Reasons, in the order in which they are found out. Without the passphrase: ``truncated``, ``not_a_keystore``,
    ``future_version``, ``too_large``, ``bad_kdf``, ``wrong_role``, ``wrong_device``. With it: ``no_memory`` to derive
    a key, ``wrong_passphrase`` (or an altered header: nobody can tell which), ``tampered``, ``malformed_content``.
    With the journal: ``rolled_back``.
    """
