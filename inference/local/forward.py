"""One step through the model: chunks of tokens in, next-token logits out.

`PackedForward` runs many sequences in one row, through a decoder of ours or through transformers'
own modules where those take our attention. `SingleForward` serves the others, one sequence at a
time, through the same calls that `generate` makes.
"""

import inspect
from collections.abc import Sequence as Chunks
from typing import Any, Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

from inference.local import attention
from inference.local.kv_cache import KvCache
from inference.local.packing import DecodeRows, Span, StepContext
from inference.local.scheduler import Chunk


class Forward(Protocol):
    def run(self, chunks: Chunks[Chunk]) -> torch.Tensor:
        """Compute the chunks; fp32 logits `[rows, vocabulary]`, of each chunk its `logit_rows`.

        Chunks of one token come before longer ones.
        """
        ...

    def release(self, sequence_id: str) -> None:
        """Free the memory of a sequence; also for one that never ran."""
        ...


class PackedModel(Protocol):
    """What computes a packed step: transformers' own modules, or a decoder of ours."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def step_logits(
        self, token_ids: torch.Tensor, step: StepContext, sampling: torch.Tensor
    ) -> torch.Tensor:
        """Logits of the places in `sampling`; the ids are `[tokens]`, in packed order."""
        ...


class SeamModel:
    """transformers' own modules with our attention in them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def step_logits(
        self, token_ids: torch.Tensor, step: StepContext, sampling: torch.Tensor
    ) -> torch.Tensor:
        arguments: dict[str, Any] = {
            "input_ids": token_ids[None],
            "position_ids": step.positions[None],
            "use_cache": False,
        }
        if self._keeps_logits:
            arguments["logits_to_keep"] = sampling
        with attention.step_context(step):
            logits: torch.Tensor = self.model(**arguments).logits[0]
        return logits if self._keeps_logits else logits[sampling]


class PackedForward:
    def __init__(self, model: PackedModel, cache: KvCache) -> None:
        self.model = model
        self._cache = cache
        self._like = torch.empty(0, dtype=model.dtype, device=model.device)
        self.windows: dict[int, int | None] = {}
        """Layers seen in the last step, each with its sliding window."""

    def run(self, chunks: Chunks[Chunk]) -> torch.Tensor:
        context = self._context(chunks)
        token_ids = self._tensor([t for c in chunks for t in _new_tokens(c)])
        sampling = torch.tensor(
            _sampling_positions(chunks), dtype=torch.long, device=self._like.device
        )
        with torch.inference_mode():
            logits = self.model.step_logits(token_ids, context, sampling)
            self.windows = context.windows
            return logits.float()

    def release(self, sequence_id: str) -> None:
        with torch.inference_mode():
            self._cache.release(sequence_id)

    def _context(self, chunks: Chunks[Chunk]) -> StepContext:
        ends = [chunk.sequence.computed + chunk.tokens for chunk in chunks]
        with torch.inference_mode():
            rows = self._cache.reserve(
                (chunk.sequence.id, end) for chunk, end in zip(chunks, ends, strict=True)
            )
        decoding = sum(chunk.tokens == 1 for chunk in chunks)
        spans, start = [], decoding
        for chunk, row in zip(chunks[decoding:], rows[decoding:], strict=True):
            spans.append(Span(row, start, chunk.tokens, chunk.sequence.computed, self._like))
            start += chunk.tokens
        return StepContext(
            cache=self._cache,
            rows=self._tensor(
                [r for r, c in zip(rows, chunks, strict=True) for _ in range(c.tokens)]
            ),
            positions=self._tensor([p for c in chunks for p in _positions(c)]),
            decoding=DecodeRows(rows[:decoding], ends[:decoding], self._like) if decoding else None,
            spans=spans,
        )

    def _tensor(self, numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self._like.device)


class SingleForward:
    """Keeps the state of one sequence, in whatever cache the model makes for itself.

    Where that is not to be relied on, `is_incremental` False computes all tokens in each step.
    """

    def __init__(self, model: PreTrainedModel, *, is_incremental: bool = True) -> None:
        self.model: Any = model
        self.is_incremental = is_incremental
        self._accepts = inspect.signature(model.forward).parameters
        self._owner: str | None = None
        self._state: dict[str, Any] = {}

    def run(self, chunks: Chunks[Chunk]) -> torch.Tensor:
        (chunk,) = chunks
        token_ids = torch.tensor([chunk.sequence.tokens], device=self.model.device)
        with torch.inference_mode():
            step = self._next if self.is_incremental else self._anew
            logits: torch.Tensor = step(token_ids, chunk).logits[0, -chunk.logit_rows :].float()
            return logits

    def release(self, sequence_id: str) -> None:
        if self._owner == sequence_id:
            self._owner, self._state = None, {}

    def _anew(self, token_ids: torch.Tensor, _chunk: Chunk | None = None) -> Any:
        return self.model(input_ids=token_ids, use_cache=False, return_dict=True)

    def _next(self, token_ids: torch.Tensor, chunk: Chunk) -> Any:
        sequence = chunk.sequence
        is_first = sequence.computed == 0
        if is_first:
            # Some keep their state in their modules, and lose it only in a pass without a cache.
            self._anew(token_ids[:, :1])
            self._owner, self._state = sequence.id, self._initial_state(token_ids)
            if "logits_to_keep" in self._state:
                self._state["logits_to_keep"] = chunk.logit_rows
        inputs = self.model.prepare_inputs_for_generation(
            token_ids,
            next_sequence_length=None if is_first else chunk.tokens,
            is_first_iteration=is_first,
            **self._state,
        )
        output = self.model(**inputs, return_dict=True)
        # The model's own bookkeeping, as caches go by different names.
        self._state = self.model._update_model_kwargs_for_generation(output, self._state)
        return output

    def _initial_state(self, token_ids: torch.Tensor) -> dict[str, Any]:
        offered: dict[str, Any] = {
            "attention_mask": torch.ones_like(token_ids),
            "logits_to_keep": 1,
        }
        if self.model._supports_default_dynamic_cache():
            # Not every model that makes one for itself hands it out.
            config = self.model.config.get_text_config(decoder=True)
            offered["past_key_values"] = DynamicCache(config=config)
        accepted = {name: value for name, value in offered.items() if name in self._accepts}
        return {"use_cache": True, **accepted}


def _positions(chunk: Chunk) -> range:
    return range(chunk.sequence.computed, chunk.sequence.computed + chunk.tokens)


def _new_tokens(chunk: Chunk) -> list[int]:
    start = chunk.sequence.computed
    return chunk.sequence.tokens[start : start + chunk.tokens]


def _sampling_positions(chunks: Chunks[Chunk]) -> list[int]:
    """Where in the packed row the tokens stand whose logits are needed."""
    positions: list[int] = []
    end = 0
    for chunk in chunks:
        end += chunk.tokens
        positions.extend(range(end - chunk.logit_rows, end))
    return positions
