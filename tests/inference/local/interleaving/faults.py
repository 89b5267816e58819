"""Mistakes that an engine could have: each breaks one thing for as long as its patch lasts."""

from dataclasses import replace

import torch
from pytest import MonkeyPatch

from inference.local import attention, forward, packing, prefix_cache, traced
from inference.local.kv_cache import KvCache
from inference.local.native.decoder import NativeDecoder


def chunks_see_their_next_token(patch: MonkeyPatch) -> None:
    view = packing.Span._view

    def broken(span, window):
        seen = view(span, window)
        return packing.View(seen.first, seen.end, seen.mask.roll(-1, 0))

    patch.setattr(packing.Span, "_view", broken)


def chunks_forget_what_came_before(patch: MonkeyPatch) -> None:
    plainly = packing.Span.is_plainly_causal
    patch.setattr(
        packing.Span,
        "is_plainly_causal",
        lambda span, window: span.past > 0 or plainly(span, window),
    )


def rows_see_one_token_too_many(patch: MonkeyPatch) -> None:
    init = packing.DecodeRows.__init__
    patch.setattr(
        packing.DecodeRows,
        "__init__",
        lambda rows, owned, lengths, like: init(rows, owned, [n + 1 for n in lengths], like),
    )


def rows_see_each_others_length(patch: MonkeyPatch) -> None:
    view = packing.DecodeRows._view

    def broken(rows, window):
        seen = view(rows, window)
        mask = seen.mask.roll(1, 0) if seen.mask is not None else None
        return packing.View(seen.first, seen.end, mask)

    patch.setattr(packing.DecodeRows, "_view", broken)


def holes_between_rows_are_overlooked(patch: MonkeyPatch) -> None:
    patch.setattr(packing.DecodeRows, "spread", lambda rows, queries: queries)
    patch.setattr(packing.DecodeRows, "gather", lambda rows, outputs: outputs[: rows.count])


def decoding_positions_are_shifted(patch: MonkeyPatch) -> None:
    positions = forward._positions

    def broken(chunk):
        right = positions(chunk)
        return [right.start - 1] if chunk.tokens == 1 and right.start > 1 else right

    patch.setattr(forward, "_positions", broken)


def chunk_positions_begin_anew(patch: MonkeyPatch) -> None:
    positions = forward._positions
    patch.setattr(
        forward,
        "_positions",
        lambda chunk: range(chunk.tokens) if chunk.tokens > 1 else positions(chunk),
    )


def the_last_row_does_not_move(patch: MonkeyPatch) -> None:
    def release(cache, owner):
        if owner in cache._owners:
            row = cache._owners.index(owner)
            cache._owners[row], cache._used[row] = cache._owners[-1], cache._used[-1]
            cache._owners.pop()
            cache._used.pop()

    patch.setattr(KvCache, "release", release)


def growing_forgets(patch: MonkeyPatch) -> None:
    patch.setattr(KvCache, "_moved", lambda cache, slab: cache._empty(slab.transpose(1, 2)[0]))


def found_prefixes_are_not_restored(patch: MonkeyPatch) -> None:
    patch.setattr(
        prefix_cache.PrefixCache,
        "restore",
        lambda prefixes, name, match: prefixes._cache.reserve([(name, match.tokens)]),
    )


def prefixes_are_cut_at_the_wrong_token(patch: MonkeyPatch) -> None:
    patch.setattr(
        prefix_cache.KvPiece,
        "split",
        lambda piece, at: (piece._cut(0, at), piece._cut(at - 1, piece.tokens - 1)),
    )


def prefixes_match_one_token_more(patch: MonkeyPatch) -> None:
    match = prefix_cache.PrefixCache.match

    def broken(prefixes, sequence):
        found = match(prefixes, sequence)
        more = min(found.tokens + 1, len(sequence.tokens) - 1) if found.tokens else 0
        return prefix_cache.Match(more, found.pieces)

    patch.setattr(prefix_cache.PrefixCache, "match", broken)


def windows_are_one_token_wider(patch: MonkeyPatch) -> None:
    layer = attention.Layer

    def broken(slab, window, *rest, **options):
        return layer(slab, window + 1 if window else None, *rest, **options)

    patch.setattr(attention, "Layer", lambda slab, window, *a, **o: broken(slab, window, *a, **o))


def the_recorded_step_sees_all(patch: MonkeyPatch) -> None:
    patch.setattr(
        traced,
        "_mask",
        lambda rows, dtype: torch.zeros(rows.height, 1, 1, rows.view(None).end, dtype=dtype),
    )


def the_recorded_step_writes_beside(patch: MonkeyPatch) -> None:
    replay = traced.TracedDecoder.step_logits

    def broken(decoder, token_ids, step, sampling):
        if step.spans or not step.decoding.is_compact:
            return replay(decoder, token_ids, step, sampling)
        moved = packing.StepContext(
            step.cache, step.rows.roll(1), step.positions, step.decoding, step.spans
        )
        return replay(decoder, token_ids, moved, sampling)

    patch.setattr(traced.TracedDecoder, "step_logits", broken)


def the_kernels_write_beside(patch: MonkeyPatch) -> None:
    compute = NativeDecoder.step_logits

    def broken(decoder, token_ids, step, sampling):
        moved = replace(step, rows=step.rows.roll(1))
        return compute(decoder, token_ids, moved, sampling)

    patch.setattr(NativeDecoder, "step_logits", broken)


def the_kernels_see_one_token_too_many(patch: MonkeyPatch) -> None:
    compute = NativeDecoder.step_logits

    def broken(decoder, *step):
        for layer, window in zip(decoder._layers, decoder._windows.values(), strict=True):
            layer.window = window + 1 if window else 0
        return compute(decoder, *step)

    patch.setattr(NativeDecoder, "step_logits", broken)
