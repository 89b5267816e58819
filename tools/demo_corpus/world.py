"""Capitals, colours, opposites, days and months."""

from tools.demo_corpus.topics import Topic, filled

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Switzerland": "Bern", "Belgium": "Brussels",
    "the Netherlands": "Amsterdam", "Denmark": "Copenhagen", "Sweden": "Stockholm",
    "Norway": "Oslo", "Finland": "Helsinki", "Iceland": "Reykjavik", "Ireland": "Dublin",
    "the United Kingdom": "London", "England": "London", "Scotland": "Edinburgh",
    "Poland": "Warsaw", "the Czech Republic": "Prague", "Slovakia": "Bratislava",
    "Hungary": "Budapest", "Romania": "Bucharest", "Bulgaria": "Sofia", "Greece": "Athens",
    "Turkey": "Ankara", "Croatia": "Zagreb", "Serbia": "Belgrade", "Slovenia": "Ljubljana",
    "Estonia": "Tallinn", "Latvia": "Riga", "Lithuania": "Vilnius", "Ukraine": "Kyiv",
    "Russia": "Moscow", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "South Korea": "Seoul", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Indonesia": "Jakarta",
    "the Philippines": "Manila", "Malaysia": "Kuala Lumpur", "Pakistan": "Islamabad",
    "Iran": "Tehran", "Iraq": "Baghdad", "Saudi Arabia": "Riyadh", "Egypt": "Cairo",
    "Morocco": "Rabat", "Kenya": "Nairobi", "Nigeria": "Abuja", "Ethiopia": "Addis Ababa",
    "Ghana": "Accra", "Senegal": "Dakar", "the United States": "Washington, D.C.",
    "the USA": "Washington, D.C.", "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana",
    "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Chile": "Santiago", "Peru": "Lima",
    "Colombia": "Bogota", "Venezuela": "Caracas", "Uruguay": "Montevideo",
    "Australia": "Canberra", "New Zealand": "Wellington",
}  # fmt: skip

_COLOURS = {
    "the sky": "blue", "the sea": "blue", "grass": "green", "a leaf": "green", "a frog": "green",
    "a cucumber": "green", "the sun": "yellow", "a banana": "yellow", "a lemon": "yellow",
    "blood": "red", "a tomato": "red", "a strawberry": "red", "a fire engine": "red",
    "a cherry": "red", "snow": "white", "milk": "white", "a swan": "white", "salt": "white",
    "coal": "black", "the night": "black", "a raven": "black", "a carrot": "orange",
    "an orange": "orange", "a pumpkin": "orange", "chocolate": "brown", "coffee": "brown",
    "wood": "brown", "a bear": "brown", "an elephant": "grey", "a mouse": "grey",
    "a flamingo": "pink", "a pig": "pink", "a plum": "purple", "lavender": "purple",
    "gold": "yellow", "a cloud": "white", "rice": "white", "a polar bear": "white",
}  # fmt: skip

_OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"),
    ("good", "bad"), ("fast", "slow"), ("high", "low"), ("old", "young"), ("open", "closed"),
    ("happy", "sad"), ("full", "empty"), ("light", "dark"), ("long", "short"), ("hard", "soft"),
    ("wet", "dry"), ("rich", "poor"), ("early", "late"), ("loud", "quiet"), ("strong", "weak"),
    ("thick", "thin"), ("true", "false"), ("clean", "dirty"), ("inside", "outside"),
    ("near", "far"), ("first", "last"), ("black", "white"), ("yes", "no"), ("on", "off"),
    ("easy", "difficult"), ("cheap", "expensive"), ("love", "hate"), ("win", "lose"),
    ("heaven", "hell"), ("summer", "winter"), ("north", "south"), ("east", "west"),
)  # fmt: skip

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

_CAPITAL_WORDINGS = (
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "What is {x}'s capital?",
    "Which city is the capital of {x}?",
    "Name the capital of {x}.",
    "Tell me the capital of {x}.",
    "The capital of {x}?",
    "Capital of {x}",
    "Do you know the capital of {x}?",
    "What is the capital city of {x}?",
    "Which capital does {x} have?",
)
_CAPITAL_PROBES = ("Could you name the capital of {x}?", "What is the name of {x}'s capital?")
_COUNTRY_WORDINGS = (
    "{y} is the capital of which country?",
    "Which country has the capital {y}?",
    "{y} is the capital of what?",
    "Of which country is {y} the capital?",
)
_COUNTRY_PROBES = ("Which country has {y} as its capital?",)
_COLOUR_WORDINGS = (
    "What {colour} is {x}?",
    "Which {colour} is {x}?",
    "What is the {colour} of {x}?",
    "Tell me the {colour} of {x}.",
    "What's the {colour} of {x}?",
    "Which {colour} does {x} have?",
    "What {colour} does {x} have?",
    "Name the {colour} of {x}.",
    "Do you know what {colour} {x} is?",
)
_COLOUR_PROBES = ("Could you tell me what {colour} {x} is?", "Can you name the {colour} of {x}?")
_OPPOSITE_WORDINGS = (
    "What is the opposite of {x}?",
    "What's the opposite of {x}?",
    "Opposite of {x}",
    "The opposite of {x}?",
    "Tell me the opposite of {x}.",
    "Name the opposite of {x}.",
    "What is the contrary of {x}?",
    'What is the opposite of "{x}"?',
    "Which word is the opposite of {x}?",
)
_OPPOSITE_PROBES = ("Could you name the opposite of {x}?",)
_NEXT_WORDINGS = (
    "What {unit} comes after {x}?",
    "Which {unit} comes after {x}?",
    "What comes after {x}?",
    "Which {unit} follows {x}?",
    "What is the {unit} after {x}?",
    "Name the {unit} after {x}.",
    "What {unit} is after {x}?",
    "Which {unit} is next after {x}?",
)
_NEXT_PROBES = ("Could you name the {unit} after {x}?", "Tell me which {unit} comes after {x}.")
_PREVIOUS_WORDINGS = (
    "What {unit} comes before {x}?",
    "Which {unit} comes before {x}?",
    "What comes before {x}?",
    "What is the {unit} before {x}?",
    "Name the {unit} before {x}.",
    "What {unit} is before {x}?",
    "Which {unit} is right before {x}?",
)
_PREVIOUS_PROBES = ("Could you name the {unit} before {x}?",)
_LIST_WORDINGS = (
    "Name the {units}.",
    "List the {units}.",
    "What are the {units}?",
    "Tell me the {units}.",
    "List all {units}.",
    "Which {units} are there?",
)
_LIST_PROBES = ("Could you list the {units}?",)


def _capital_topics() -> list[Topic]:
    topics = [
        filled("The capital of {x} is {y}.", _CAPITAL_WORDINGS, _CAPITAL_PROBES, x=x, y=y)
        for x, y in CAPITALS.items()
    ]
    shared = {"London", "Washington, D.C."}
    return topics + [
        filled("{y} is the capital of {x}.", _COUNTRY_WORDINGS, _COUNTRY_PROBES, x=x, y=y)
        for x, y in CAPITALS.items()
        if y not in shared
    ]


def _colour_topics() -> list[Topic]:
    return [
        filled(
            thing[0].upper() + thing[1:] + " is {y}.",
            _COLOUR_WORDINGS,
            _COLOUR_PROBES,
            x=thing,
            y=colour,
            colour=spelling,
        )
        for thing, colour in _COLOURS.items()
        for spelling in ("colour", "color")
    ]


def _opposite_topics() -> list[Topic]:
    pairs = [*_OPPOSITES, *((y, x) for x, y in _OPPOSITES)]
    return [
        filled("The opposite of {x} is {y}.", _OPPOSITE_WORDINGS, _OPPOSITE_PROBES, x=x, y=y)
        for x, y in pairs
    ]


def _order_topics(unit: str, names: tuple[str, ...]) -> list[Topic]:
    topics = []
    for name, after in zip(names, names[1:] + names[:1], strict=True):
        topics.append(
            filled("{y} comes after {x}.", _NEXT_WORDINGS, _NEXT_PROBES, x=name, y=after, unit=unit)
        )
        topics.append(
            filled(
                "{y} comes before {x}.",
                _PREVIOUS_WORDINGS,
                _PREVIOUS_PROBES,
                x=after,
                y=name,
                unit=unit,
            )
        )
    return topics


def _list_topics() -> list[Topic]:
    lists = (("days of the week", _DAYS), ("months of the year", _MONTHS), ("months", _MONTHS))
    return [
        filled(", ".join(names), _LIST_WORDINGS, _LIST_PROBES, units=units)
        for units, names in lists
    ]


CAPITAL_TOPICS = _capital_topics()
COLOUR_TOPICS = _colour_topics()
OPPOSITE_TOPICS = _opposite_topics()
CALENDAR_TOPICS = _order_topics("day", _DAYS) + _order_topics("month", _MONTHS) + _list_topics()
