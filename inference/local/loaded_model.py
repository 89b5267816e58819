"""What loading hands to the engine; to be imported without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.local.embedding_batches import BatchBudget
from inference.local.runner_spec import EngineInfo
from inference.local.scheduler import Limits
from inference.types import SamplingParams

if TYPE_CHECKING:
    from inference.local.embedder import Embedder
    from inference.local.embedding_inputs import InputEncoder
    from inference.local.forward import Forward
    from inference.local.grammars import Grammars
    from inference.local.prefix_cache import PrefixCache
    from inference.local.prompts import PromptEncoder
    from inference.local.sampler import Sampler
    from inference.local.vocabulary import Vocabulary

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`eos_ids` end a generation; `defaults` hold for what a request leaves open.

    `prefixes` is None where KV cannot be taken over.
    """

    info: EngineInfo
    limits: Limits
    forward: "Forward"
    sampler: "Sampler"
    prompts: "PromptEncoder"
    vocabulary: "Vocabulary"
    grammars: "Grammars"
    eos_ids: frozenset[int]
    defaults: SamplingParams
    prefixes: "PrefixCache | None" = None


@dataclass(frozen=True, slots=True)
class LoadedEmbedder:
    """`matryoshka` are the lengths that vectors may be cut to, (0,) standing for any."""

    info: EngineInfo
    embedder: "Embedder"
    inputs: "InputEncoder"
    budget: BatchBudget
    matryoshka: tuple[int, ...] = ()
