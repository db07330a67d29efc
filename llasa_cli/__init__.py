"""Text to speech with Llasa: `llasa_cli.synthesis.synthesizer.Speaker` from Python, `llasa` from the shell.

Nothing is imported here, so that `llasa --help` stays light.
"""

__version__ = "0.1.0"
