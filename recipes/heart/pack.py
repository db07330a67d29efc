"""Put a language model and a codec together as the built-in voice's folder.

    python pack.py MODEL CODEC llasa_cli/voices_data/tiny --temperature 0.5 --top-p 0.9

Weights are stored in 16 bit (bfloat16 the model, float16 the codec). A folder of more than 45 MB is not written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from teachers import NAMED_SPEAKERS

MOST_BYTES = 45_000_000
NOTES = {"af": "woman, American", "bf": "woman, British", "am": "man, American", "bm": "man, British"}
"""What the first letters of a teacher's style say about the speaker."""
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "pronunciations.txt",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--speakers", nargs="+", default=list(NAMED_SPEAKERS), help="the first is the default")
    parser.add_argument("--cloning-note", help="a warning for whoever clones with this model, by what judge.py found")
    parser.add_argument("--temperature", type=float, default=0.4)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--guidance", type=float, default=1.0, help="above 1 needs a model trained with --text-dropout")
    parser.add_argument(
        "--after", type=Path, help="the model that this one was initialized from; its steps are counted too"
    )
    arguments = parser.parse_args()
    stages = [
        json.loads((m / "llasa.json").read_text(encoding="utf-8")) for m in (arguments.after, arguments.model) if m
    ]
    about = {
        "format": 1,
        "codec": "codec",
        "sampling": {"temperature": arguments.temperature, "top_p": arguments.top_p, "guidance": arguments.guidance},
        # At this size int8 differs from bfloat16 by less than chance in words, and is a third faster.
        "cpu_dtype": "int8",
        "speakers": arguments.speakers,
        "default_speaker": arguments.speakers[0],
        "speaker_notes": {
            name: NOTES[style[:2]] for name, style in NAMED_SPEAKERS.items() if name in arguments.speakers
        },
        "cloning_note": arguments.cloning_note,
        # The model knows letters, not digits, and sentences of the length it was trained on.
        "spell_out": True,
        "most_characters": 120,
        # Seconds a letter. The slowest training clip takes .13, and a clone of a slow voice a quarter more.
        "slowest_s_a_character": 0.16,
        "language": ["en"],
        "license": "Apache-2.0",
        "base": None,
        "steps": sum(stage["steps"] for stage in stages),
        "tokens": sum(stage["tokens"] for stage in stages),
    }
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "voice"
        made.mkdir()
        for file in MODEL_FILES:
            if (arguments.model / file).exists():
                shutil.copyfile(arguments.model / file, made / file)
        (made / "llasa.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        (made / "codec").mkdir()
        for file in ("config.json", "model.safetensors"):
            shutil.copyfile(arguments.codec / file, made / "codec" / file)
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        if size > MOST_BYTES:
            raise SystemExit(f"{size / 1e6:.1f} MB is more than the package may hold")
        card = arguments.out / "README.md"
        if card.exists():
            shutil.copyfile(card, made / "README.md")
        shutil.rmtree(arguments.out, ignore_errors=True)
        shutil.copytree(made, arguments.out)
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
