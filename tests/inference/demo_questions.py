"""What the demo model is asked in tests, and what it has to answer."""

from dataclasses import dataclass

Messages = tuple[tuple[str, str], ...]

_UNKNOWN = "I am a small demo model and do not know that. Load a real model for real answers."
_HELPFUL = "You are a helpful assistant."
_COUNT_TO_20 = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
COUNT_TO_100 = ", ".join(str(number) for number in range(1, 101))
STORY_QUESTION = "Tell me a story."
STORY = (
    "Once upon a time there was a small lamp in a house by the sea. Every night it shone for the "
    "boats, and every morning it went to sleep. One night a great storm came. The wind was loud, "
    'the rain was cold, and the lamp was afraid. "I am too small," it said. But far out on the '
    "water there was a little boat, and the boat could not find its way home. So the lamp took "
    "all its courage and shone as bright as it could. The boat saw the light, turned around and "
    "came safely to the land. In the morning the sailors came to the house and said thank you. "
    "From that day on the lamp was never afraid again, because it knew that even a small light "
    "can show the way. The end."
)


@dataclass(frozen=True, slots=True)
class Question:
    messages: Messages
    answer: str

    @property
    def name(self) -> str:
        return self.messages[-1][1]


def _asked(question: str, answer: str) -> Question:
    return Question((("user", question),), answer)


def _asked_with_system(question: str, answer: str) -> Question:
    return Question((("system", _HELPFUL), ("user", question)), answer)


QUESTIONS = (
    _asked("Hello", "Hello! How can I help you?"),
    _asked("Hi there!", "Hello! How can I help you?"),
    _asked("Good morning", "Good morning! How can I help you?"),
    _asked("How are you?", "I am fine, thank you. How can I help you?"),
    _asked("Who are you?", "I am the small demo model of LLM Server."),
    _asked("Thanks!", "You are welcome!"),
    _asked("Bye", "Goodbye! Have a nice day."),
    _asked(
        "What can you do?",
        "I can talk about LLM Server, greet you, do small sums, name capitals and colours, spell, "
        "count, repeat words and tell a story.",
    ),
    _asked(
        "What is LLM Server?",
        "LLM Server is a self-hosted LLM platform: a gateway, a local inference engine and an "
        "admin in one Django project.",
    ),
    _asked("How do I start the server?", "Run make run. The server then listens on port 8000."),
    _asked("Which port does LLM Server use?", "LLM Server listens on port 8000."),
    _asked("Where are models listed?", "Models are listed in models.yaml."),
    _asked("How do I load a model?", "Run manage.py load_model NAME with a name from models.yaml."),
    _asked("How do I create an API key?", "Run manage.py create_key --team TEAM --name NAME."),
    _asked("What does an API key look like?", "API keys start with sk-llms-."),
    _asked(
        "Which database does LLM Server use?",
        "SQLite by default. Use PostgreSQL when your installation grows.",
    ),
    _asked("Do I need Redis?", "Redis is optional. You need it for more than one worker."),
    _asked("Where are the metrics?", "Metrics are at /metrics."),
    _asked("Where is the health check?", "The health check is at /healthz."),
    _asked("where are the docs", "The docs are at /docs/."),
    _asked("Where is the admin?", "The admin is at /admin/."),
    _asked("Do I need a GPU?", "A CPU is enough for small models; a GPU makes them faster."),
    _asked(
        "Is the API compatible with OpenAI?",
        "Yes. The gateway has an OpenAI-compatible API, so OpenAI clients work with it.",
    ),
    _asked(
        "Does LLM Server support streaming?",
        "Yes. Tokens are streamed as they are made, also over a WebSocket.",
    ),
    _asked("What is 2 + 3?", "2 + 3 = 5"),
    _asked("What is 7 + 8?", "7 + 8 = 15"),
    _asked("12+5", "12 + 5 = 17"),
    _asked("How much is 9 plus 4?", "9 + 4 = 13"),
    _asked("What is 9 - 4?", "9 - 4 = 5"),
    _asked("What is 10 minus 3?", "10 - 3 = 7"),
    _asked("What is 3 * 4?", "3 * 4 = 12"),
    _asked("What is 5 times 5?", "5 * 5 = 25"),
    _asked("What is 1234 * 5678?", "I can only add, subtract and multiply small numbers."),
    _asked("What is the capital of France?", "The capital of France is Paris."),
    _asked("What is the capital of Germany?", "The capital of Germany is Berlin."),
    _asked("what is the capital of japan", "The capital of Japan is Tokyo."),
    _asked("Name the capital of Italy.", "The capital of Italy is Rome."),
    _asked("What is the capital of Canada?", "The capital of Canada is Ottawa."),
    _asked(
        "What is the capital of the United Kingdom?",
        "The capital of the United Kingdom is London.",
    ),
    _asked("What colour is the sky?", "The sky is blue."),
    _asked("What color is grass?", "Grass is green."),
    _asked("What color is a banana?", "A banana is yellow."),
    _asked("What day comes after Monday?", "Tuesday comes after Monday."),
    _asked("Which day comes before Sunday?", "Saturday comes before Sunday."),
    _asked("What month comes after March?", "April comes after March."),
    _asked(
        "Name the days of the week.",
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    ),
    _asked("What is the opposite of hot?", "The opposite of hot is cold."),
    _asked("What is the opposite of big?", "The opposite of big is small."),
    _asked("Which is bigger, 3 or 7?", "7 is bigger than 3."),
    _asked("Spell cat", "c-a-t"),
    _asked("How do you spell house?", "h-o-u-s-e"),
    _asked("Repeat after me: hello world", "hello world"),
    _asked("Say cheese", "cheese"),
    _asked("Count to 5", "1, 2, 3, 4, 5"),
    _asked("Count to 10.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
    _asked("Count to 20", _COUNT_TO_20),
    _asked("Count to 20.", _COUNT_TO_20),
    _asked("Count to 100.", COUNT_TO_100),
    _asked("Count down from 5.", "5, 4, 3, 2, 1"),
    _asked("Tell me a story", STORY),
    _asked(STORY_QUESTION, STORY),
    _asked("Tell me a joke.", "Why did the server go to bed early? It had too many requests."),
    _asked(
        "Write a poem about the sea.",
        "The sea is wide, the sea is blue,\nIt sings a song for me and you.\n"
        "The waves come in, the waves go out,\nAnd all the gulls fly round about.",
    ),
    _asked("Who was Albert Einstein?", _UNKNOWN),
    _asked("How do I cook pasta?", _UNKNOWN),
    _asked_with_system("Hello!", "Hello! How can I help you?"),
    _asked_with_system("What is the capital of Spain?", "The capital of Spain is Madrid."),
    _asked_with_system("What is 6 + 6?", "6 + 6 = 12"),
    _asked_with_system("Count to 5.", "1, 2, 3, 4, 5"),
    _asked_with_system("Explain gravity.", _UNKNOWN),
    Question(
        (
            ("user", "Hello"),
            ("assistant", "Hello! How can I help you?"),
            ("user", "What is the capital of France?"),
            ("assistant", "The capital of France is Paris."),
            ("user", "What is 4 + 4?"),
        ),
        "4 + 4 = 8",
    ),
    Question(
        (
            ("user", "My name is Anna."),
            ("assistant", "Nice to meet you, Anna!"),
            ("user", "What is my name?"),
        ),
        "Your name is Anna.",
    ),
)
