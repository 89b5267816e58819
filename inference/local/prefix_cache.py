"""Keys and values of former requests, for those that begin with the same tokens.

They are copied out of the KV slabs and back into them: a slab stays a rectangle without holes,
and what is cached does not depend on whose row it once was.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from inference.local.kv_cache import KvCache, LayerSlab
from inference.local.prefix_tree import Match, PrefixTree
from inference.local.runner_spec import EngineStats
from inference.local.sequence import Sequence


@dataclass(frozen=True, slots=True)
class KvPiece:
    """By layer, `[kv_heads, tokens, head_dim]`."""

    tokens: int
    layers: dict[int, LayerSlab]

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers.values())

    def split(self, at: int) -> tuple["KvPiece", "KvPiece"]:
        return self._cut(0, at), self._cut(at, self.tokens)

    def _cut(self, first: int, end: int) -> "KvPiece":
        return KvPiece(end - first, {i: layer.cut(first, end) for i, layer in self.layers.items()})


class PrefixCache:
    """Not thread-safe: the step thread owns it.

    `budget` is asked before each entry: it gets the bytes held now and tells how many may be.
    """

    def __init__(self, cache: KvCache, budget: Callable[[int], int]) -> None:
        self._cache = cache
        self.budget = budget
        self._tree: PrefixTree[KvPiece] = PrefixTree(budget(0))
        self._queries = 0
        self._hits = 0

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes

    @property
    def stats(self) -> EngineStats:
        """Without the requests, of which it knows nothing."""
        return EngineStats(
            kv_bytes=self._cache.used_bytes,
            prefix_bytes=self._tree.nbytes,
            prefix_queries=self._queries,
            prefix_hits=self._hits,
        )

    def match(self, sequence: Sequence) -> Match[KvPiece]:
        """At least one token is left to compute, as its logits are not cached."""
        wanted = tuple(sequence.tokens[:-1])
        match = self._tree.match(sequence.cache_salt, wanted)
        self._queries += len(wanted)
        self._hits += match.tokens
        return match

    def keeps(self, sequence: Sequence) -> bool:
        """Whether others will find here what this one computes."""
        return self._tree.has_room(len(sequence.tokens), self._cache.bytes_per_token)

    @torch.inference_mode()
    def restore(self, sequence_id: str, match: Match[KvPiece]) -> None:
        """Copy what was found to the beginning of the sequence's row."""
        start = 0
        for piece in match.pieces:
            end = min(start + piece.tokens, match.tokens)
            self._cache.restore(sequence_id, range(start, end), piece.layers)
            start = end

    @torch.inference_mode()
    def keep(self, sequence: Sequence) -> None:
        """Copy what the sequence has computed; call it before its row is released."""
        computed = self._cache.tokens_of(sequence.id)
        if not computed:
            return

        def read(first: int, end: int) -> KvPiece:
            return KvPiece(end - first, self._cache.read(sequence.id, first, end))

        self._tree.resize(self.budget(self._tree.nbytes))
        tokens = tuple(sequence.tokens[:computed])
        self._tree.add(sequence.cache_salt, tokens, self._cache.bytes_per_token, read)

    def clear(self) -> None:
        self._tree.clear()
