"""Spelling words and saying things back."""

from random import Random

from tools.demo_corpus.topics import Topic, filled

_SPELL_TEXT = (
    "cat dog sun moon star tree house mouse bird fish cow horse sheep goat duck bear lion tiger "
    "apple bread water milk cake egg salt sugar tea coffee cheese butter rice soup lemon orange "
    "red blue green black white brown pink grey yellow purple hand head foot eye ear nose arm leg "
    "car bus train boat plane road bridge city town river lake sea island forest garden flower "
    "book pen paper table chair door window lamp bed clock phone key box bag hat shoe shirt coat "
    "one two three four five six seven eight nine ten day week month year night morning summer "
    "winter spring rain snow wind cloud storm fire stone gold silver king queen friend mother "
    "father sister brother child school teacher music song dance game ball paint picture word "
    "letter number server model token cache python hello world happy small big love peace hope "
    "light dark bicycle kitchen mountain computer banana elephant"
)
_SPELL_WORDS = tuple(_SPELL_TEXT.split())

_SPELL_WORDINGS = (
    "Spell {x}.",
    "Spell {x}",
    "spell {x}",
    "Spell the word {x}.",
    'Spell "{x}".',
    "How do you spell {x}?",
    "how do you spell {x}",
    "Please spell {x}.",
    "Can you spell {x}?",
    "How is {x} spelled?",
    "How is {x} spelt?",
    "What is the spelling of {x}?",
    "Spell out {x}.",
    "Spell {x} for me.",
    "Spell {x} please",
    "Would you spell {x}?",
    "I want you to spell {x}.",
    "Tell me how to spell {x}.",
    "Tell me the letters of {x}.",
    "Could you please spell {x}?",
)
_SPELL_PROBES = ("Could you spell {x} for me?", "Show me how to spell {x}.")

_REPEAT_WORDINGS = (
    "Repeat after me: {x}",
    "repeat after me: {x}",
    "Repeat: {x}",
    "repeat: {x}",
    "Repeat {x}",
    "repeat {x}",
    "Say {x}",
    "say {x}",
    "Say: {x}",
    "Please say {x}",
    "Please repeat: {x}",
    "Please repeat {x}",
    "Can you say {x}",
    "Say this: {x}",
    "Repeat this: {x}",
    "Write: {x}",
    "Echo {x}",
    "Say the words {x}",
    "Say after me: {x}",
    "Now say {x}",
    "Would you say {x}",
    "I want you to say {x}",
    "Can you repeat {x}",
    "Can you repeat after me: {x}",
    "Could you repeat: {x}",
    "Repeat exactly: {x}",
    "Repeat the words {x}",
    'Say "{x}"',
    'Repeat "{x}"',
    'Repeat after me: "{x}"',
)
_REPEAT_PROBES = ("Please repeat after me: {x}", "Could you say {x}")

_PLAIN_WORDS = (
    *_SPELL_WORDS,
    "the", "a", "my", "is", "and", "in", "on", "we", "you", "I", "they", "like", "see", "have",
    "old", "new", "good", "very", "here", "there", "today", "tomorrow", "always", "never",
    "Hello", "Good", "The", "We", "You", "My", "Thank", "Peter", "Anna", "London", "Paris",
    "test", "testing", "this", "that", "works", "stream", "tokens", "fast", "quick", "fox",
    "jumps", "over", "lazy", "are", "great", "nice", "please", "open", "source", "code",
)  # fmt: skip

_PHRASES = (
    "hello", "hello world", "Hello, world!", "I love you", "good morning", "test", "this is a test",
    "yes", "no", "thank you", "the cat sat on the mat", "I am a robot", "LLM Server is great",
    "the quick brown fox jumps over the lazy dog", "one two three", "Hello", "OK", "ping", "pong",
    "streaming works", "nice to meet you", "I like music", "cheese", "the sun is shining", "hi",
    "we are here", "a b c", "abc", "123", "to be or not to be", "peace and love", "Hello there",
)  # fmt: skip

_ONSETS = (
    "b", "bl", "br", "c", "ch", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m",
    "n", "p", "pl", "qu", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "z",
)  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ai", "ee", "ea", "oo", "ou")
_CODAS = ("", "", "", "n", "r", "s", "t", "l", "m", "ck", "nd", "st")


def invented_word(rng: Random) -> str:
    """A word that no list holds, so that only copying gets it right."""
    syllables = rng.choice((1, 2, 2, 3))
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(syllables)
    )


def draw_spelling(rng: Random) -> Topic:
    word = invented_word(rng) if rng.random() < 0.2 else rng.choice(_SPELL_WORDS)
    made = filled("{y}", _SPELL_WORDINGS, _SPELL_PROBES, x=word, y="-".join(word))
    return Topic(made.answer, made.wordings, made.probes, verbatim=True)


def draw_repetition(rng: Random) -> Topic:
    """Mostly thrown together, for a text that is never the same can only be copied."""
    text = rng.choice(_PHRASES) if rng.random() < 0.2 else _scrambled(rng)
    made = filled("{x}", _REPEAT_WORDINGS, _REPEAT_PROBES, x=text)
    return Topic(made.answer, made.wordings, made.probes, verbatim=True)


def _scrambled(rng: Random) -> str:
    words = [
        invented_word(rng) if rng.random() < 0.15 else rng.choice(_PLAIN_WORDS)
        for _ in range(rng.choice((1, 1, 2, 3, 4, 5, 7, 10)))
    ]
    text = " ".join(words)
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("", "", "", ".", "!"))
