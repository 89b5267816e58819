"""How often each token occurred, kept so that tensors are made of it without a loop."""

from array import array
from collections.abc import Iterable


class TokenCounts:
    """`ids` (int64) are the distinct tokens in order of appearance, `counts` (float32) go with
    them."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.ids = array("q")
        self.counts = array("f")
        self._place: dict[int, int] = {}
        for token in tokens:
            self.add(token)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, token: int) -> None:
        place = self._place.get(token)
        if place is None:
            self._place[token] = len(self.ids)
            self.ids.append(token)
            self.counts.append(1.0)
        else:
            self.counts[place] += 1.0
