from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from inference.errors import (
    BackendUnavailable,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
    WrongTask,
)
from inference.local import embedding_engine
from inference.local.embedding_batches import BatchBudget
from inference.local.loaded_model import LoadedEmbedder
from inference.types import Accepted, FinishReason, GenerationRequest, Usage
from tests.inference.local import embedding_models
from tests.inference.local.embedding_engines import DrivenEngine, load
from tests.inference.local.embedding_models import write_layout

PROMPTS = {"prompts": {"query": "The quick ", "passage": ""}}
Run = Callable[..., DrivenEngine]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedEmbedder:
    folder = embedding_models.save("bert", tmp_path_factory.mktemp("bert"), is_matryoshka=True)
    write_layout(folder, "mean", config_sentence_transformers=PROMPTS)
    return load(folder)


@pytest.fixture
def run(loaded: LoadedEmbedder) -> Iterator[Run]:
    running = []

    def start(budget: BatchBudget | None = None) -> DrivenEngine:
        running.append(DrivenEngine(loaded, budget))
        return running[-1]

    yield start
    for driven in running:
        driven.stop()


@pytest.fixture
def driven(run: Run) -> DrivenEngine:
    return run()


def test_vectors_come_for_each_input_whatever_their_lengths(driven: DrivenEngine):
    texts = ["dog", "The quick brown fox jumps over the lazy dog.", "A model", "dog"]
    together = driven.embed(*texts)
    alone = [driven.embed(text)[0] for text in texts]
    assert torch.allclose(torch.stack(together), torch.stack(alone), rtol=0, atol=1e-5)


def test_usage_counts_all_tokens(driven: DrivenEngine):
    driven.ask("one", (7, 8, 9), (10,))
    finished = driven.wait("one")
    assert (finished.reason, finished.usage) == (FinishReason.STOP, Usage(4, 0))
    assert driven.events["one"][0] == Accepted("tiny", "cpu", 4)
    assert finished.timings.queue_s <= finished.timings.total_s


def test_what_waits_is_computed_together(driven: DrivenEngine):
    driven.gate.clear()
    driven.ask("first", "dog")
    driven.entered.acquire()
    driven.ask("second", (7, 8, 9), cache_salt="a")
    driven.ask("third", (9, 8, 7), cache_salt="b")
    driven.gate.set()
    driven.wait("second")
    driven.wait("third")
    assert sorted(driven.batches[1]) == [[7, 8, 9], [9, 8, 7]]


def test_a_cancelled_request_is_not_computed_on(run: Run):
    driven = run(BatchBudget(tokens=8))
    driven.gate.clear()
    driven.ask("left", *[(7, 8, 9, 10, 11, 12)] * 20)
    driven.entered.acquire()
    driven.engine.cancel("left")
    driven.gate.set()
    assert driven.wait("left").reason is FinishReason.ABORT
    driven.embed("dog")
    assert len(driven.batches) == 2
    assert driven.engine.stats().running == driven.engine.stats().waiting == 0


def test_a_long_batch_shows_that_it_moves_on(driven: DrivenEngine):
    began = []
    renew = driven.embedder.on_layer

    def note() -> None:
        renew()
        began.append(driven.engine.step_under_way.began_at)

    driven.embedder.on_layer = note
    driven.embed("dog")
    # Two layers.
    assert len(began) == 2
    assert began[0] < began[1]


def test_a_full_house_refuses(driven: DrivenEngine):
    driven.gate.clear()
    for name in "abcd":
        driven.ask(name, "dog")
    with pytest.raises(Overloaded, match="4 requests"):
        driven.ask("e", "dog")


def test_too_many_tokens_inside_refuse(driven: DrivenEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedding_engine, "MAX_TOKENS_INSIDE", 10)
    driven.gate.clear()
    driven.ask("a", *[(7, 8, 9)] * 8)
    with pytest.raises(Overloaded, match="24 tokens of other requests"):
        driven.ask("b", "dog")
    driven.gate.set()
    driven.wait("a")
    driven.ask("b", "dog")


@pytest.mark.parametrize(
    ("inputs", "param", "words"),
    [
        ((tuple([7] * 129),), "input", "129 tokens, but this model takes at most 128"),
        (("dog", "dog " * 200), "input[1]", "takes at most 128"),
        (("dog", (7, 99999)), "input[1]", "no token 99999"),
        (("dog", "\ud800"), "input[1]", "surrogate"),
        (((),), "input", "no token"),
    ],
    ids=["too long", "too long among others", "unknown token", "half a character", "empty"],
)
def test_a_bad_input_is_named(driven: DrivenEngine, inputs: tuple, param: str, words: str):
    with pytest.raises(InvalidRequest, match=words) as caught:
        driven.ask("bad", *inputs)
    assert caught.value.param == param


def test_a_long_input_has_the_code_of_a_full_context(driven: DrivenEngine):
    with pytest.raises(InvalidRequest) as caught:
        driven.ask("long", "dog " * 200)
    assert caught.value.code == PromptTooLong.code


@pytest.mark.parametrize(("limit", "tokens"), [(-1, 128), (10, 10), (1, 1), (2, 2)])
def test_inputs_are_cut_where_that_is_asked_for(driven: DrivenEngine, limit: int, tokens: int):
    driven.embed("dog " * 200, truncate_tokens=limit)
    (row,) = driven.batches[0]
    assert len(row) == tokens
    # The tokens around a text stay, so there is room for it from three on.
    assert tokens < 2 or (row[0], row[-1]) == (0, 1)


def test_a_cut_to_more_than_the_model_takes_is_refused(driven: DrivenEngine):
    with pytest.raises(InvalidRequest, match="at most 128") as caught:
        driven.ask("bad", "dog", truncate_tokens=129)
    assert caught.value.param == "truncate_prompt_tokens"


def test_a_prompt_of_the_model_is_put_before_texts(driven: DrivenEngine):
    prompted = driven.embed("dog", prompt_name="query")
    assert torch.equal(prompted[0], driven.embed("The quick dog")[0])


def test_an_unknown_prompt_is_refused(driven: DrivenEngine):
    with pytest.raises(InvalidRequest, match="passage, query") as caught:
        driven.ask("bad", "dog", prompt_name="nobody")
    assert caught.value.param == "prompt_name"


def test_vectors_are_cut_and_normalised_again(driven: DrivenEngine):
    (whole,), (cut,) = driven.embed("dog"), driven.embed("dog", dimensions=8)
    assert torch.allclose(cut, torch.nn.functional.normalize(whole[:8], dim=0), atol=1e-6)


def test_more_dimensions_than_there_are_are_refused(driven: DrivenEngine):
    with pytest.raises(InvalidRequest, match="vectors of 32 numbers") as caught:
        driven.ask("bad", "dog", dimensions=33)
    assert caught.value.param == "dimensions"


def test_vectors_that_were_not_made_for_it_are_not_cut(tmp_path: Path):
    driven = DrivenEngine(load(embedding_models.save("bert", tmp_path)))
    with pytest.raises(InvalidRequest, match="cannot be cut"):
        driven.ask("bad", "dog", dimensions=8)
    assert len(driven.embed("dog", dimensions=32)[0]) == 32
    driven.stop()


def test_text_is_not_to_be_had(driven: DrivenEngine):
    with pytest.raises(WrongTask, match="/v1/embeddings") as caught:
        driven.engine.submit(GenerationRequest("r", "m", prompt="dog"))
    assert caught.value.param == "model"


def test_a_generator_makes_no_vectors(run_engine: Callable[[], object]):
    from inference.types import EmbeddingRequest

    with pytest.raises(WrongTask, match="makes no embeddings"):
        run_engine().engine.submit(EmbeddingRequest("r", "m", ("dog",)))


def test_a_failed_batch_fails_those_in_it_and_no_other(
    driven: DrivenEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with monkeypatch.context() as broken:
        broken.setattr(driven.embedder, "run", lambda rows: 1 / 0)
        driven.ask("unlucky", "dog")
        assert isinstance(driven.wait("unlucky"), BackendUnavailable)
    assert len(driven.embed("dog")[0]) == 32
    assert "a batch failed" in caplog.text


def test_the_engine_gives_up_after_several_failures(
    driven: DrivenEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driven.embedder, "run", lambda rows: 1 / 0)
    for name in "abc":
        driven.ask(name, "dog")
        driven.wait(name)
    driven.engine._thread.join(60)
    assert "3 batches in a row" in driven.engine.failed
    with pytest.raises(BackendUnavailable):
        driven.ask("d", "dog")


def test_numbers_that_are_none_fail_the_request(
    driven: DrivenEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driven.embedder, "run", lambda rows: torch.full((len(rows), 32), torch.nan))
    driven.ask("odd", "dog")
    assert "no usable numbers" in str(driven.wait("odd"))


def test_stopping_ends_what_is_under_way(driven: DrivenEngine):
    driven.gate.clear()
    driven.ask("late", "dog")
    driven.entered.acquire()
    driven.ask("later", "dog")
    driven.gate.set()
    driven.engine.stop()
    assert driven.wait("later")
