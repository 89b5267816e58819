"""What a request changes about its row of logits before a token is drawn.

All rows at once: the entries to change are listed by their places in the flat tensor, which is
read by gather and written by scatter; indexing by row and column takes a thousand times as long.
"""

from collections.abc import Sequence as Rows

import numpy as np
import torch
from numpy.typing import NDArray

from inference.local.sequence import Sequence
from inference.local.token_counts import TokenCounts


def apply(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    """Changes contiguous `logits` [rows, vocabulary]; rows that ask for nothing stay."""
    _penalise_repetition(logits, sequences)
    _penalise_output(logits, sequences)
    _add_biases(logits, sequences)
    _forbid_ends(logits, sequences)
    constrain(logits, sequences)


def _penalise_repetition(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    """Keskar et al., "CTRL" (2019), over prompt and output, as in transformers and vLLM."""
    found = {row: s.seen for row, s in enumerate(sequences) if s.seen}
    if not found:
        return
    penalties = [
        torch.full((len(seen),), sequences[row].rules.repetition_penalty)
        for row, seen in found.items()
    ]
    penalty = torch.cat(penalties).to(logits)
    flat, places = logits.view(-1), _places(found, logits)
    values = flat.gather(0, places)
    flat.scatter_(0, places, torch.where(values > 0, values / penalty, values * penalty))


def _penalise_output(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    """As the OpenAI API has it: over generated tokens only, not over the prompt."""
    found = {
        row: s.output_counts
        for row, s in enumerate(sequences)
        if (s.rules.presence_penalty or s.rules.frequency_penalty) and s.output_counts
    }
    if not found:
        return
    penalties = []
    for row, output in found.items():
        rules = sequences[row].rules
        counts = torch.frombuffer(output.counts, dtype=torch.float32)
        penalties.append(counts * rules.frequency_penalty + rules.presence_penalty)
    flat, places = logits.view(-1), _places(found, logits)
    flat.scatter_(0, places, flat.gather(0, places) - torch.cat(penalties).to(logits))


def _add_biases(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    width = logits.shape[-1]
    biases = {
        row * width + token: bias
        for row, sequence in enumerate(sequences)
        for token, bias in sequence.sampling.logit_bias
    }
    if biases:
        flat = logits.view(-1)
        places = torch.tensor(list(biases), device=logits.device)
        added = torch.tensor(list(biases.values()), dtype=logits.dtype, device=logits.device)
        flat.scatter_(0, places, flat.gather(0, places) + added)


def _forbid_ends(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    width = logits.shape[-1]
    ends = [
        row * width + token
        for row, sequence in enumerate(sequences)
        if sequence.must_go_on and sequence.matcher is None
        for token in sequence.ends
    ]
    if ends:
        logits.view(-1).index_fill_(0, torch.tensor(ends, device=logits.device), -torch.inf)


def constrain(logits: torch.Tensor, sequences: Rows[Sequence]) -> None:
    """Last, so that nothing brings back what a constraint rules out."""
    for row, sequence in enumerate(sequences):
        if sequence.matcher is None:
            continue
        allowed = sequence.matcher.allowed(sequence.avoided)
        if allowed is not None:
            _forbid(logits[row], allowed[: logits.shape[-1]] == 0)


def _forbid(row: torch.Tensor, forbidden: NDArray[np.bool_]) -> None:
    if row.device.type == "cpu":
        # torch would wake its threads for each row, which takes longer than the work itself.
        np.copyto(row.numpy(), -np.inf, where=forbidden)
    else:
        row.masked_fill_(torch.from_numpy(forbidden).to(row.device), -torch.inf)


def _places(found: dict[int, TokenCounts], logits: torch.Tensor) -> torch.Tensor:
    # The views keep the arrays from growing, so they must be gone before the next token.
    width = logits.shape[-1]
    return torch.cat(
        [torch.frombuffer(one.ids, dtype=torch.int64) + row * width for row, one in found.items()]
    ).to(logits.device)
