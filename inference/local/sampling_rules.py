"""What sampling parameters mean to the engine: bounds, the model's defaults, concrete values."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inference.errors import InvalidRequest
from inference.types import SamplingParams

logger = logging.getLogger(__name__)

BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**31 - 1),
    "min_p": (0.0, 1.0),
    "typical_p": (1e-3, 1.0),
    "repetition_penalty": (1e-2, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
}
MAX_BIAS: Final = 100.0
MAX_BIASES: Final = 300
MAX_LOGPROBS: Final = 20
MAX_STOPS: Final = 64


@dataclass(frozen=True, slots=True)
class SamplingRules:
    """Sampling parameters without gaps: what is not set has the value that changes nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @classmethod
    def of(cls, params: SamplingParams) -> "SamplingRules":
        given = {name: getattr(params, name) for name in BOUNDS}
        return cls(**{name: value for name, value in given.items() if value is not None})


def defaults_of(generation_config: object) -> SamplingParams:
    """What the authors of a model advise; `do_sample` is not looked at, as callers do not know it.

    A value out of bounds is left out, or no request without one of its own could be answered.
    """
    found: dict[str, Any] = {}
    for name in BOUNDS:
        value = getattr(generation_config, name, None)
        if value is None:
            continue
        if _is_within(name, value):
            found[name] = value
        else:
            logger.warning("the model's generation_config has an unusable %s; it is ignored", name)
    return SamplingParams(**found)


def check(params: SamplingParams, vocabulary: int) -> None:
    """Raises InvalidRequest that names the first field at fault."""
    for name, (low, high) in BOUNDS.items():
        value = getattr(params, name)
        if value is not None and not _is_within(name, value):
            raise InvalidRequest(f"{name} must lie between {low:g} and {high:g}.", param=name)
    _check_lengths(params)
    _check_bias(params)
    require_known([token for token, _ in params.logit_bias], vocabulary, "logit_bias")
    require_known(params.stop_token_ids, vocabulary, "stop_token_ids")


def require_known(token_ids: "list[int] | tuple[int, ...]", vocabulary: int, param: str) -> None:
    for token in token_ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(
                f"This model has no token {token}: its ids run from 0 to {vocabulary - 1}.",
                param=param,
            )


def _check_lengths(params: SamplingParams) -> None:
    limit, least = params.max_tokens, params.min_tokens
    if limit is not None and limit < 1:
        raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
    if least < 0 or (limit is not None and least > limit):
        raise InvalidRequest("min_tokens must lie between 0 and max_tokens.", param="min_tokens")
    if params.logprobs is not None and not 0 <= params.logprobs <= MAX_LOGPROBS:
        raise InvalidRequest(f"logprobs must be at most {MAX_LOGPROBS}.", param="logprobs")
    for name in ("stop", "stop_token_ids"):
        if len(getattr(params, name)) > MAX_STOPS:
            raise InvalidRequest(f"{name} has more than {MAX_STOPS} entries.", param=name)


def _check_bias(params: SamplingParams) -> None:
    if len(params.logit_bias) > MAX_BIASES:
        raise InvalidRequest(f"logit_bias has more than {MAX_BIASES} entries.", param="logit_bias")
    # Also false for NaN.
    if not all(abs(bias) <= MAX_BIAS for _, bias in params.logit_bias):
        raise InvalidRequest("logit_bias must lie between -100 and 100.", param="logit_bias")


def _is_within(name: str, value: object) -> bool:
    low, high = BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and low <= value <= high
