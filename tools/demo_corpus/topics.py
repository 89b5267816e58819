"""A topic is one question in several wordings; a family is a kind of topics."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

# Letters and digits carry the whole question here, so a slip would change the right answer.
_SLIP_MIN_LENGTH = 14

_OPENINGS = ("Hey, ", "Hi, ", "Please tell me: ", "Tell me, ", "Quick question: ", "So, ", "OK, ")
_CLOSINGS = (" Please.", " Thanks!", " Thank you.")


@dataclass(frozen=True, slots=True)
class Topic:
    """`probes` are wordings that training never sees; `verbatim` keeps the question as it is."""

    answer: str
    wordings: tuple[str, ...]
    probes: tuple[str, ...] = ()
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """`share` is how often the family is drawn, relative to the others."""

    name: str
    share: float
    draw: Callable[[Random], Topic]


def topic(answer: str, probe: str, *wordings: str) -> Topic:
    return Topic(answer=answer, wordings=wordings, probes=(probe,))


def filled(answer: str, wordings: Iterable[str], probes: Iterable[str], **slots: object) -> Topic:
    """Writes the same slots into the answer and into every wording."""
    return Topic(
        answer=answer.format(**slots),
        wordings=tuple(wording.format(**slots) for wording in wordings),
        probes=tuple(probe.format(**slots) for probe in probes),
    )


def listed(name: str, share: float, topics: Sequence[Topic]) -> Family:
    return Family(name, share, lambda rng: rng.choice(topics))


def phrase(subject: Topic, rng: Random) -> str:
    """Picks a wording and types it the way people do: lower case, no question mark, a slip."""
    text = rng.choice(subject.wordings)
    if subject.verbatim:
        return text
    if rng.random() < 0.06:
        text = rng.choice(_OPENINGS) + text
    if rng.random() < 0.03:
        text = text + rng.choice(_CLOSINGS)
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    if rng.random() < 0.04:
        text = _with_slip(text, rng)
    return text


def _with_slip(text: str, rng: Random) -> str:
    """Drops one letter inside a long text without digits."""
    if len(text) < _SLIP_MIN_LENGTH or any(character.isdigit() for character in text):
        return text
    at = rng.randrange(2, len(text) - 2)
    return text[:at] + text[at + 1 :]
