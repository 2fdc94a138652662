"""Published test vectors, run against our own code; each module here registers the kinds of one subject."""

from cluster.conformance import (  # noqa: F401 - registers its kinds
    hpke,
    mls_codec,
    mls_crypto,
    mls_groups,
    mls_keys,
    mls_tree,
    mls_treekem,
    noise,
    wycheproof,
)
from cluster.conformance.registry import (
    CaseResult,
    FileResult,
    Kind,
    MismatchError,
    UnsupportedError,
    expect_equal,
    register,
    run_files,
)

__all__ = [
    "CaseResult",
    "FileResult",
    "Kind",
    "MismatchError",
    "UnsupportedError",
    "expect_equal",
    "register",
    "run_files",
]
