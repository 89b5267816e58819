"""Sums, differences, products, comparisons and counting."""

from random import Random

from tools.demo_corpus.topics import Topic, filled

_SUM_WORDINGS = (
    "What is {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}",
    "{a}+{b}?",
    "What is {a}+{b}?",
    "{a} + {b} =",
    "{a}+{b}=",
    "What's {a} + {b}?",
    "What is {a} plus {b}?",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "Add {a} and {b}.",
    "What is the sum of {a} and {b}?",
    "What do you get if you add {a} and {b}?",
    "{a} plus {b}",
    "Compute {a} + {b}.",
)
_SUM_PROBES = ("Work out {a} + {b}.", "Can you add {a} and {b} for me?")

_DIFFERENCE_WORDINGS = (
    "What is {a} - {b}?",
    "{a} - {b}",
    "{a}-{b}",
    "{a}-{b}?",
    "What is {a}-{b}?",
    "{a} - {b} =",
    "{a}-{b}=",
    "What's {a} - {b}?",
    "What is {a} minus {b}?",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "{a} minus {b}",
    "Compute {a} - {b}.",
)
_DIFFERENCE_PROBES = ("Work out {a} - {b}.", "Can you tell me what {a} minus {b} is?")

_PRODUCT_WORDINGS = (
    "What is {a} * {b}?",
    "{a} * {b}",
    "{a}*{b}",
    "{a}*{b}?",
    "What is {a}*{b}?",
    "{a} x {b}",
    "{a} * {b} =",
    "{a}*{b}=",
    "What's {a} * {b}?",
    "What is {a} times {b}?",
    "What is {a} x {b}?",
    "How much is {a} times {b}?",
    "How much is {a} * {b}?",
    "Calculate {a} * {b}.",
    "Multiply {a} by {b}.",
    "Multiply {a} and {b}.",
    "{a} times {b}",
    "Compute {a} * {b}.",
)
_PRODUCT_PROBES = ("Work out {a} * {b}.", "Can you tell me what {a} times {b} is?")

_TOO_HARD_WORDINGS = (
    "What is {x}?",
    "{x}",
    "{x} =",
    "Calculate {x}.",
    "How much is {x}?",
    "Compute {x}.",
    "What's {x}?",
)
_TOO_HARD_PROBES = ("Work out {x}.",)
_TOO_HARD = "I can only add, subtract and multiply small numbers."

_BIGGER_WORDINGS = (
    "Which is bigger, {a} or {b}?",
    "Which number is bigger, {a} or {b}?",
    "What is more, {a} or {b}?",
    "Which is larger: {a} or {b}?",
    "Which is greater, {a} or {b}?",
)
_BIGGER_PROBES = ("Which number is greater, {a} or {b}?",)

_COUNT_WORDINGS = (
    "Count to {n}.",
    "Count to {n}",
    "Count from 1 to {n}.",
    "Please count to {n}.",
    "Can you count to {n}?",
    "Count up to {n}.",
    "Count from one to {n}.",
    "Count till {n}.",
    "List the numbers from 1 to {n}.",
    "Count to {n} please",
    "Count to {n} for me.",
    "Would you count to {n}?",
    "I want you to count to {n}.",
    "Start counting to {n}.",
    "Let me see you count to {n}.",
    "Could you count to {n}?",
    "Count until {n}.",
)
_COUNT_PROBES = ("Could you please count to {n}?", "Show me how you count to {n}.")

_COUNT_DOWN_WORDINGS = (
    "Count down from {n}.",
    "Count down from {n} to 1.",
    "Count backwards from {n}.",
    "Please count down from {n}.",
    "Can you count down from {n}?",
)
_COUNT_DOWN_PROBES = ("Could you please count down from {n}?",)


def draw_sum(rng: Random) -> Topic:
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    return filled("{a} + {b} = {c}", _SUM_WORDINGS, _SUM_PROBES, a=a, b=b, c=a + b)


def draw_difference(rng: Random) -> Topic:
    b, a = sorted((rng.randint(0, 20), rng.randint(0, 20)))
    return filled("{a} - {b} = {c}", _DIFFERENCE_WORDINGS, _DIFFERENCE_PROBES, a=a, b=b, c=a - b)


def draw_product(rng: Random) -> Topic:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    return filled("{a} * {b} = {c}", _PRODUCT_WORDINGS, _PRODUCT_PROBES, a=a, b=b, c=a * b)


def draw_too_hard(rng: Random) -> Topic:
    """Anything with a number far outside the tables, and other operations."""
    big, other = rng.randint(100, 9999), rng.randint(2, 9999)
    a, b = rng.randint(1, 99), rng.randint(2, 20)
    c, d = rng.randint(30, 99), rng.randint(30, 99)
    problem = rng.choice(
        (
            f"{big} + {other}",
            f"{big} * {other}",
            f"{big} - {other}",
            f"{other} * {big}",
            f"{c} + {d}",
            f"{c} * {d}",
            f"{c} - {d}",
            f"{a} / {b}",
            f"{a} divided by {b}",
            f"the square root of {a}",
            f"{a} % {b}",
            f"{a} to the power of {b}",
            f"{a} squared",
            f"{a}.{b} + {b}",
            f"{a} + {b} * {b}",
        )
    )
    return filled(_TOO_HARD, _TOO_HARD_WORDINGS, _TOO_HARD_PROBES, x=problem)


def draw_comparison(rng: Random) -> Topic:
    a, b = rng.sample(range(21), 2)
    return filled(
        "{c} is bigger than {d}.",
        _BIGGER_WORDINGS,
        _BIGGER_PROBES,
        a=a,
        b=b,
        c=max(a, b),
        d=min(a, b),
    )


def draw_count(rng: Random) -> Topic:
    """Short counts are common; 100 is there because people like to watch it stream."""
    last = 100 if rng.random() < 0.06 else rng.choice((10, 20, *rng.sample(range(2, 31), 3)))
    numbers = ", ".join(str(number) for number in range(1, last + 1))
    return filled(numbers, _COUNT_WORDINGS, _COUNT_PROBES, n=last)


def draw_countdown(rng: Random) -> Topic:
    first = rng.choice((10, rng.randint(2, 20), rng.randint(2, 20)))
    numbers = ", ".join(str(number) for number in range(first, 0, -1))
    return filled(numbers, _COUNT_DOWN_WORDINGS, _COUNT_DOWN_PROBES, n=first)
