import itertools
import json
import random
import re
from contextlib import suppress

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from inference.errors import InvalidRequest
from inference.types import Constraint, ConstraintKind

pytest.importorskip("llguidance")

from inference.local import grammars
from inference.local.grammars import Grammars
from inference.local.prompts import PromptEncoder
from inference.local.vocabulary import Vocabulary
from tests.inference.local import tiny_models

TOKENIZER = tiny_models.tokenizer()
END = TOKENIZER.eos_token_id
OBJECT = Constraint(ConstraintKind.JSON_OBJECT)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ü"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def grammars_of(tokenizer, *, size, ends=frozenset({END}), **options):
    encode = PromptEncoder(tokenizer).encode_text
    return Grammars(Vocabulary(tokenizer, size), encode, ends, **options)


def compiler(**options):
    return grammars_of(TOKENIZER, size=len(TOKENIZER) + 3, **options)


@pytest.fixture(scope="module")
def compiled():
    return compiler()


def schema(value, param="response_format.json_schema.schema"):
    return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(value), param)


def regex(text):
    return Constraint(ConstraintKind.REGEX, text, "structured_outputs.regex")


def grammar(text):
    return Constraint(ConstraintKind.GRAMMAR, text, "structured_outputs.grammar")


def allowed(matcher, **options):
    return [token for token, bit in enumerate(matcher.allowed(**options)) if bit]


def babble(matcher, seed=0, most=400):
    """The text that somebody writes who picks any allowed token."""
    draw, tokens = random.Random(seed), []
    while not matcher.is_complete and len(tokens) < most:
        tokens.append(draw.choice(allowed(matcher)))
        matcher.advance(tokens[-1])
    return TOKENIZER.decode(tokens, skip_special_tokens=True)


def says(matcher, text):
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        matcher.advance(token)
    return matcher.problem is None


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_drawn_fits_the_schema(compiled, seed):
    answer = json.loads(babble(compiled.matcher_for(schema(PERSON)), seed))
    jsonschema.validate(answer, PERSON)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_drawn_matches_the_expression(compiled, seed):
    pattern = r"[a-zé]{2,8}@[a-z]{1,9}\.(com|org)"
    assert re.fullmatch(pattern, babble(compiled.matcher_for(regex(pattern)), seed))


def test_one_of_the_choices_is_taken(compiled):
    choices = ["yes", "no", 'quoted "text"\n', "👋🏽 é"]
    constraint = Constraint(ConstraintKind.CHOICE, json.dumps(choices), "structured_outputs.choice")
    found = {babble(compiled.matcher_for(constraint), seed) for seed in range(60)}
    assert found == set(choices)


@pytest.mark.parametrize(
    "text",
    ['start: NUM "+" NUM\nNUM: /[0-9]{1,3}/', 'root ::= num "+" num\nnum ::= [0-9]'],
    ids=["lark", "gbnf"],
)
def test_it_takes_grammars_in_two_notations(compiled, text):
    assert re.fullmatch(r"\d+\+\d+", babble(compiled.matcher_for(grammar(text)), 3))


def test_a_grammar_can_name_special_tokens(compiled):
    matcher = compiled.matcher_for(grammar('start: <|user|> "a"'))
    assert allowed(matcher) == [TOKENIZER.convert_tokens_to_ids("<|user|>")]


def test_what_leaves_no_choice_is_written_as_the_model_would(compiled):
    text = '"quick brown fox jumps over the lazy dog"'
    matcher, tokens = compiled.matcher_for(schema({"const": json.loads(text)})), []
    while not matcher.is_complete:
        (token,) = allowed(matcher)
        tokens.append(token)
        matcher.advance(token)
    assert tokens == TOKENIZER.encode(text, add_special_tokens=False)


def test_an_answer_that_cannot_go_on_is_complete(compiled):
    matcher = compiled.matcher_for(OBJECT)
    assert says(matcher, '{"a": [1, 2')
    assert not matcher.is_complete
    assert says(matcher, "]}")
    assert matcher.is_complete


def test_the_end_is_allowed_where_the_answer_may_end(compiled):
    matcher = compiled.matcher_for(regex("ab*"))
    assert END not in allowed(matcher)
    matcher.advance(TOKENIZER.convert_tokens_to_ids("a"))
    assert END in allowed(matcher)


def test_an_avoided_token_comes_only_where_there_is_no_other(compiled):
    matcher = compiled.matcher_for(regex("ab*"))
    first = TOKENIZER.convert_tokens_to_ids("a")
    assert allowed(matcher, avoided=[first]) == [first]
    matcher.advance(first)
    assert END not in allowed(matcher, avoided=[END])


def test_tokens_beyond_the_tokenizer_are_never_allowed(compiled):
    matcher = compiled.matcher_for(regex("(.|\\n)*"))
    assert max(allowed(matcher)) < len(TOKENIZER)


def test_blanks_between_the_parts_of_json_are_bounded(compiled):
    assert says(compiled.matcher_for(OBJECT), '{\n    "a": 1}')
    assert not says(compiled.matcher_for(OBJECT), "{" + " " * 30)


def test_answers_to_one_constraint_go_their_own_ways(compiled):
    one, other = compiled.matcher_for(regex("ab")), compiled.matcher_for(regex("ab"))
    assert says(one, "ab")
    assert not other.is_complete
    assert says(other, "ab")


def test_what_breaks_the_grammar_is_a_problem_and_no_exception(compiled):
    matcher = compiled.matcher_for(OBJECT)
    assert not says(matcher, "no")
    assert matcher.allowed() is None
    assert not matcher.is_complete


RECURSIVE = {"allOf": [{"$ref": "#"}]}


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (schema({"type": "objekt"}), "objekt"),
        (schema({"type": "object", "not": {}}), "not"),
        (schema({"allOf": [{"type": "string"}, {"type": "object"}]}), "nsatisfiable"),
        (schema({"$ref": "http://localhost/x"}), "not fetch"),
        (schema({"$ref": "#"}), "nothing can follow"),
        (schema(RECURSIVE), "nothing can follow"),
        (schema([1]), "object"),
        (regex("((a{1000}){1000}){1000}"), "too"),
        (regex("(a"), "unclosed group"),
        (regex("(" * 9000 + ")" * 9000), "regex"),
        (grammar("start: nobody"), "nobody"),
        (grammar("root ::= ("), "GBNF"),
        (grammar("root ::= " + "(" * 9000), "GBNF"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_its_field(compiled, constraint, words):
    with pytest.raises(InvalidRequest, match=words) as caught:
        compiled.matcher_for(constraint)
    assert caught.value.param == constraint.param
    assert len(str(caught.value)) < 300


KEYWORDS = (
    *("type", "properties", "items", "anyOf", "allOf", "oneOf", "$ref", "$defs", "enum", "const"),
    *("pattern", "minLength", "maximum", "required", "multipleOf", "additionalProperties"),
)
schemas = st.recursive(
    st.sampled_from(
        ["object", "string", "integer", "#", "#/$defs/a", "^a+$", -1, 0, 2.5, True, None]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
scraps = st.lists(
    st.sampled_from(
        [
            *"ab()[]{}|*+?.\\/^$:,~&-1 \n\0é",
            *("start: ", "root ::= ", '"x"', "/a+/", "A: ", "<|user|>", "{2,3}", "(?i)", "\\p{L}"),
            *("%json {}", "%regex {}", "%ignore "),
        ]
    ),
    max_size=24,
).map("".join)
constraints = (
    st.dictionaries(st.sampled_from(KEYWORDS), schemas, max_size=4).map(schema)
    | scraps.map(regex)
    | scraps.map(grammar)
    | scraps.map(lambda text: grammar(f"start: {text}"))
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(constraint=constraints, seed=st.integers(0, 9))
def test_whatever_is_sent_is_refused_or_followed(compiled, constraint, seed):
    draw = random.Random(seed)
    with suppress(InvalidRequest):
        matcher = compiled.matcher_for(constraint)
        for _ in range(12):
            if matcher.is_complete or (bits := matcher.allowed()) is None:
                return
            matcher.advance(draw.choice(bits.nonzero()[0].tolist()))


def test_a_grammar_whose_first_part_leaves_nothing_to_the_second_does_not_hang(compiled):
    assert says(compiled.matcher_for(grammar("start: /a+/ /a+/")), "aaaa")


def test_options_of_the_library_are_not_taken_from_callers(compiled):
    with pytest.raises(InvalidRequest, match="not taken"):
        compiled.matcher_for(grammar('%llguidance {"no_forcing": false}\nstart: "a"'))


@pytest.mark.parametrize("upper", [False, True], ids=["rules", "terminals"])
def test_a_chain_of_thousands_of_rules_does_not_overrun_the_stack(compiled, upper):
    names = [f"{'R' if upper else 'r'}{number}" for number in range(6000)]
    rules = [f"{name}:{after}" for name, after in itertools.pairwise(names)]
    text = "\n".join([f"start: {names[0]}", *rules, f'{names[-1]}:"a"'])
    assert says(compiled.matcher_for(grammar(text)), "a")


def test_a_constraint_over_the_limit_is_refused_unread(compiled):
    with pytest.raises(InvalidRequest, match="larger than 128 KiB"):
        compiled.matcher_for(regex("a" * 2**20))


def test_a_mask_that_takes_too_long_is_a_problem():
    with pytest.raises(InvalidRequest, match="too ambiguous"):
        compiler(max_mask_s=0.0).matcher_for(OBJECT)


def test_a_constraint_is_compiled_once(monkeypatch):
    compiled, calls = compiler(), []
    compile_it = grammars._grammar
    monkeypatch.setattr(grammars, "_grammar", lambda one: calls.append(one) or compile_it(one))
    for _ in range(3):
        compiled.matcher_for(OBJECT)
        with pytest.raises(InvalidRequest):
            compiled.matcher_for(regex("("))
    assert len(calls) == 2


def test_the_constraint_unused_for_longest_is_forgotten():
    compiled = compiler()
    for number in range(grammars.MAX_KEPT + 1):
        compiled.matcher_for(OBJECT)
        compiled.matcher_for(regex(f"a{number}"))
    assert len(compiled._kept) == grammars.MAX_KEPT
    assert (OBJECT.kind, "") in compiled._kept
    assert (ConstraintKind.REGEX, "a0") not in compiled._kept


def test_a_tokenizer_that_writes_a_token_by_its_neighbours_cannot_be_used():
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    pieces.decoder = decoders.WordPiece()
    words = tiny_models.PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]")
    with pytest.raises(InvalidRequest, match="cannot do structured output") as caught:
        grammars_of(words, size=3).matcher_for(regex("a"))
    assert caught.value.param == "structured_outputs.regex"


def test_a_model_without_an_end_cannot_be_used():
    with pytest.raises(InvalidRequest, match="no token that ends an answer"):
        grammars_of(TOKENIZER, size=len(TOKENIZER), ends=frozenset()).matcher_for(OBJECT)


def test_tokens_in_the_way_of_sentencepiece_are_understood():
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁{", "{", '"', "}"]
    known = {name: number for number, name in enumerate(names)}
    pieces = Tokenizer(models.BPE(known, [], byte_fallback=True, unk_token="<unk>"))
    pieces.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    words = tiny_models.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>")
    matcher = grammars_of(words, size=len(names)).matcher_for(OBJECT)
    assert allowed(matcher) == [known["{"]]
    for token in (known["{"], known["<0x7D>"]):
        matcher.advance(token)
    assert matcher.is_complete
