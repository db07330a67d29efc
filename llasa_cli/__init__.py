"""Text to speech with Llasa: `llasa_cli.synthesis.synthesizer.Synthesizer` in Python, `llasa` in a shell.

This module imports nothing, so that `llasa --help` stays fast.
"""

__version__ = "0.1.0"
