"""Log-probabilities to words: tokenizer, beam search, language model, hotwords, endpoints, captions."""

from avsr.decode.arpa import read_arpa, write_arpa
from avsr.decode.beam import BeamSearch
from avsr.decode.captioner import Captioner, CaptionerInput, CaptionerState
from avsr.decode.hotwords import Hotword
from avsr.decode.lm import NgramTable, WordLm
from avsr.decode.tokenizer import Tokenizer, normalise_text, train_tokenizer

__all__ = [
    "BeamSearch",
    "Captioner",
    "CaptionerInput",
    "CaptionerState",
    "Hotword",
    "NgramTable",
    "Tokenizer",
    "WordLm",
    "normalise_text",
    "read_arpa",
    "train_tokenizer",
    "write_arpa",
]
