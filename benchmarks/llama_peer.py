"""llama.cpp on the same weights, for `speed.py`. Needs `llama-cpp-python` and `gguf` in the Python that runs it.

python llama_peer.py write CHECKPOINT FILE f16|q8_0|q4_0      a GGUF file of a Llama's safetensors, without a tokenizer
python llama_peer.py run FILE PROMPT_TOKENS CODES THREADS     measures it; prints one JSON line
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path


def tensors(folder: Path) -> Iterator[tuple[str, object]]:
    """Yields (name, float32 array) from a folder with one safetensors file in bfloat16."""
    import numpy as np

    with open(folder / "model.safetensors", "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, about in header.items():
            assert about["dtype"] == "BF16", about
            begin, end = about["data_offsets"]
            file.seek(8 + size + begin)
            raw = np.frombuffer(file.read(end - begin), np.uint16)
            yield name, (raw.astype(np.uint32) << 16).view(np.float32).reshape(about["shape"])


def write(folder: Path, path: Path, kind: str) -> None:
    """Name and permute the tensors as llama.cpp's converter does, with every matrix in one format."""
    import gguf
    import numpy as np

    config = json.loads((folder / "config.json").read_text())
    rope = config["rope_parameters"]
    types = {"f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
    wanted = types.get(kind, gguf.GGMLQuantizationType.Q4_0)
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(config["num_hidden_layers"])
    out.add_context_length(2048)
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_rope_freq_base(rope["rope_theta"])
    out.add_rope_dimension_count(config["head_dim"])
    out.add_vocab_size(config["vocab_size"])
    out.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, value in tensors(folder):
        kept = names.get_name(name, try_suffixes=(".weight",))
        for part, count in heads.items():
            if part in name:  # llama.cpp rotates neighboring dimensions, Hugging Face halves
                rows, width = value.shape
                value = value.reshape(count, 2, rows // count // 2, width).swapaxes(1, 2).reshape(rows, width)
        if value.ndim == 1:
            out.add_tensor(kept, value)
        elif kind == "f16":
            out.add_tensor(kept, value.astype(np.float16))
        else:
            out.add_tensor(kept, gguf.quants.quantize(value, wanted), raw_dtype=wanted)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def run(path: str, prompt_tokens: int, codes: int, threads: int) -> None:
    import numpy as np
    from llama_cpp import Llama, llama_get_logits

    began = time.perf_counter()
    model = Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False, n_gpu_layers=0)
    loaded = time.perf_counter()
    model.eval(list(range(1, prompt_tokens + 1)))
    width = model.n_vocab()

    def top_candidates() -> int:
        return int(np.ctypeslib.as_array(llama_get_logits(model._ctx.ctx), (width,)).argmax())

    token = top_candidates()
    first, cold = time.perf_counter(), time.time()
    steps, made = [], [token]
    for _ in range(codes):
        start = time.perf_counter()
        model.eval([token])
        token = top_candidates()
        steps.append(time.perf_counter() - start)
        made.append(token)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "load_s": loaded - began,
                "prompt_s": first - loaded,
                "first_at": cold,
                "steps_s": steps,
                "peak_bytes": peak,
                "weight_bytes": Path(path).stat().st_size,
                "tokens": made,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("path", type=Path)
    writing.add_argument("kind", choices=["f16", "q8_0", "q4_0"])
    running = commands.add_parser("run")
    running.add_argument("path")
    running.add_argument("prompt_tokens", type=int)
    running.add_argument("codes", type=int)
    running.add_argument("threads", type=int)
    arguments = vars(parser.parse_args())
    {"write": write, "run": run}[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
