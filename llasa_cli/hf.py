"""The former name of `llasa_cli.transformers_compat`, for scripts that import it."""

from llasa_cli.transformers_compat import (
    MARKERS,
    LlasaConfig,
    LlasaForCausalLM,
    LlasaProcessor,
    LlasaTokenizer,
    XCodec2Model,
)

__all__ = ["MARKERS", "LlasaConfig", "LlasaForCausalLM", "LlasaProcessor", "LlasaTokenizer", "XCodec2Model"]
