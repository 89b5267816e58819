"""One structured line for each request, and one for each inference it led to.

The fields travel as `extra`; none of them holds text of a prompt or an answer.
"""

import logging

from gateway.models import RequestStatus
from gateway.usage import Outcome

requests = logging.getLogger("llmserver.request")
inferences = logging.getLogger("llmserver.inference")


def write(outcome: Outcome) -> None:
    is_failure = outcome.status is RequestStatus.FAILED
    requests.log(
        logging.WARNING if is_failure else logging.INFO,
        "request %s",
        outcome.status.value,
        extra=_present(
            {
                **_identity(outcome),
                "key": outcome.caller.public_id,
                "team": outcome.caller.team_slug,
                "endpoint": outcome.request.endpoint,
                "stream": outcome.request.is_stream,
                "status": outcome.status.value,
                "code": outcome.error_code or None,
                "cache": outcome.cache.value,
                **_amounts(outcome),
            }
        ),
    )
    if outcome.backend:
        _write_inference(outcome)


def _write_inference(outcome: Outcome) -> None:
    reason = outcome.finish_reason
    inferences.info(
        "inference %s",
        "finished" if reason else "broken off",
        extra=_present(
            {
                **_identity(outcome),
                "finish_reason": reason.value if reason else None,
                "model_revision": outcome.model_revision or None,
                "device": outcome.device,
                "cached_tokens": outcome.usage.cached_tokens,
                "usage_source": outcome.usage.source.value,
                "queue_ms": _ms(outcome.timings.queue_s),
                **_amounts(outcome),
            }
        ),
    )


def _identity(outcome: Outcome) -> dict[str, object]:
    return {
        "request_id": outcome.request.request_id,
        "model": outcome.model,
        "backend": outcome.backend or None,
    }


def _amounts(outcome: Outcome) -> dict[str, object]:
    return {
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "ttft_ms": _ms(outcome.timings.ttft_s),
        "duration_ms": _ms(outcome.timings.total_s),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _present(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
