"""Write the completion scripts of all shells: `python completions/generate.py`. A test compares them."""

from __future__ import annotations

from pathlib import Path

FILES = {"bash": "llasa.bash", "zsh": "_llasa", "fish": "llasa.fish", "powershell": "llasa.ps1"}


def scripts() -> dict[str, str]:
    """File name -> script. They ask `llasa` itself, so new flags need no new script."""
    from typer.completion import get_completion_script

    return {
        name: get_completion_script(prog_name="llasa", complete_var="_LLASA_COMPLETE", shell=shell) + "\n"
        for shell, name in FILES.items()
    }


if __name__ == "__main__":
    for name, script in scripts().items():
        Path(__file__).with_name(name).write_text(script, encoding="utf-8")
