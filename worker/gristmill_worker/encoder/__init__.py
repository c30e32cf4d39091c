"""Encoders: texts to vectors. `open_encoder` is the one door; importing this loads neither torch nor transformers."""

from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors
from gristmill_worker.encoder.open import open_encoder
from gristmill_worker.encoder.pooling import cut

__all__ = ["Encoder", "TokenizedText", "Vectors", "cut", "open_encoder"]
