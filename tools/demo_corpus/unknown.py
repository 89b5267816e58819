"""Questions that the model must not try to answer."""

from random import Random

from tools.demo_corpus.topics import Topic
from tools.demo_corpus.words import invented_word
from tools.demo_corpus.world import CAPITALS

FALLBACK = "I am a small demo model and do not know that. Load a real model for real answers."

_PEOPLE = (
    "Albert Einstein", "Marie Curie", "Napoleon", "Shakespeare", "Mozart", "Beethoven", "Picasso",
    "Leonardo da Vinci", "Isaac Newton", "Charles Darwin", "Cleopatra", "Julius Caesar",
    "Martin Luther King", "Nelson Mandela", "Gandhi", "Elvis Presley", "Taylor Swift", "Messi",
    "Steve Jobs", "Bill Gates", "Elon Musk", "Alan Turing", "Ada Lovelace", "Harry Potter",
    "Batman", "Santa Claus", "Barack Obama", "Angela Merkel", "Linus Torvalds", "Goethe",
)  # fmt: skip
_THINGS = (
    "photosynthesis", "gravity", "quantum mechanics", "relativity", "DNA", "an atom", "inflation",
    "democracy", "evolution", "a black hole", "climate change", "electricity", "philosophy",
    "economics", "blockchain", "bitcoin", "machine learning", "a neural network", "Kubernetes",
    "Docker", "Linux", "JavaScript", "Rust", "Java", "HTML", "SQL", "Git", "the internet",
    "a virus", "cancer", "diabetes", "vitamin C", "football", "tennis", "chess", "baseball", "jazz",
    "opera", "the Bible", "Buddhism", "the Roman Empire", "World War II",
    "the French Revolution",
    "the European Union", "NASA", "the moon landing", "a volcano", "an earthquake", "the pyramids",
    "pizza", "sushi", "a compiler", "recursion", "a hash table", "algebra", "calculus", "pi",
    "thermodynamics", "oxygen", "iron", "the speed of light", "love", "happiness", "art", "history",
    "a galaxy", "Mars", "Jupiter", "a dinosaur", "Windows", "Excel", "React", "C++", "entropy",
    "a mortgage", "the stock market", "Bayes' theorem", "a transistor", "Nginx", "Terraform",
)  # fmt: skip
_TASKS = (
    "cook pasta", "bake bread", "fix my car", "lose weight", "learn the piano", "get rich", "sleep",
    "write a book", "build a house", "install Linux", "repair a bicycle", "make a website",
    "learn French", "find a job", "buy a house", "make coffee", "grow tomatoes", "train a dog",
    "tie a tie", "play chess", "invest money", "stop smoking", "write an email", "learn to code",
    "draw a horse", "fly a plane", "swim", "sing", "make friends", "clean a window", "use Excel",
    "center a div", "sort a list in Python", "reverse a string", "read a file", "use Git",
)  # fmt: skip
_PLACES = (
    "Atlantis", "Narnia", "Mordor", "Texas", "California", "Bavaria", "Tuscany", "Mongolia",
    "Nepal", "Fiji", "Malta", "Cyprus", "Qatar", "Oman", "Laos", "Bolivia", "Paraguay", "Angola",
    "Africa", "Europe", "Asia", "Hawaii", "Alaska", "Florida", "Gondor", "Wakanda", "Tibet",
)  # fmt: skip
_UNSEEN_THINGS = (
    "my car", "my house", "your hair", "a giraffe", "a dragon", "happiness", "a unicorn",
    "my shirt", "a train", "the moon", "Mars", "a computer", "my dog", "love", "a book",
    "a bus", "my door",
)  # fmt: skip
_CODE = (
    "a Python function", "a shell script", "an SQL query", "a web page", "a regular expression",
    "a Java class", "a program", "a unit test", "a Dockerfile", "a sorting algorithm", "code",
)  # fmt: skip
_GOALS = (
    "sorts a list", "reads a file", "adds two numbers", "finds prime numbers", "sends an email",
    "counts words", "parses JSON", "draws a circle", "prints a table", "removes duplicates",
)  # fmt: skip
_FILLERS = (
    "the project started in spring and many people worked on it",
    "our company sells shoes and hats in ten countries",
    "the meeting was moved to Friday because the room was full",
    "I have two dogs and one of them barks all night",
    "the new report shows that prices went up again",
    "she opened the letter and read it three times",
    "we need more time to finish the plan",
    "the train was late and it was raining in the city",
    "my computer shows a strange error when I open the file",
    "they built a bridge over the river in two years",
    "the customer wants a refund for the broken lamp",
    "all students have to write a test next week",
)

_PERSON_FORMS = (
    "Who is {p}?", "Who was {p}?", "Tell me about {p}.", "When was {p} born?", "How old is {p}?",
    "What did {p} do?", "Where does {p} live?", "What do you know about {p}?", "When did {p} die?",
)  # fmt: skip
_THING_FORMS = (
    "What is {t}?", "What's {t}?", "Explain {t}.", "Tell me about {t}.", "How does {t} work?",
    "Why is {t} important?", "Who invented {t}?", "What do you know about {t}?", "Define {t}.",
    "What does {t} mean?", "Give me three facts about {t}.", "Write an essay about {t}.",
    "What do you think about {t}?", "Can you explain {t}?", "Describe {t}.", "Do you like {t}?",
    "What is the history of {t}?", "What is the difference between {t} and {t2}?",
    "Compare {t} and {t2}.", "Explain {t} to a child.", "Where can I buy {t}?", "Is {t} good?",
    "What are the advantages of {t}?", "I have a question about {t}.", "How expensive is {t}?",
    "How many kinds of {t} are there?", "Who discovered {t}?", "Could you explain {t}?",
)  # fmt: skip
_TASK_FORMS = (
    "How do I {k}?", "How can I {k}?", "How to {k}?", "Can you {k}?", "Teach me to {k}.",
    "What is the best way to {k}?", "Help me {k}.", "Why should I {k}?", "When should I {k}?",
    "I want to {k}.", "Give me tips to {k}.", "Could you {k}?", "Where can I {k}?",
)  # fmt: skip
_PLACE_FORMS = (
    "What is the population of {c}?", "How many people live in {c}?", "Where is {c}?",
    "Who is the president of {c}?", "Who is the king of {c}?", "What is the currency of {c}?",
    "What language do they speak in {c}?", "How big is {c}?", "What should I see in {c}?",
    "How do I get to {c}?", "What do people eat in {c}?", "Tell me about {c}.",
    "What is the highest mountain in {c}?", "What is the longest river in {c}?",
    "Plan a trip to {c}.", "What is the flag of {c}?", "What is the history of {c}?",
)  # fmt: skip
_MISSING_CAPITAL_FORMS = (
    "What is the capital of {c}?", "What's the capital of {c}?", "Name the capital of {c}.",
    "Capital of {c}", "Tell me the capital of {c}.", "Which city is the capital of {c}?",
)  # fmt: skip
_MISSING_COLOUR_FORMS = (
    "What colour is {u}?", "What color is {u}?", "Which colour is {u}?",
    "What is the color of {u}?", "What is the colour of {u}?",
)  # fmt: skip
_CODE_FORMS = (
    "Write {w} that {g}.", "Write {w}.", "Can you write {w} that {g}?", "Give me {w} that {g}.",
    "Please write {w}.", "Show me {w} that {g}.", "Fix {w}.", "Debug {w} that {g}.",
)  # fmt: skip
_TEXT_FORMS = (
    "Summarize this text: {x}", "Summarise this: {x}", "Translate this into German: {x}",
    "What does this mean: {x}", "Correct this text: {x}", "{x} What should I do?", "{x}",
    "Rewrite this: {x}", "Translate into French: {x}", "{x} What do you think?", "Continue: {x}",
)  # fmt: skip
_SINGLE = (
    "What is the meaning of life?", "Who won the World Cup?", "Who won the last election?",
    "What is the news today?", "Do you believe in God?", "What should I eat tonight?",
    "Which came first, the chicken or the egg?", "What is the best movie?", "Is God real?",
    "What happened in 1989?", "How far is the moon?", "How tall is Mount Everest?", "Why?",
    "How many planets are there?", "What is the largest ocean?", "Who wrote Hamlet?", "How?",
    "Who painted the Mona Lisa?", "What is the fastest animal?", "When did World War II end?",
    "How deep is the sea?", "Why is the sky blue?", "Why is grass green?", "What is H2O?",
    "How many days are in a year?", "What is my password?", "Read my email.", "Call my mother.",
    "Play some music.", "Open the window.", "Set a timer.", "Order a pizza.", "Book a flight.",
    "What is the price of gold?", "Give me a recipe for soup.", "What is for dinner?", "When?",
    "Am I sick?", "I have a headache.", "Should I buy a car?", "What is the best phone?", "What?",
    "Which is the best LLM?", "Are you better than ChatGPT?", "Who will win?", "asdf", "qwerty",
    "Is LLM Server free?", "What is the licence of LLM Server?", "Who wrote LLM Server?",
    "How much does LLM Server cost?", "What is the latest version of LLM Server?",
)  # fmt: skip
_PROBES = (
    "What is a quasar?", "Who was Frida Kahlo?", "How do I knit a scarf?", "Explain osmosis.",
    "What is the capital of Rohan?", "Who is the mayor of Chicago?", "What colour is my sofa?",
    "Write a Haskell program that prints primes.", "How many legs does a spider have?",
    "What is the boiling point of water?", "Summarize the plot of Dune.", "Who sang Yesterday?",
    "How do airplanes fly?", "Should I learn Go or Zig?", "What is the GDP of Brazil?",
    "Tell me about penguins.", "How can I repair my roof?", "What is your opinion on politics?",
)  # fmt: skip


def draw_unknown(rng: Random) -> Topic:
    return Topic(FALLBACK, (_question(rng),), (rng.choice(_PROBES),))


def _question(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.10:
        return rng.choice(_SINGLE)
    if kind < 0.22:
        return rng.choice(_PERSON_FORMS).format(p=_or_invented(_PEOPLE, rng))
    if kind < 0.50:
        thing, other = _or_invented(_THINGS, rng), _or_invented(_THINGS, rng)
        return rng.choice(_THING_FORMS).format(t=thing, t2=other)
    if kind < 0.64:
        return rng.choice(_TASK_FORMS).format(k=rng.choice(_TASKS))
    if kind < 0.74:
        place = rng.choice((rng.choice(_PLACES), rng.choice(list(CAPITALS))))
        return rng.choice(_PLACE_FORMS).format(c=place)
    return _near_question(rng)


def _near_question(rng: Random) -> str:
    """Questions that look like ones with an answer, then code and whole texts."""
    kind = rng.random()
    if kind < 0.30:
        place = _or_invented(_PLACES, rng).title()
        return rng.choice(_MISSING_CAPITAL_FORMS).format(c=place)
    if kind < 0.50:
        return rng.choice(_MISSING_COLOUR_FORMS).format(u=_or_invented(_UNSEEN_THINGS, rng))
    if kind < 0.75:
        return rng.choice(_CODE_FORMS).format(w=rng.choice(_CODE), g=rng.choice(_GOALS))
    return rng.choice(_TEXT_FORMS).format(x=_passage(rng))


def _or_invented(known: tuple[str, ...], rng: Random) -> str:
    return invented_word(rng) if rng.random() < 0.25 else rng.choice(known)


def _passage(rng: Random) -> str:
    sentences = [rng.choice(_FILLERS) for _ in range(rng.choice((1, 1, 2, 3, 5, 9)))]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in sentences)
