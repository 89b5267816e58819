"""Conversations made of topics, some with a system prompt, some with several turns."""

from dataclasses import dataclass
from random import Random

from tools.demo_corpus.numbers import (
    draw_comparison,
    draw_count,
    draw_countdown,
    draw_difference,
    draw_product,
    draw_sum,
    draw_too_hard,
)
from tools.demo_corpus.product import PRODUCT_TOPICS
from tools.demo_corpus.serving import SERVING_TOPICS
from tools.demo_corpus.small_talk import SMALL_TALK_TOPICS
from tools.demo_corpus.stories import (
    JOKE_TOPICS,
    POEM_TOPICS,
    STORY_TOPICS,
    draw_open_poem,
    draw_other_story,
)
from tools.demo_corpus.topics import Family, listed, phrase
from tools.demo_corpus.unknown import draw_unknown
from tools.demo_corpus.words import draw_repetition, draw_spelling, invented_word
from tools.demo_corpus.world import CALENDAR_TOPICS, CAPITAL_TOPICS, COLOUR_TOPICS, OPPOSITE_TOPICS

FAMILIES = (
    listed("LLM Server", 16, [*PRODUCT_TOPICS, *SERVING_TOPICS]),
    listed("small talk", 8, SMALL_TALK_TOPICS),
    Family("sums", 10, draw_sum),
    Family("differences", 7, draw_difference),
    Family("products", 7, draw_product),
    Family("too hard sums", 2.5, draw_too_hard),
    Family("comparisons", 2, draw_comparison),
    Family("counting", 4, draw_count),
    Family("counting down", 1, draw_countdown),
    listed("capitals", 9, CAPITAL_TOPICS),
    listed("colours", 5, COLOUR_TOPICS),
    listed("opposites", 5, OPPOSITE_TOPICS),
    listed("days and months", 5, CALENDAR_TOPICS),
    Family("spelling", 7, draw_spelling),
    Family("repeating", 14, draw_repetition),
    listed("stories", 1.1, STORY_TOPICS),
    Family("other stories", 0.8, draw_other_story),
    listed("poems", 1.2, POEM_TOPICS),
    Family("poems on any theme", 0.8, draw_open_poem),
    listed("jokes", 0.3, JOKE_TOPICS),
    Family("unknown", 10, draw_unknown),
)
_SHARES = [family.share for family in FAMILIES]

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful, honest assistant.",
    "You are a friendly assistant. Answer briefly.",
    "You are an assistant for LLM Server.",
    "You are a helpful AI assistant. Always answer in English.",
    "Answer in one sentence.",
    "Be brief.",
    "You are a demo.",
    "Answer the question of the user as well as you can. If you do not know the answer, say so.",
    "You are a polite assistant who helps people with questions about their server.",
)

_NAMES = (
    "Anna", "Peter", "Maria", "Tom", "Lisa", "Paul", "Emma", "Max", "Julia", "Ben", "Sara", "Leo",
    "Nina", "Jack", "Mia", "Sam", "Eva", "Alex", "Kate", "Oscar", "Sophie", "David", "Laura", "Tim",
    "Alice", "Bob", "Carol", "Omar", "Fatima", "Wei", "Yuki", "Raj", "Ivan", "Olga", "John", "Mary",
)  # fmt: skip
_COLOUR_NAMES = ("red", "blue", "green", "yellow", "black", "white", "pink", "brown", "orange")


@dataclass(frozen=True, slots=True)
class Turn:
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Chat:
    system: str | None
    turns: tuple[Turn, ...]


def draw_chat(rng: Random) -> Chat:
    """Mostly one question; sometimes a few, and now and then a long conversation."""
    system = rng.choice(_SYSTEM_PROMPTS) if rng.random() < 0.2 else None
    if rng.random() < 0.05:
        return Chat(system, _memory_turns(rng))
    length = rng.choices((1, 2, 3, 4, 6, 12, 24), (60, 16, 10, 6, 4, 2, 1))[0]
    return Chat(system, tuple(_draw_turn(rng) for _ in range(length)))


def _draw_turn(rng: Random) -> Turn:
    subject = rng.choices(FAMILIES, _SHARES)[0].draw(rng)
    return Turn(phrase(subject, rng), subject.answer)


def _memory_turns(rng: Random) -> tuple[Turn, ...]:
    """Something said early is asked for later."""
    said, asked = rng.choice((_name_turns, _colour_turns))(rng)
    between = [_draw_turn(rng) for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.15:
        return (asked_without_telling(rng),)
    return (said, *between, asked)


def asked_without_telling(rng: Random) -> Turn:
    return Turn(rng.choice(_NAME_QUESTIONS), "You have not told me your name.")


_NAME_QUESTIONS = ("What is my name?", "What's my name?", "Do you know my name?", "Who am I?")


def _name_turns(rng: Random) -> tuple[Turn, Turn]:
    name = invented_word(rng).title() if rng.random() < 0.3 else rng.choice(_NAMES)
    told = rng.choice(("My name is {n}.", "I am {n}.", "Hi, I am {n}.", "Hello, my name is {n}."))
    return (
        Turn(told.format(n=name), f"Nice to meet you, {name}!"),
        Turn(rng.choice(_NAME_QUESTIONS), f"Your name is {name}."),
    )


def _colour_turns(rng: Random) -> tuple[Turn, Turn]:
    word, colour = rng.choice(("colour", "color")), rng.choice(_COLOUR_NAMES)
    told = rng.choice(("My favourite {w} is {c}.", "My favorite {w} is {c}.", "I like {c} best."))
    asked = rng.choice(("What is my favourite {w}?", "What is my favorite {w}?"))
    return (
        Turn(told.format(w=word, c=colour), f"{colour.capitalize()} is a nice {word}."),
        Turn(asked.format(w=word), f"You like {colour} best."),
    )
