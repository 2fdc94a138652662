"""Handshake patterns as data: the specification's own notation, its modifiers, and its rules of validity.

The Noise Protocol Framework, revision 34: one-way patterns §7.4, interactive §7.5, deferred §7.6 and appendix
18.1, modifiers §8, ``psk`` §9.4, ``fallback`` §10.2. A pattern here always has the initiator on the
left. ``fallback`` makes Bob the initiator, so it exchanges the sides (§7.2: "es" becomes "se") and the
rest of the package never hears of Alice and Bob.

What a modifier builds is checked against the rules of §7.3 and §9.3, as is the table itself by its
test: a name that arrives from outside cannot make a handshake that leaks.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from protocols.noise.errors import NoiseError

Tokens = tuple[str, ...]

KEY_TOKENS = ("e", "s")
DH_TOKENS = ("ee", "es", "se", "ss")
PSK_TOKEN = "psk"

# 38 patterns of the table, 2 roles, 16 suites, with and without modifiers; names may be a peer's choice.
PATTERNS_CACHED_MAX = 256


@dataclass(frozen=True, slots=True)
class Pattern:
    """``messages[0]`` is the initiator's; they alternate. Pre-messages hold "e" and "s" only."""

    name: str
    initiator_pre: Tokens
    responder_pre: Tokens
    messages: tuple[Tokens, ...]
    one_way: bool = False

    @property
    def psk_count(self) -> int:
        return sum(message.count(PSK_TOKEN) for message in self.messages)


def _parse(name: str, text: str) -> Pattern:
    pre, _, messages = text.rpartition("...")
    known = dict(_arrows(pre))
    return Pattern(
        name,
        known.get("->", ()),
        known.get("<-", ()),
        tuple(tokens for _, tokens in _arrows(messages)),
        one_way=len(re.findall("[A-Z]", name)) == 1,
    )


def _arrows(text: str) -> list[tuple[str, Tokens]]:
    return [(arrow, tuple(tokens.replace(",", " ").split())) for arrow, tokens in re.findall(r"(->|<-)([^<>-]*)", text)]


PATTERNS = MappingProxyType(
    {
        name: _parse(name, text)
        for name, text in {
            "N": "<- s ... -> e, es",
            "K": "-> s <- s ... -> e, es, ss",
            "X": "<- s ... -> e, es, s, ss",
            "NN": "-> e <- e, ee",
            "NK": "<- s ... -> e, es <- e, ee",
            "NX": "-> e <- e, ee, s, es",
            "XN": "-> e <- e, ee -> s, se",
            "XK": "<- s ... -> e, es <- e, ee -> s, se",
            "XX": "-> e <- e, ee, s, es -> s, se",
            "KN": "-> s ... -> e <- e, ee, se",
            "KK": "-> s <- s ... -> e, es, ss <- e, ee, se",
            "KX": "-> s ... -> e <- e, ee, se, s, es",
            "IN": "-> e, s <- e, ee, se",
            "IK": "<- s ... -> e, es, s, ss <- e, ee, se",
            "IX": "-> e, s <- e, ee, se, s, es",
            "NK1": "<- s ... -> e <- e, ee, es",
            "NX1": "-> e <- e, ee, s -> es",
            "X1N": "-> e <- e, ee -> s <- se",
            "X1K": "<- s ... -> e, es <- e, ee -> s <- se",
            "XK1": "<- s ... -> e <- e, ee, es -> s, se",
            "X1K1": "<- s ... -> e <- e, ee, es -> s <- se",
            "X1X": "-> e <- e, ee, s, es -> s <- se",
            "XX1": "-> e <- e, ee, s -> es, s, se",
            "X1X1": "-> e <- e, ee, s -> es, s <- se",
            "K1N": "-> s ... -> e <- e, ee -> se",
            "K1K": "-> s <- s ... -> e, es <- e, ee -> se",
            "KK1": "-> s <- s ... -> e <- e, ee, se, es",
            "K1K1": "-> s <- s ... -> e <- e, ee, es -> se",
            "K1X": "-> s ... -> e <- e, ee, s, es -> se",
            "KX1": "-> s ... -> e <- e, ee, se, s -> es",
            "K1X1": "-> s ... -> e <- e, ee, s -> se, es",
            "I1N": "-> e, s <- e, ee -> se",
            "I1K": "<- s ... -> e, es, s <- e, ee -> se",
            "IK1": "<- s ... -> e, s <- e, ee, se, es",
            "I1K1": "<- s ... -> e, s <- e, ee, es -> se",
            "I1X": "-> e, s <- e, ee, s, es -> se",
            "IX1": "-> e, s <- e, ee, se, s -> es",
            "I1X1": "-> e, s <- e, ee, s -> se, es",
        }.items()
    }
)


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def pattern(name: str) -> Pattern:
    """The pattern named ``XX``, ``IKpsk2``, ``XXfallback+psk0``, ...; modifiers apply from left to right."""
    match = re.fullmatch(r"([A-Z0-9]+)((?:[a-z][a-z0-9]*(?:\+[a-z][a-z0-9]*)*)?)", name)
    base = PATTERNS.get(match[1]) if match else None
    if match is None or base is None:
        raise NoiseError("unknown_pattern", repr(name))
    result = base
    modifiers = match[2].split("+") if match[2] else []
    for modifier in modifiers:
        result = _modified(result, modifier)
    # §9.4: only then is one list of keys in the order of their use unambiguous.
    if len(set(modifiers)) != len(modifiers):
        raise NoiseError("invalid_pattern", f"{name!r} repeats a modifier")
    result = replace(result, name=name)
    check(result)
    return result


def _modified(pattern: Pattern, modifier: str) -> Pattern:
    messages = pattern.messages
    if modifier == "fallback":
        # §10.2: Alice's first message must read as a pre-message, and Bob starts.
        if messages[0] not in (("e",), ("s",), ("e", "s")) or len(messages) < 2:
            raise NoiseError("invalid_pattern", f"fallback cannot start after {messages[0]!r}")
        return replace(
            pattern,
            initiator_pre=pattern.responder_pre,
            responder_pre=pattern.initiator_pre + messages[0],
            messages=tuple(tuple(_swapped(token) for token in message) for message in messages[1:]),
        )
    if modifier.startswith(PSK_TOKEN) and modifier[3:].isdecimal() and modifier[3:] == str(int(modifier[3:])):
        # §9.4: psk0 opens the first message, psk1 closes it, psk2 closes the second, and so on.
        position = int(modifier[3:])
        if position > len(messages):
            raise NoiseError("invalid_pattern", f"{modifier} on a pattern of {len(messages)} messages")
        index = max(position - 1, 0)
        changed = (*messages[index], PSK_TOKEN) if position else (PSK_TOKEN, *messages[0])
        return replace(pattern, messages=(*messages[:index], changed, *messages[index + 1 :]))
    raise NoiseError("unknown_modifier", repr(modifier))


def _swapped(token: str) -> str:
    return token[::-1] if token in DH_TOKENS else token


# §7.3 rule 4: after the DH on the left a party encrypts nothing unless the one on the right, which adds
# its own ephemeral key, has happened too. Reuse of a static key would otherwise reuse a cipher key.
_NEEDED_TO_ENCRYPT = {
    "initiator": {"se": "ee", "ss": "es"},
    "responder": {"es": "ee", "ss": "se"},
}


def check(pattern: Pattern) -> None:
    """Refuse what breaks §7.3 (rules 1 to 4) or, with a ``psk``, §9.3."""

    def refuse(why: str) -> NoiseError:
        return NoiseError("invalid_pattern", f"{pattern.name!r}: {why}")

    known = {"initiator": list(pattern.initiator_pre), "responder": list(pattern.responder_pre)}
    done: list[str] = []

    def check_may_encrypt(party: str) -> None:
        for dh, needed in _NEEDED_TO_ENCRYPT[party].items():
            if dh in done and needed not in done:
                raise refuse(f"the {party} encrypts after {dh} without {needed}")
        if PSK_TOKEN in done and "e" not in known[party]:
            raise refuse(f"the {party} encrypts after psk without an ephemeral key of its own")

    for number, message in enumerate(pattern.messages):
        sender = "responder" if number % 2 else "initiator"
        for token in message:
            if token in KEY_TOKENS:
                if token == "s":
                    check_may_encrypt(sender)
                known[sender].append(token)
            elif token in DH_TOKENS:
                if token[0] not in known["initiator"] or token[1] not in known["responder"]:
                    raise refuse(f"{token} with a key that is not known yet")
                if token in done:
                    raise refuse(f"{token} twice")
                done.append(token)
            elif token == PSK_TOKEN:
                done.append(token)
            else:
                raise refuse(f"unknown token {token!r}")
        check_may_encrypt(sender)
    for party, keys in known.items():
        if len(set(keys)) != len(keys) or not set(keys) <= set(KEY_TOKENS):
            raise refuse(f"the {party} sends a key twice")
        if party == "initiator" or not pattern.one_way:
            check_may_encrypt(party)
