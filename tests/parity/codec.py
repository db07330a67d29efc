"""Compare the codec with its authors' own code, on one checkpoint with random weights.

    python tests/parity/codec.py small|full --reference PYTHON [--work FOLDER]

PYTHON is the interpreter of the environment that `reference_codec.py` describes. There the original package writes a checkpoint
in its own format, and its output for a clip and for codes. Here this program reads the same checkpoint, and the outputs are
compared. `full` needs 12 GB of memory in that environment, and 3.3 GB of disk.

    --record FOLDER     of `small`: write what the default tests compare with (tests/codec/original: expected.npz, shapes.json)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
LIMIT = 1e-4


def compare(folder: Path) -> dict[str, float]:
    """Read the checkpoint and compare our output with the reference's.

    Returns:
        The largest differences of the samples and of the latents before the quantizer, the magnitudes that they compare with,
        and the share of codes that differ.
    """
    from llasa_cli.codec.codec import load_codec

    with np.load(folder / "expected.npz") as file:
        expected = dict(file)
    codec = load_codec(folder, "cpu")
    samples = codec.decode(expected["spoken"].tolist())
    seen = {}
    codec._encoder.fc_encoder.register_forward_hook(lambda module, inputs, output: seen.update(latents=output))
    codes = np.array(codec.encode(expected["clip"]))
    latents = seen["latents"][0].numpy()[: len(expected["latents"])]
    return {
        "samples": float(np.abs(samples - expected["samples"]).max()),
        "samples_scale": float(np.abs(expected["samples"]).max()),
        "latents": float(np.abs(latents - expected["latents"]).max()),
        "latents_scale": float(expected["latents"].std()),
        "different_codes": float((codes != expected["codes"]).mean()),
        "codes": len(codes),
        "distinct_codes": len(set(codes.tolist())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("small", "full"))
    parser.add_argument("--reference", required=True, help="the reference environment's python")
    parser.add_argument("--work", type=Path, help="keep the checkpoint here")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        began = time.monotonic()
        script = Path(__file__).with_name("reference_codec.py")
        subprocess.run([options.reference, str(script), options.kind, str(work)], check=True)
        print(f"reference: {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        found = compare(work)
        print(json.dumps(found, indent=1), f"{time.monotonic() - began:.0f} s")
        if options.record:
            (options.record / "expected.npz").write_bytes((work / "expected.npz").read_bytes())
            shapes = json.loads((work / "shapes.json").read_text())
            text = ",\n".join(f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in sorted(shapes.items()))
            (options.record / "shapes.json").write_text("{\n" + text + "\n}\n")
    if (
        found["samples"] > LIMIT
        or found["latents"] > LIMIT * max(1.0, found["latents_scale"])
        or found["different_codes"]
    ):
        sys.exit("The outputs differ.")


if __name__ == "__main__":
    main()
