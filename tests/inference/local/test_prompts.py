from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.errors import InvalidRequest
from inference.types import GenerationRequest, Message


@pytest.fixture(scope="module")
def tokenizer():
    from tests.inference.local import tiny_models

    return tiny_models.tokenizer()


@pytest.fixture
def encoder(tokenizer):
    from inference.local.prompts import PromptEncoder

    return PromptEncoder(tokenizer)


def asked(prompt):
    return GenerationRequest("a", "tiny", prompt=prompt)


def chatted(*messages):
    return GenerationRequest("a", "tiny", messages=tuple(Message(*one) for one in messages))


def test_it_renders_messages_with_the_template(encoder, tokenizer):
    ids = encoder.encode(chatted(("system", "Be brief."), ("user", "A dog")))
    assert tokenizer.decode(ids) == "<|system|>Be brief.</s><|user|>A dog</s><|assistant|>"


def test_special_tokens_are_single_ids_and_have_no_text(encoder, tokenizer):
    ids = encoder.encode(asked("<|user|>A dog</s>"))
    assert {ids[0], ids[-1]} == set(tokenizer.convert_tokens_to_ids(["<|user|>", "</s>"]))
    assert encoder.decode(ids) == "A dog"


def test_it_passes_on_what_the_template_refuses(encoder):
    with pytest.raises(InvalidRequest, match="no such role") as refusal:
        encoder.encode(chatted(("forbidden", "A dog")))
    assert refusal.value.param == "messages"


def test_it_refuses_messages_for_a_model_without_a_template(tokenizer):
    from inference.local.prompts import PromptEncoder
    from tests.inference.local import tiny_models

    plain = tiny_models.tokenizer()
    plain.chat_template = None
    with pytest.raises(InvalidRequest, match="send `prompt` instead"):
        PromptEncoder(plain).encode(chatted(("user", "A dog")))


def test_it_refuses_an_empty_prompt(encoder):
    with pytest.raises(InvalidRequest, match="empty"):
        encoder.encode(asked(""))


def test_it_refuses_half_a_surrogate_pair(encoder):
    with pytest.raises(InvalidRequest, match="surrogate"):
        encoder.encode(asked("A \ud83d dog"))


def test_it_encodes_in_several_threads_at_once(encoder):
    texts = [f"{number} quick brown foxes " * 30 for number in range(40)]
    alone = [encoder.encode(asked(text)) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: encoder.encode(asked(text)), texts)) == alone


def test_a_tokenizer_without_a_rust_half_is_used_through_its_wrapper(tokenizer):
    from inference.local.prompts import PromptEncoder

    class Wrapper:
        chat_template = None
        encode = staticmethod(tokenizer.encode)
        decode = staticmethod(tokenizer.decode)

    encoder = PromptEncoder(Wrapper())
    assert encoder.decode(encoder.encode(asked("A dog</s>"))) == "A dog"
