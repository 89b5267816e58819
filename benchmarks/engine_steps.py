"""What each part of the engine brings: tokens per second of random models, variants in turn.

python benchmarks/engine_steps.py 494m --folder /tmp/models
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Read by torch when it is imported: without it, waiting threads take the cores from working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config

from inference.local import assembly, compatibility, memory
from inference.local.assembly import Numbers
from inference.local.forward import PackedForward, PackedModel, SeamModel
from inference.local.kv_cache import KvCache
from inference.local.linear import Format
from inference.local.scheduler import Chunk
from inference.local.sequence import Sequence
from inference.local.traced import TracedDecoder
from inference.types import SamplingParams

SHAPES = {
    "135m": lambda: LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    ),
    "494m": lambda: Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=32768,
    ),
}
CPU = torch.device("cpu")
PROMPT_TOKENS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--rows", default="1,4,16")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = saved(arguments.shape, arguments.folder)
    made = {name: built(name, folder) for name in arguments.variants.split(",")}
    for rows in map(int, arguments.rows.split(",")):
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
        for _ in range(arguments.rounds):
            for name, model in made.items():
                measured[name].append(speeds(model, rows, arguments.steps))
        for name, pairs in measured.items():
            print(f"{rows:3} rows  {name:22} {line(pairs)}  load {os.getloadavg()[0]:.1f}")


def line(pairs: list[tuple[float, float]]) -> str:
    decode, prefill = ([pair[i] for pair in pairs] for i in (0, 1))
    return (
        f"decode {statistics.median(decode):6.1f} tok/s ({min(decode):.1f} to {max(decode):.1f})"
        f"  prefill {statistics.median(prefill):6.0f} tok/s"
    )


def saved(shape: str, folder: Path) -> Path:
    place = folder / shape
    if not (place / "config.json").exists():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=torch.bfloat16).save_pretrained(
            place
        )
    return place


def through_transformers(weights: Format) -> Callable[[Path], PackedModel]:
    def build(folder: Path) -> PackedModel:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        verdict = compatibility.check(model, 4096, weights)
        if verdict.obstacle is not None:
            raise SystemExit(f"{folder.name} does not run packed: {verdict.obstacle}")
        return SeamModel(model)

    return build


def own(weights: Format) -> Callable[[Path], PackedModel]:
    def build(folder: Path) -> PackedModel:
        config = AutoConfig.from_pretrained(folder)
        numbers = Numbers(torch.float32, CPU, weights)
        return assembly.assemble(folder, config, numbers, [3, 1, 4, 1, 5]).decoder

    return build


def traced(weights: Format) -> Callable[[Path], PackedModel]:
    return lambda folder: TracedDecoder(own(weights)(folder))  # type: ignore[arg-type]


VARIANTS = {
    "transformers fp32": through_transformers(Format.FP32),
    "transformers fp16": through_transformers(Format.FP16),
    "own fp16": own(Format.FP16),
    "own fp16 recorded": traced(Format.FP16),
    "own int8": own(Format.INT8),
    "own int8 recorded": traced(Format.INT8),
}


def built(name: str, folder: Path) -> PackedModel:
    before, started_at = memory_mib("VmRSS"), time.perf_counter()
    with memory.given_back():
        model = VARIANTS[name](folder)
    print(
        f"{name:22} loaded in {time.perf_counter() - started_at:.1f} s, "
        f"RSS +{memory_mib('VmRSS') - before} MiB, peak of the process {memory_mib('VmHWM')} MiB"
    )
    return model


def memory_mib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(field))


def speeds(model: PackedModel, rows: int, steps: int) -> tuple[float, float]:
    """Tokens per second over all rows: decoding (median step) and prefill."""
    forward = PackedForward(model, KvCache(rows, rows * 1024))
    sequences = [sequence(number) for number in range(rows)]
    started_at = time.perf_counter()
    for each in sequences[:4]:
        advance(forward, [each], PROMPT_TOKENS)
    prefill = len(sequences[:4]) * PROMPT_TOKENS / (time.perf_counter() - started_at)
    for each in sequences[4:]:
        advance(forward, [each], PROMPT_TOKENS)
    times = []
    for _ in range(steps):
        started_at = time.perf_counter()
        advance(forward, sequences, 1)
        times.append(time.perf_counter() - started_at)
    return rows / statistics.median(times), prefill


def sequence(number: int) -> Sequence:
    prompt = [(7 * place + 13 * number) % 5000 for place in range(PROMPT_TOKENS)]
    return Sequence(str(number), prompt, SamplingParams(temperature=0.0), 1)


def advance(forward: PackedForward, sequences: list[Sequence], tokens: int) -> None:
    logits = forward.run([Chunk(each, tokens) for each in sequences])
    for each, token in zip(sequences, logits.argmax(dim=1).tolist(), strict=True):
        each.computed += tokens
        each.append(token)


if __name__ == "__main__":
    main()
