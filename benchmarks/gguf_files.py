"""A model folder as GGUF, for llama.cpp; runs in the peers' environment.

`python -m benchmarks.gguf_files 494m FOLDER F16 FILE` writes one file with F16 or Q8_0 matrices.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import shapes
from benchmarks.shapes import Shape


def write(shape: Shape, folder: Path, kind: str, file: Path) -> None:
    import gguf
    from safetensors.numpy import load_file

    writer = gguf.GGUFWriter(file, shapes.ARCHITECTURE)
    add_metadata(writer, shape)
    kinds = gguf.GGMLQuantizationType
    writer.add_file_type(
        {"F16": gguf.LlamaFileType.MOSTLY_F16}.get(kind, gguf.LlamaFileType.MOSTLY_Q8_0)
    )
    for part in sorted(folder.glob("*.safetensors")):
        for name, weights in load_file(part).items():
            wanted = kinds[kind] if weights.ndim == 2 else kinds.F32
            rows = interleaved(weights, shapes.rotary_heads(shape, name)).astype("float32")
            writer.add_tensor(
                shapes.gguf_name(name), gguf.quants.quantize(rows, wanted), raw_dtype=wanted
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_metadata(writer: Any, shape: Shape) -> None:
    writer.add_context_length(shapes.CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    # Both sides are given token ids, so no words are needed.
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(shape.vocabulary)


def interleaved(weights: Any, heads: int) -> Any:
    """Rows of each head from `first half, second half` to pairs of one row of each half."""
    if not heads:
        return weights
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


if __name__ == "__main__":
    write(shapes.SHAPES[sys.argv[1]], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
