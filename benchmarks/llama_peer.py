"""llama.cpp on the same weights, for `speed.py` and the parity tests.

It is called through its C API in the shared library of `llama-cpp-python` or of `xllamacpp`, whichever the Python that runs it has.
`write` needs `gguf`.

python llama_peer.py write CHECKPOINT FILE f16|q8_0|q4_0      a GGUF file of a Llama's safetensors, without a tokenizer
python llama_peer.py run FILE PROMPT_TOKENS CODES THREADS [SEQUENCES]      measures it; prints one JSON line
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = {"llama_cpp": "lib/libllama.so", "xllamacpp": "xllamacpp*.so"}
"""Python packages that contain llama.cpp, and the library in them that has its C functions."""


class _Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


class _Parameters(ctypes.Structure):
    """`llama_model_params` or `llama_context_params`. Only the fields that all versions begin with are named, and those of the
    model have none of these: both structs are passed in memory, where the function reads as many bytes as its version has."""

    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 64),
    )


def find_library() -> Path | None:
    """The shared library of llama.cpp; None if no package that has one is installed."""
    for package, pattern in LIBRARIES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found = next(Path(spec.origin).parent.glob(pattern), None)
            if found is not None:
                return found
    return None


class LlamaCpp:
    """A GGUF file in llama.cpp, with its defaults: keys and values in float16.

    Attributes:
        vocabulary: Tokens, and logits of each.
        instructions: What its kernels were compiled for.
    """

    def __init__(self, path: str | Path, threads: int, context: int = 2048, sequences: int = 1) -> None:
        library = find_library()
        assert library is not None, "neither llama-cpp-python nor xllamacpp is installed"
        self._library: Any = ctypes.CDLL(str(library))
        for name in ("llama_model_default_params", "llama_context_default_params"):
            getattr(self._library, name).restype = _Parameters
        for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._library.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        self._library.llama_print_system_info.restype = ctypes.c_char_p
        self._library.llama_batch_init.restype = _Batch
        self._quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *message: None)
        self._library.llama_log_set(self._quiet, None)
        self._library.llama_backend_init()
        load = self._library.llama_model_load_from_file
        load.argtypes = (ctypes.c_char_p, _Parameters)
        model = load(str(path).encode(), self._library.llama_model_default_params())
        assert model, f"llama.cpp can't load {path}"
        parameters = self._library.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = context * sequences, sequences
        create = self._library.llama_init_from_model
        create.argtypes = (ctypes.c_void_p, _Parameters)
        self._context = ctypes.c_void_p(create(ctypes.c_void_p(model), parameters))
        assert self._context, "llama.cpp can't create a context"
        assert self._library.llama_n_seq_max(self._context) == sequences, (
            "the struct of llama.cpp's parameters has changed"
        )
        self._library.llama_set_n_threads(self._context, ctypes.c_int32(threads), ctypes.c_int32(threads))
        vocabulary = ctypes.c_void_p(self._library.llama_model_get_vocab(ctypes.c_void_p(model)))
        self.vocabulary: int = self._library.llama_vocab_n_tokens(vocabulary)
        self.instructions: str = self._library.llama_print_system_info().decode()
        self._batch = self._library.llama_batch_init(context, 0, 1)
        self._lengths = [0] * sequences

    def feed(self, sequence: int, tokens: Sequence[int]) -> Any:
        """More tokens of one sequence -> the logits of what follows, float32 (vocabulary,), valid until the next call."""
        positions = range(self._lengths[sequence], self._lengths[sequence] + len(tokens))
        last = len(tokens) - 1
        return self._decode([(token, at, sequence) for token, at in zip(tokens, positions, strict=True)], {last})[0]

    def step(self, tokens: Sequence[int]) -> Any:
        """One more token of every sequence -> float32 (sequences, vocabulary), valid until the next call."""
        items = [(token, self._lengths[sequence], sequence) for sequence, token in enumerate(tokens)]
        return self._decode(items, set(range(len(items))))

    def _decode(self, items: Sequence[tuple[int, int, int]], wanted: set[int]) -> Any:
        import numpy as np

        batch = self._batch
        batch.n_tokens = len(items)
        for index, (token, position, sequence) in enumerate(items):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = index in wanted
            self._lengths[sequence] += 1
        assert self._library.llama_decode(self._context, batch) == 0, "llama_decode failed"
        return np.ctypeslib.as_array(self._library.llama_get_logits(self._context), (len(wanted), self.vocabulary))


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


def run(path: str, prompt_tokens: int, codes: int, threads: int, sequences: int) -> None:
    began = time.perf_counter()
    model = LlamaCpp(path, threads, sequences=sequences)
    loaded = time.perf_counter()
    prompt = list(range(1, prompt_tokens + 1))
    tokens = [int(model.feed(0, prompt).argmax())]
    first, cold = time.perf_counter(), time.time()
    tokens += [int(model.feed(sequence, prompt).argmax()) for sequence in range(1, sequences)]
    steps, made = [], tokens[:1]
    for _ in range(codes):
        start = time.perf_counter()
        tokens = model.step(tokens).argmax(-1).tolist()
        steps.append(time.perf_counter() - start)
        made.append(tokens[0])
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
                "instructions": model.instructions,
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
    running.add_argument("sequences", type=int, nargs="?", default=1)
    arguments = vars(parser.parse_args())
    {"write": write, "run": run}[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
