from gateway.tally import Tally
from inference.tools import ToolCallDelta
from inference.types import Accepted, Finished, FinishReason, TokenChunk, Usage, UsageSource

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def test_a_prompt_counts_once_for_all_its_answers():
    tally = Tally(prompt_estimate=20, prompts=2, n=2)
    for choice, prompt_tokens in enumerate([3, 3, 5, 5]):
        tally.add(Accepted("b", "cpu", prompt_tokens), choice)
        tally.add(Finished(STOP, Usage(prompt_tokens, choice, cached_tokens=choice % 2)), choice)
    assert tally.usage() == Usage(8, 6)


def test_it_is_finished_when_all_are():
    tally = Tally(prompt_estimate=1, n=2)
    tally.add(Finished(LENGTH, Usage(1, 1)), 1)
    assert tally.finished is None
    tally.add(Finished(STOP, Usage(1, 1)), 0)
    assert tally.finished is not None
    assert tally.reasons == (STOP, LENGTH)


def test_what_has_arrived_counts_where_some_are_not_done():
    tally = Tally(prompt_estimate=8, prompts=2)
    tally.add(Accepted("b", "cpu", 3), 0)
    tally.add(TokenChunk(0, "a"), 0)
    tally.add(Accepted("b", "remote"), 1)
    tally.add(TokenChunk(0, "b", 2), 1)
    assert tally.usage() == Usage(7, 3, source=UsageSource.ESTIMATED)


def test_what_no_backend_took_costs_nothing():
    tally = Tally(prompt_estimate=8, prompts=2)
    tally.add(Accepted("b", "cpu", 3), 0)
    assert tally.usage() == Usage(3, 0)


def test_the_transcript_has_thoughts_and_calls():
    tally = Tally(prompt_estimate=1)
    tally.add(TokenChunk(0, "", reasoning="Hm"))
    tally.add(TokenChunk(1, "Wait."))
    tally.add(TokenChunk(2, "", tool_calls=(ToolCallDelta(0, "x", "f", '{"a"'),)))
    tally.add(TokenChunk(3, "", tool_calls=(ToolCallDelta(0, arguments=":1}"),)))
    assert tally.transcript == (
        '<think>Hm</think>\nWait.\n<tool_call>{"id": "x", "name": "f", '
        '"arguments": "{\\"a\\":1}"}</tool_call>'
    )
    assert not tally.is_plain


def test_the_transcript_of_plain_text_is_the_text():
    tally = Tally(prompt_estimate=1)
    tally.add(TokenChunk(0, "Hello"))
    assert tally.transcript == tally.text == "Hello"
    assert tally.is_plain
