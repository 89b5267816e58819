"""Random requests to one engine, and what each of them must get.

Everything follows from the seed: who comes and leaves at which step, what they ask for, how much
memory there is, and where prompts are cut.
"""

from dataclasses import dataclass, replace
from random import Random

from inference.errors import InferenceError
from inference.types import Finished, FinishReason, GenerationRequest, SamplingParams
from tests.inference.local.interleaving.references import Reference, assert_same
from tests.inference.local.interleaving.stepped_engine import House, SteppedEngine
from tests.inference.local.interleaving.studied import Studied

MOST_TOKENS = 20
MOST_STEPS = 3000
# Rounding that adds up over a few layers, in parts of the largest logit.
TOLERANCE = 1e-3
# KV of some tokens of a tiny model, of many, of all.
PREFIX_BYTES = (0, 30_000, 1 << 24, 1 << 24)
KV_TOKENS = (80, 128, 4096)


@dataclass(frozen=True, slots=True)
class Wish:
    """`expected` is None for one that draws its tokens: it is there to be in the way."""

    request: GenerationRequest
    expected: Reference | None
    leaves_after: int | None
    joins_at: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    seed: str
    house: House
    wishes: list[Wish]


@dataclass(frozen=True, slots=True)
class Played:
    """What a case made the engine do."""

    cancelled: int
    preemptions: int
    cached_tokens: int


def draw(seed: str, known: Studied) -> Case:
    dice = Random(seed)
    house = House(
        max_running=dice.randint(1, 6),
        kv_tokens=dice.choice(KV_TOKENS),
        chunk_tokens=dice.choice((2, 5, 13, 80)),
        prefix_bytes=dice.choice(PREFIX_BYTES),
    )
    # Few conversations and teams, so that prompts begin alike.
    talks = dice.sample(known.references, dice.randint(1, 4))
    pace = dice.choice((0, 1, 4))
    wishes = []
    for number in range(dice.randint(2, 9)):
        talk = dice.choice(talks)
        said = dice.randint(0, len(talk.tokens) - MOST_TOKENS)
        wish = _wish(dice, f"{seed}/{number}", talk.after(said), known.model.eos_ids)
        wishes.append(replace(wish, joins_at=number * dice.randint(0, pace)))
    return Case(seed, house, wishes)


def _wish(dice: Random, name: str, reference: Reference, eos_ids: frozenset[int]) -> Wish:
    is_greedy = dice.random() < 0.9
    sampling = SamplingParams(
        temperature=0.0 if is_greedy else 1.0,
        seed=dice.randint(0, 9),
        max_tokens=dice.randint(1, dice.choice((4, MOST_TOKENS, MOST_TOKENS))),
        stop_token_ids=(dice.choice(reference.tokens),) if dice.random() < 0.3 else (),
        ignore_eos=dice.random() < 0.5,
        logprobs=1 if dice.random() < 0.2 else None,
    )
    request = GenerationRequest(
        name,
        "tiny",
        prompt_ids=tuple(reference.prompt_ids),
        sampling=sampling,
        echo=dice.random() < 0.3,
        cache_salt=dice.choice("aaab"),
        priority=dice.choice((0, 0, 1)),
    )
    ends = frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else eos_ids)
    return Wish(
        request=request,
        expected=reference.until(sampling.max_tokens or 0, ends) if is_greedy else None,
        leaves_after=dice.randint(0, 30) if dice.random() < 0.2 else None,
    )


def play(known: Studied, case: Case) -> Played:
    """Raises AssertionError when an answer is not the expected one or something stays behind."""
    stepped = SteppedEngine(known.model, case.house, Random(case.seed))
    step, last_join = 0, max(wish.joins_at for wish in case.wishes)
    while step <= last_join or not stepped.is_idle:
        for wish in case.wishes:
            if step == wish.joins_at:
                stepped.submit(wish.request)
            if step - wish.joins_at == wish.leaves_after:
                stepped.cancel(wish.request.id)
        stepped.step()
        step += 1
        assert step < MOST_STEPS, "the engine does not get on"
    whole = [_check(stepped, wish) for wish in case.wishes]
    stepped.assert_nothing_left()
    return Played(whole.count(False), stepped.preemptions, stepped.cached_tokens)


def _check(stepped: SteppedEngine, wish: Wish) -> bool:
    """Whether it was answered to its end."""
    name = wish.request.id
    ended = stepped.last_events[name]
    assert not isinstance(ended, InferenceError), f"{name}: {ended}"
    assert isinstance(ended, Finished)
    tokens, logits = stepped.recorded.tokens[name], stepped.recorded.logits[name]
    assert ended.usage.completion_tokens == len(tokens)
    is_whole = ended.reason is not FinishReason.ABORT
    assert is_whole or wish.leaves_after is not None
    if wish.expected is not None:
        is_same = assert_same(tokens, logits, wish.expected, TOLERANCE)
        assert not (is_whole and is_same) or len(tokens) == len(wish.expected.tokens)
    return is_whole
