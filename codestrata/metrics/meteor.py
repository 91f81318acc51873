"""METEOR by NLTK's scorer: words that match exactly, by stem and, where WordNet is installed, by synonym.

The two variants are two metrics with two names: a number with synonyms is no number without them.

What this does not do: METEOR 1.5 (the Java program, with other parameters, function words and paraphrases),
or download anything.
"""

import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any, Protocol

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader, WordNetError
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from codestrata.errors import DataError
from codestrata.metrics.text import TOKEN, split_tokens
from codestrata.records import Metric, Prediction, Score

METRICS: tuple[Metric, ...] = (
    Metric(
        name="meteor_exact_stem",
        kind="score",
        formula="mean of (1 - 0.5 (chunks / matches)^3) * P R / (0.9 P + 0.1 R), matches exact or by stem",
        source="Lavie & Agarwal 2007, W07-0734; Banerjee & Lavie 2005, W05-0909",
        implementation="nltk.translate.meteor_score without synonyms",
    ),
    Metric(
        name="meteor_exact_stem_wordnet",
        kind="score",
        formula="as meteor_exact_stem, and words left over match a WordNet synonym",
        source="Lavie & Agarwal 2007, W07-0734; Banerjee & Lavie 2005, W05-0909",
        implementation="nltk.translate.meteor_score with NLTK's WordNet data",
    ),
)

PARAMETERS = "METEOR 1.0 (alpha 0.9, beta 3, gamma 0.5)"

LONGEST_STEMMED = 100
"""Longer words are their own stems. No English word is; a model's endless word would cost much time."""

WORDS_REMEMBERED = 2**16

WORDNET_PLACES = ("corpora/wordnet", "corpora/wordnet.zip/wordnet/")


class Thesaurus(Protocol):
    """What NLTK's scorer asks of a WordNet."""

    def synsets(self, word: str) -> Sequence[Any]:
        """The sets of synonyms that ``word`` is in."""


class NoSynonyms:
    """A thesaurus that knows no word: only exact and stem matches are left."""

    def synsets(self, word: str) -> Sequence[Any]:
        """Nothing."""
        return ()


class RememberedWordNet:
    """NLTK's WordNet, which looks each word up once."""

    def __init__(self, reader: WordNetCorpusReader):
        self._reader = reader
        self.synsets = lru_cache(maxsize=WORDS_REMEMBERED)(self._find_synsets)
        self.version = reader.get_version() or "of unknown version"

    def _find_synsets(self, word: str) -> Sequence[Any]:
        """The sets of synonyms of ``word``. Raises DataError: the files do not hold what their index says."""
        try:
            synsets = self._reader.synsets(word)
        except (OSError, ValueError, LookupError, WordNetError) as error:
            raise DataError(f"the entry of {word!r}: {error}") from error
        if None in synsets:
            raise DataError(f"no entry of {word!r} where the index says; do its lines end in CR LF?")
        return tuple(synsets)


class RememberedStemmer:
    """NLTK's Porter stemmer, which stems each word once and long words never."""

    def __init__(self) -> None:
        self._stem = lru_cache(maxsize=WORDS_REMEMBERED)(PorterStemmer().stem)

    def stem(self, word: str) -> str:
        """The stem of ``word``, which is itself above ``LONGEST_STEMMED`` characters."""
        return word if len(word) > LONGEST_STEMMED else str(self._stem(word))


@cache
def build_stemmer() -> RememberedStemmer:
    """The one stemmer and what it remembers."""
    return RememberedStemmer()


def find_wordnet() -> Any | None:
    """Where NLTK finds its WordNet data, unpacked or zipped; ``None`` where it is not installed."""
    for place in WORDNET_PLACES:
        try:
            return nltk.data.find(place)
        except LookupError:
            continue
    return None


@lru_cache(maxsize=1)
def load_wordnet(search_path: tuple[str, ...]) -> RememberedWordNet:
    """The WordNet on NLTK's search path, which takes seconds the first time.

    Raises: DataError: the data is damaged or incomplete.
    """
    try:
        with warnings.catch_warnings():
            # "The multilingual functions are not available", and we have no use for them.
            warnings.filterwarnings("ignore", message="The multilingual functions", category=UserWarning)
            return RememberedWordNet(WordNetCorpusReader(find_wordnet(), None))
    except (OSError, ValueError, LookupError, AssertionError, WordNetError) as error:
        raise DataError(str(error)) from error


def score_meteor_exact_stem(predictions: Sequence[Prediction]) -> Score:
    """Mean over examples of METEOR without synonyms; see ``compute_meteor``."""
    return score_with("meteor_exact_stem", predictions, NoSynonyms(), "exact+stem")


def score_meteor_exact_stem_wordnet(predictions: Sequence[Prediction]) -> Score:
    """Mean over examples of METEOR with WordNet's synonyms; see ``compute_meteor``.

    The value is ``None`` where NLTK's WordNet data is not installed, or damaged; nothing is downloaded.
    """
    name, n = "meteor_exact_stem_wordnet", len(predictions)
    if find_wordnet() is None:
        reason = "NLTK's WordNet data is not installed (python -m nltk.downloader wordnet)"
        return Score(metric=name, value=None, n=n, reason=reason)
    try:
        wordnet = load_wordnet(tuple(nltk.data.path))
        return score_with(name, predictions, wordnet, f"exact+stem+WordNet {wordnet.version}")
    except DataError as error:
        reason = f"NLTK's WordNet data is damaged, install it again: {error}"
        return Score(metric=name, value=None, n=n, reason=reason)


def score_with(name: str, predictions: Sequence[Prediction], thesaurus: Thesaurus, stages: str) -> Score:
    """Mean over examples of METEOR with ``thesaurus``.

    Examples whose target has no token have no value; they are left out of ``value`` and ``n``, ``reason``
    counts them, and ``statistics`` are rows (value, 1), for them (0, 0).
    """
    if not predictions:
        return Score(metric=name, value=None, n=0, reason="no predictions")
    values = tuple(
        compute_meteor(prediction.completion, prediction.target, thesaurus) for prediction in predictions
    )
    known = [value for value in values if value is not None]
    if not known:
        return Score(metric=name, value=None, n=0, reason="no target has a token")
    left_out = len(values) - len(known)
    return Score(
        metric=name,
        value=sum(known) / len(known),
        n=len(known),
        reason=f"{left_out} of {len(values)} targets have no token and are left out" if left_out else None,
        per_example=values,
        statistics=tuple((value or 0.0, float(value is not None)) for value in values) if left_out else None,
        variant=f"nltk {version('nltk')}, {PARAMETERS}, {stages}, tokens {TOKEN}",
    )


def compute_meteor(completion: str, target: str, thesaurus: Thesaurus) -> float | None:
    """METEOR of one completion by NLTK, in [0, 1); ``None`` where the target has no token.

        METEOR = (1 - 0.5 (chunks / m)^3) * P R / (0.9 P + 0.1 R), P = m / h, R = m / r

    h and r are the tokens of completion and target. m of them match one to one: first equal words, then those
    of equal Porter stem, then those that share a set of synonyms in ``thesaurus``, where NLTK looks up the
    stems: "figure" has no synonym, since its stem is "figur". Chunks are the fewest runs that are adjacent on
    both sides. Equal texts of m tokens score 1 - 0.5 / m^3, and no match scores 0.

    Tokens are words and single punctuation marks, lower-cased: NLTK leaves that choice to its caller, and
    white space would make one token of ``c=a+b``, which matches only itself.

    Source: Lavie & Agarwal 2007, with the three stages of Banerjee & Lavie 2005 in greedy order; NLTK's
    alignment pairs words from the right and does not search for the one with the fewest chunks.
    """
    wanted = split_tokens(target)
    if not wanted:
        return None
    return float(
        single_meteor_score(wanted, split_tokens(completion), stemmer=build_stemmer(), wordnet=thesaurus)
    )
