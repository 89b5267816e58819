"""Chats as tokens, packed into rows that waste little room."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from tools.demo_corpus.chats import Chat

BOS, END, SYSTEM, USER, ASSISTANT = (
    "<|bos|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
SPECIAL_TOKENS = (BOS, END, SYSTEM, USER, ASSISTANT)

# Chats that no row has room for wait for longer rows; beyond this many they are given up.
_MAX_WAITING = 400


@dataclass(slots=True)
class TokenRun:
    """`learned` says which tokens the model has to produce itself."""

    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def extend(self, ids: list[int], learned: bool) -> None:
        self.positions.extend(range(len(self.ids), len(self.ids) + len(ids)))
        self.ids.extend(ids)
        self.learned.extend([learned] * len(ids))

    def append(self, other: "TokenRun") -> None:
        """Positions start anew with every chat, which also keeps chats from seeing each other."""
        self.ids.extend(other.ids)
        self.learned.extend(other.learned)
        self.positions.extend(other.positions)

    def pad(self, length: int, filler: int) -> None:
        self.append(
            TokenRun(
                ids=[filler] * (length - len(self.ids)),
                learned=[False] * (length - len(self.ids)),
                positions=list(range(length - len(self.ids))),
            )
        )


def rendered(chat: Chat) -> str:
    """The text of the whole chat, as the chat template writes it."""
    system = f"{SYSTEM}{chat.system}{END}" if chat.system else ""
    turns = "".join(
        f"{USER}{turn.question}{END}{ASSISTANT}{turn.answer}{END}" for turn in chat.turns
    )
    return f"{BOS}{system}{turns}"


class ChatEncoder:
    def __init__(self, encode_texts: Callable[[list[str]], list[list[int]]]) -> None:
        self._encode_texts = encode_texts
        tokens = encode_texts(list(SPECIAL_TOKENS))
        self._bos, self._end, self._system, self._user, self._assistant = tokens

    @property
    def filler(self) -> int:
        return self._end[0]

    def encode(self, chats: Iterable[Chat]) -> list[TokenRun]:
        chats = list(chats)
        texts = [text for chat in chats for text in self._texts(chat)]
        encoded = iter(self._encode_texts(texts))
        runs = []
        for chat in chats:
            run = TokenRun()
            run.extend(self._bos, learned=False)
            if chat.system:
                run.extend(self._system + next(encoded) + self._end, learned=False)
            for _ in chat.turns:
                run.extend(self._user + next(encoded) + self._end + self._assistant, learned=False)
                run.extend(next(encoded) + self._end, learned=True)
            runs.append(run)
        return runs

    @staticmethod
    def _texts(chat: Chat) -> list[str]:
        texts = [chat.system] if chat.system else []
        for turn in chat.turns:
            texts += [turn.question, turn.answer]
        return texts


class RowPacker:
    def __init__(self, encoder: ChatEncoder, draw: Callable[[Random], Chat], rng: Random) -> None:
        self._encoder = encoder
        self._draw = draw
        self._rng = rng
        self._waiting: list[TokenRun] = []

    def rows(self, count: int, length: int) -> list[TokenRun]:
        """Longest chats first, each into the first row with room for it."""
        while sum(len(run.ids) for run in self._fitting(length)) < count * length * 1.15:
            self._waiting += self._encoder.encode(self._draw(self._rng) for _ in range(32))
        rows = [TokenRun() for _ in range(count)]
        left = []
        for run in sorted(self._waiting, key=lambda run: -len(run.ids)):
            row = next((row for row in rows if len(row.ids) + len(run.ids) <= length), None)
            if row is None:
                left.append(run)
            else:
                row.append(run)
        self._waiting = left[-_MAX_WAITING:]
        for row in rows:
            row.pad(length, self._encoder.filler)
        return rows

    def _fitting(self, length: int) -> list[TokenRun]:
        return [run for run in self._waiting if len(run.ids) <= length]
