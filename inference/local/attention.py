"""Attention of a packed step over the KV slabs, plugged into transformers' own modules.

transformers calls the function registered here in every layer and, as no mask function is
registered under the same name, builds no mask. Which token belongs to which sequence comes from
the StepContext of the running thread, as not every architecture hands keyword arguments down.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from inference.local.kv_cache import LayerSlab
from inference.local.packing import DecodeRows, Span, StepContext

NAME = "llmserver"

_current: ContextVar[StepContext] = ContextVar("step_context")


@contextmanager
def step_context(context: StepContext) -> Iterator[None]:
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def register() -> None:
    AttentionInterface.register(NAME, packed_attention)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer brings along: its slab, and how query times key becomes a weight.

    `sinks` is one logit per head that takes a share of the weights and has no value.
    """

    slab: LayerSlab
    window: int | None
    scaling: float | None
    softcap: float | None = None
    sinks: torch.Tensor | None = None

    @property
    def is_standard(self) -> bool:
        return self.softcap is None and self.sinks is None


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """All are `[1, heads, tokens, head_dim]`; returns `[1, tokens, heads, head_dim]`."""
    step = _current.get()
    index: int = module.layer_idx  # type: ignore[assignment]
    place = (step.rows, step.positions)
    layer = Layer(
        slab=step.cache.write(index, place, key[0].transpose(0, 1), value[0].transpose(0, 1)),
        window=options.get("sliding_window"),
        scaling=options.get("scaling"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )
    step.windows[index] = layer.window
    return attend(step, layer, query[0].transpose(0, 1)).unsqueeze(0), None


def attend(step: StepContext, layer: Layer, queries: torch.Tensor) -> torch.Tensor:
    """`[tokens, heads, head_dim]` in and out; the keys and values are in the slab already."""
    parts = []
    if step.decoding is not None:
        parts.append(_decode(layer, step.decoding, queries[: step.decoding.count]))
    for span in step.spans:
        parts.append(_prefill(layer, span, queries[span.start : span.start + span.count]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _decode(layer: Layer, rows: DecodeRows, queries: torch.Tensor) -> torch.Tensor:
    """One call for all rows: the heads that share keys take the place of the query axis."""
    view = rows.view(layer.window)
    keys = layer.slab.keys[: rows.height, :, view.first : view.end]
    values = layer.slab.values[: rows.height, :, view.first : view.end]
    grouped = _grouped(rows.spread(queries), keys)
    if layer.is_standard:
        output = scaled_dot_product_attention(
            grouped, keys, values, attn_mask=view.mask, scale=layer.scaling
        )
    else:
        mask = view.mask.unsqueeze(1) if view.mask is not None else None
        output = _eager(layer, grouped.unsqueeze(3), keys, values, mask).squeeze(3)
    return rows.gather(output.flatten(1, 2))


def _prefill(layer: Layer, span: Span, queries: torch.Tensor) -> torch.Tensor:
    is_causal = layer.is_standard and span.is_plainly_causal(layer.window)
    view = None if is_causal else span.view(layer.window)
    first, end = (view.first, view.end) if view else (0, span.count)
    keys = layer.slab.keys[span.row : span.row + 1, :, first:end]
    values = layer.slab.values[span.row : span.row + 1, :, first:end]
    mask = view.mask if view else None
    heads = queries.transpose(0, 1).unsqueeze(0)
    if layer.is_standard:
        output = scaled_dot_product_attention(
            heads,
            keys,
            values,
            attn_mask=mask,
            is_causal=is_causal,
            scale=layer.scaling,
            enable_gqa=heads.shape[1] != keys.shape[1],
        )
    else:
        output = _eager(layer, _grouped(heads, keys), keys, values, mask).flatten(1, 2)
    return output[0].transpose(0, 1)


def _grouped(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """`[n, heads, ...]` as `[n, kv_heads, group, ...]`."""
    return queries.reshape(queries.shape[0], keys.shape[1], -1, *queries.shape[2:])


def _eager(
    layer: Layer,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """For what the fused kernel cannot: queries `[n, kv_heads, group, tokens, head_dim]`."""
    scaling = layer.scaling if layer.scaling is not None else queries.shape[-1] ** -0.5
    scores = (queries @ keys.unsqueeze(2).transpose(-1, -2)).float() * scaling
    if layer.softcap is not None:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    if mask is not None:
        scores = scores + mask
    if layer.sinks is not None:
        sinks = layer.sinks.float().reshape(1, keys.shape[1], -1, 1, 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], dim=-1)
    weights = scores.softmax(dim=-1)[..., : keys.shape[2]].to(values.dtype)
    return weights @ values.unsqueeze(2)
