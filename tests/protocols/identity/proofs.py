"""Proofs as anybody can make them, honest or not: what ``answer`` would refuse to sign."""

from protocols.identity import DeviceCertificate, SigningKey
from protocols.identity.messages import Challenge, Proof
from protocols.identity.signing import Domain, sign


def prove(challenge: Challenge, signer: SigningKey, certificate: DeviceCertificate | None = None) -> Proof:
    """A signature under whatever challenge, by whoever, over the fields as the protocol frames them."""
    fields = (
        challenge.nonce,
        challenge.issued_at.to_bytes(8),
        challenge.device,
        challenge.issuer,
        challenge.purpose.encode(),
        challenge.channel,
        challenge.binding,
        challenge.key_package,
        b"" if certificate is None else certificate.to_bytes(),
    )
    return Proof(challenge, certificate, sign(signer, Domain.POSSESSION, *fields))
