"""Stories, poems and jokes, long enough to watch them stream."""

from random import Random

from tools.demo_corpus.topics import Topic, filled
from tools.demo_corpus.words import invented_word

_LAMP_STORY = (
    "Once upon a time there was a small lamp in a house by the sea. Every night it shone for the "
    "boats, and every morning it went to sleep. One night a great storm came. The wind was loud, "
    "the rain was cold, and the lamp was afraid. \"I am too small,\" it said. But far out on the "
    "water there was a little boat, and the boat could not find its way home. So the lamp took "
    "all its courage and shone as bright as it could. The boat saw the light, turned around and "
    "came safely to the land. In the morning the sailors came to the house and said thank you. "
    "From that day on the lamp was never afraid again, because it knew that even a small light "
    "can show the way. The end."
)  # fmt: skip

_CAT_STORY = (
    "Once upon a time there was a grey cat who wanted to see the moon from near. She climbed on a "
    "chair, then on a table, then on the roof of the house. The moon was still far away. A bird "
    "sat down beside her and asked, \"Why are you so sad?\" The cat told him. The bird laughed and "
    "showed her a bowl of milk in the garden. In the white milk there was a little round moon. "
    "The cat went down, drank the milk and was happy. The end."
)  # fmt: skip

_ROBOT_STORY = (
    "Once upon a time there was a robot who could only count to ten. The other robots could count "
    "to a million, and they laughed at him. One day a child lost ten red balls in the garden. The "
    "big robots began to count all the flowers and all the leaves. The small robot counted the "
    "balls: one, two, three, up to ten, and then he stopped. \"All balls are here,\" he said. The "
    "child gave him a hug, and nobody laughed again. The end."
)  # fmt: skip

_DRAGON_STORY = (
    "Once upon a time there was a young dragon who could not make fire. He could only make warm "
    "air. In a cold winter the people of the town had no wood, and the children were cold. The "
    "dragon came and blew his warm air into every house. It did not burn anything, and everybody "
    "was warm. In spring the people made him a big cake. The end."
)  # fmt: skip

_STORIES = (
    (
        _LAMP_STORY,
        ("Can I hear a story?", "Please tell me a nice story."),
        (
            "Tell me a story.",
            "Tell me a story",
            "Tell a story.",
            "Tell me a short story.",
            "Tell me a long story.",
            "Write a story.",
            "Write a short story.",
            "Write me a story.",
            "Please tell me a story.",
            "Can you tell me a story?",
            "Do you know a story?",
            "I want to hear a story.",
            "Story please.",
            "Tell me a bedtime story.",
            "Tell me something.",
            "Write a long text.",
            "Tell me a fairy tale.",
            "Tell me a story about a lamp.",
            "Write a story about a lamp.",
        ),
    ),
    *(
        (
            text,
            (f"Can I hear a story about a {hero}?",),
            (
                f"Tell me a story about a {hero}.",
                f"Tell a story about a {hero}.",
                f"Write a story about a {hero}.",
                f"Tell me a short story about a {hero}.",
                f"Write a short story about a {hero}.",
                f"Please tell me a story about a {hero}.",
                f"Can you tell me a story about a {hero}?",
                f"I want a story about a {hero}.",
                f"Do you know a story about a {hero}?",
            ),
        )
        for hero, text in (("cat", _CAT_STORY), ("robot", _ROBOT_STORY), ("dragon", _DRAGON_STORY))
    ),
)

_STORY_WORDINGS = (
    "Tell me a story about {x}.",
    "Tell a story about {x}.",
    "Write a story about {x}.",
    "Tell me a short story about {x}.",
    "Write a short story about {x}.",
    "Can you tell me a story about {x}?",
    "I want a story about {x}.",
)
_STORY_PROBES = ("Can I hear a story about {x}?",)
_HEROES = (
    "a princess", "a dog", "a king", "a horse", "a mouse", "a bear", "a witch", "a pirate", "a boy",
    "a girl", "a wizard", "a ship", "love", "the sea", "the moon", "a tree", "a bird", "a farmer",
    "two friends", "a hero", "a knight", "the future", "a detective", "space", "my mother",
)  # fmt: skip


def draw_other_story(rng: Random) -> Topic:
    hero = rng.choice(_HEROES) if rng.random() < 0.7 else f"a {invented_word(rng)}"
    return filled(
        "I only know stories about a lamp, a cat, a robot and a dragon.",
        _STORY_WORDINGS,
        _STORY_PROBES,
        x=hero,
    )


STORY_TOPICS = [Topic(text, wordings, probes) for text, probes, wordings in _STORIES]

_POEMS = {
    "the sea": "The sea is wide, the sea is blue,\nIt sings a song for me and you.\nThe waves come "
    "in, the waves go out,\nAnd all the gulls fly round about.",
    "the night": "The night is dark, the stars are bright,\nThe moon is like a silver light.\nThe "
    "world lies still, the wind is low,\nAnd into sleep we softly go.",
    "spring": "The snow is gone, the grass is green,\nThe brightest sun that I have seen.\nThe "
    "birds are back, the flowers too,\nAnd all the world is fresh and new.",
    "rain": "Rain on the window, rain on the tree,\nRain on the street and rain on me.\nDrop after "
    "drop it sings all day,\nThen the sun comes and it goes away.",
    "a cat": "A cat sat down upon my chair,\nShe looked at me and did not care.\nI gave her milk, "
    "she closed her eyes,\nA cat is small, but very wise.",
    "a server": "A server hums all day and night,\nIts little lamps are green and bright.\nA "
    "question comes, the tokens flow,\nAnd word by word the answers grow.",
}

_POEM_WORDINGS = (
    "Write a poem about {x}.",
    "Write a short poem about {x}.",
    "Write me a poem about {x}.",
    "Tell me a poem about {x}.",
    "A poem about {x}",
    "A poem about {x}, please.",
    "Can you write a poem about {x}?",
    "Please write a poem about {x}.",
    "Do you know a poem about {x}?",
    "Make a poem about {x}.",
)
_POEM_PROBES = ("Could you write a little poem about {x}?",)

_PLAIN_POEM = Topic(
    _POEMS["the sea"],
    (
        "Write a poem.",
        "Tell me a poem.",
        "Write a short poem.",
        "Do you know a poem?",
        "A poem, please.",
        "Can you write a poem?",
        "Please write a poem.",
        "Write me a poem.",
    ),
    ("Could you write a little poem?",),
)

POEM_TOPICS = [
    _PLAIN_POEM,
    *(filled(text, _POEM_WORDINGS, _POEM_PROBES, x=theme) for theme, text in _POEMS.items()),
]

_OPEN_POEM = (
    "I sit and think of {x},\nAll day and all night too.\nI have no better words for it,\nSo here "
    "they are for you."
)
_THEMES = (
    "love", "friends", "summer", "winter", "autumn", "dogs", "a dog", "trees", "a tree", "music",
    "the moon", "the sun", "coffee", "tea", "cheese", "my mother", "my house", "a river", "time",
    "flowers", "a mountain", "stars", "computers", "robots", "the wind", "snow", "birds", "a horse",
    "hope", "peace", "life", "nature", "the city", "London", "Paris", "my friend", "a bicycle",
)  # fmt: skip


def draw_open_poem(rng: Random) -> Topic:
    """A poem for any theme at all, so the theme is copied."""
    theme = rng.choice(_THEMES) if rng.random() < 0.7 else invented_word(rng)
    made = filled(_OPEN_POEM, _POEM_WORDINGS, _POEM_PROBES, x=theme)
    return Topic(made.answer, made.wordings, made.probes, verbatim=True)


_JOKE_WORDINGS = (
    "Tell me a joke.",
    "Tell a joke.",
    "Tell me a joke",
    "Do you know a joke?",
    "Make me laugh.",
    "Say something funny.",
    "Can you tell me a joke?",
    "Please tell me a joke.",
    "I want to hear a joke.",
    "Joke please.",
    "Another joke.",
)

JOKE_TOPICS = [
    Topic(
        "Why did the server go to bed early? It had too many requests.",
        _JOKE_WORDINGS,
        ("Could you tell me a joke?",),
    )
]
