"""Coverage-guided fuzzing of MLS: ``python -m tests.fuzz decoder``, ``group`` or ``state``.

A target is a function of bytes that promises something about any bytes whatever, and returns None or raises.
Under ``atheris`` the bytes are evolved towards branches of ``protocols.mls`` that were not reached yet; in the
default tests a few hundred fixed ones go through the same functions, so that the targets do not rot.

Bytes from outside reach little of a protocol in which everything is signed: what libFuzzer changes in a commit is
stopped by its signature, and no rule behind that is ever asked. So in ``group`` and ``state`` they are not the
message but the choices of whoever makes it (``draws``): a member with all the keys, who changes fields of sound
structures (``mutations``) and signs, tags and encrypts what came of it (``forging``).

Seeds are made by our own library when a run starts; none are kept here.
"""
