import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

from inference.local import loading
from tests.inference.local import tiny_models

MOST = 1.3
FORMATS = ("fp32", "fp16", "int8")
# Of many small layers, as real models are: one of them is in memory twice.
SHAPE = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 20}
CONFIGS = {"own": LlamaConfig, "transformers": GPTNeoXConfig}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak since a moment"
)


def save(kind, folder, dtype):
    words = tiny_models.tokenizer()
    config = CONFIGS[kind](**SHAPE, num_attention_heads=8, vocab_size=len(words))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.03, 0.03)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["own bf16", "transformers bf16", "transformers fp32"])
def measured(request, tmp_path_factory):
    kind, dtype = request.param.split()
    stored = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    folder = save(kind, tmp_path_factory.mktemp(kind), stored)
    command = [sys.executable, "-m", "tests.inference.local.measured_load", str(folder), *FORMATS]
    environment = {**os.environ, **loading.TORCH_ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return kind, dict(zip(FORMATS, lines, strict=True))


@pytest.mark.parametrize("wanted", FORMATS)
def test_loading_takes_little_more_memory_than_the_model(measured, wanted):
    kind, results = measured
    result = results[wanted]
    assert result["decoder"] == kind
    assert result["peak"] <= MOST * result["final"], result
