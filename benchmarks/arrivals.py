"""The mixed load over HTTP: how long each request is and when it comes, the same in every run."""

import math
import random
from dataclasses import dataclass

PROMPT_TOKENS = (16, 512)
OUTPUT_TOKENS = (16, 128)


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at_s` counts from the start of the load."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def poisson(count: int, per_second: float, seed: int) -> list[Arrival]:
    """The first one comes at once; gaps are exponential, lengths log-uniform as in real traffic."""
    random_ = random.Random(seed)
    arrivals = []
    at_s = 0.0
    for _ in range(count):
        arrivals.append(
            Arrival(at_s, log_uniform(random_, PROMPT_TOKENS), log_uniform(random_, OUTPUT_TOKENS))
        )
        at_s += random_.expovariate(per_second)
    return arrivals


def log_uniform(random_: random.Random, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return round(low * math.pow(high / low, random_.random()))


def tokens(count: int, vocabulary: int, seed: int, first: int) -> list[int]:
    """A random prompt of `count` plain words; `first` is the lowest token that is one."""
    random_ = random.Random(seed)
    return [random_.randrange(first, vocabulary) for _ in range(count)]
