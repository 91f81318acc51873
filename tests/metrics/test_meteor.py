import gc
import itertools
import random
import re
import shutil
import time
import warnings

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from codestrata.metrics.meteor import (
    LONGEST_STEMMED,
    METRICS,
    NoSynonyms,
    build_stemmer,
    compute_meteor,
    find_wordnet,
    load_wordnet,
    score_meteor_exact_stem,
    score_meteor_exact_stem_wordnet,
)
from codestrata.records import Prediction

WORDS = "return returns the list lists item Items of = ( ) x y_1 42 é 😀 counting counts count number".split()

STEMMER = PorterStemmer()

NUMBER = ("returns the number of elements in the collection", "return the count of items in the collection")

any_text = st.one_of(
    st.text(st.one_of(st.characters(), st.sampled_from("ab1 _.,\n\u0301😀\0\ud800")), max_size=30),
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
)

# (part of speech, words that mean the same) of the tiny WordNet of these tests; "give_back" may not match.
SYNONYMS = [
    ("noun", ["number", "count"]),
    ("noun", ["list", "listing"]),
    ("noun", ["number", "figure", "digit"]),
    ("verb", ["return", "give_back", "yield"]),
    ("adj", ["quick", "fast"]),
]


def pair(completion, target):
    return Prediction(identifier="p", prompt="", target=target, completion=completion)


def score_one(completion, target):
    return score_meteor_exact_stem([pair(completion, target)]).value


def write_wordnet(folder):
    """A WordNet of ``SYNONYMS`` in the format of its database files."""
    folder.mkdir(parents=True, mode=0o755)
    header = "  1 This is a test's own file in the format of WordNet 3.0 Copyright nobody.  \n"
    offsets = {}
    for kind, letter in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
        lines, position = [header], len(header)
        for words in (words for place, words in SYNONYMS if place == kind):
            named = " ".join(f"{word} 0" for word in words)
            lines.append(f"{position:08d} 00 {letter} {len(words):02x} {named} 000 | a meaning  \n")
            for word in words:
                offsets.setdefault((kind, word), []).append(f"{position:08d}")
            position += len(lines[-1])
        (folder / f"data.{kind}").write_text("".join(lines), encoding="ascii")
        index = [
            f"{word} {letter} {len(found)} 0 {len(found)} 0 {' '.join(found)}  \n"
            for (place, word), found in sorted(offsets.items())
            if place == kind
        ]
        (folder / f"index.{kind}").write_text(header + "".join(index), encoding="ascii")
        (folder / f"{kind}.exc").write_text("", encoding="ascii")
    (folder / "lexnames").write_text("00\tall\t1\n", encoding="ascii")
    for name in ("index.sense", "cntlist.rev"):
        (folder / name).write_text("", encoding="ascii")
    for file in folder.iterdir():
        file.chmod(0o644)  # NLTK refuses data that others may write


def forget_wordnet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # NLTK leaves its data files open
        load_wordnet.cache_clear()
        gc.collect()


@pytest.fixture
def fresh_wordnet():
    """No WordNet is loaded, before and after."""
    load_wordnet.cache_clear()
    yield
    forget_wordnet()


@pytest.fixture
def wordnet_folder(tmp_path, monkeypatch, fresh_wordnet):
    """Where the tiny WordNet lies, NLTK's only data."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    (tmp_path / "corpora").mkdir(mode=0o755)
    write_wordnet(tmp_path / "corpora" / "wordnet")
    return tmp_path / "corpora" / "wordnet"


@pytest.mark.parametrize(
    ("completion", "target", "expected"),
    [
        # 6 of 7 and 7 words in 3 runs: returns / the / of ... in the collection, elements and items apart.
        (*NUMBER, 0.703125),
        ("x", "x", 0.5),
        ("a b", "a b", 1 - 0.5 / 8),
        ("c=a+b", "c = a + b", 1 - 0.5 / 125),
        ("a b c", "x y z", 0),
        ("", "a", 0),
        ("a", "b", 0),
        ("Return X", "return x", 1 - 0.5 / 8),
        ("counting", "counts", 0.5),
        ("b a", "a b", 0.5),
        # P = 2/4, R = 1, one run; the other way round P = 1, R = 2/4.
        ("a b c d", "a b", (1 - 0.5 / 8) * 0.5 / (0.9 * 0.5 + 0.1)),
        ("a b", "a b c d", (1 - 0.5 / 8) * 0.5 / (0.9 + 0.1 * 0.5)),
        # Two runs of two words: P = 1, R = 2/3.
        ("the cat", "the dog cat", 0.5 * (2 / 3) / (0.9 + 0.1 * 2 / 3)),
        # Paired from the right, so that the second "the" stands beside "cat": one run.
        ("the the cat", "the cat", (1 - 0.5 / 8) * (2 / 3) / (0.9 * 2 / 3 + 0.1)),
        # Exact pairs come before stems: "items" pairs with itself and leaves "item" for "items" on the left.
        ("items item", "item items", 0.5),
        ("é 😀", "é😀", 1 - 0.5 / 8),
        ("foo_bar", "foo bar", 0),
    ],
)
def test_by_hand(completion, target, expected):
    assert score_one(completion, target) == pytest.approx(expected, abs=1e-12)


def match_left(hypothesis, reference, read):
    """Pairs of indices whose words read alike, both sides from the right; they are taken off both sides."""
    pairs = []
    for place in sorted(hypothesis, reverse=True):
        others = [other for other in reference if read(reference[other]) == read(hypothesis[place])]
        if others:
            pairs.append((place, max(others)))
            del reference[max(others)]
    for place, _ in pairs:
        del hypothesis[place]
    return pairs


def compute_slowly(completion, target):
    """METEOR from the definition, with NLTK's stemmer only."""
    hypothesis, reference = (
        dict(enumerate(word.lower() for word in re.findall(r"\w+|[^\w\s]", text)))
        for text in (completion, target)
    )
    sizes = len(hypothesis), len(reference)
    pairs = match_left(hypothesis, reference, str)
    pairs += match_left(hypothesis, reference, STEMMER.stem)
    if not pairs:
        return 0.0
    pairs.sort()
    steps = [(right[0] - left[0], right[1] - left[1]) for left, right in itertools.pairwise(pairs)]
    chunks = 1 + sum(step != (1, 1) for step in steps)
    precision, recall = len(pairs) / sizes[0], len(pairs) / sizes[1]
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    return (1 - 0.5 * (chunks / len(pairs)) ** 3) * mean


def draw_pairs(seed, count):
    generator = random.Random(seed)
    for _ in range(count):
        target = generator.choices(WORDS, k=generator.randrange(1, 14))
        completion = [word for word in target if generator.random() < 0.7]
        completion += generator.choices(WORDS, k=generator.randrange(4))
        if generator.random() < 0.3:
            generator.shuffle(completion)
        yield " ".join(completion), " ".join(target)


def test_thousands_of_pairs_against_nltk():
    pairs = list(draw_pairs(0, 3_000))
    score = score_meteor_exact_stem([pair(*texts) for texts in pairs])
    split = re.compile(r"\w+|[^\w\s]").findall
    expected = [
        single_meteor_score(split(target), split(completion), wordnet=NoSynonyms())
        for completion, target in pairs
    ]
    assert list(score.per_example) == expected
    assert score.value == pytest.approx(sum(expected) / 3_000, abs=1e-12)
    assert 0.3 < score.value < 0.9
    assert score.reason is None
    assert score.statistics is None


def test_a_thousand_pairs_against_the_definition():
    for completion, target in draw_pairs(1, 1_000):
        assert score_one(completion, target) == pytest.approx(compute_slowly(completion, target), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(any_text, any_text)
def test_any_pair_against_the_definition(completion, target):
    value = compute_meteor(completion, target, NoSynonyms())
    if value is None:
        assert re.findall(r"\S", target) == []
    else:
        assert 0 <= value < 1
        assert value == pytest.approx(compute_slowly(completion, target), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(any_text)
def test_equal_texts_score_all_but_the_penalty_of_one_run(text):
    tokens = len(re.findall(r"\w+|[^\w\s]", text))
    value = compute_meteor(text, text, NoSynonyms())
    assert value == (pytest.approx(1 - 0.5 / tokens**3, abs=1e-12) if tokens else None)


def test_targets_without_a_token_are_left_out_and_counted():
    score = score_meteor_exact_stem([pair("a b", "a b"), pair("a", " \n"), pair("", "")])
    assert score.value == 0.9375
    assert score.per_example == (0.9375, None, None)
    assert score.statistics == ((0.9375, 1.0), (0.0, 0.0), (0.0, 0.0))
    assert (score.n, score.aggregate) == (1, "mean")
    assert score.reason == "2 of 3 targets have no token and are left out"
    score = score_meteor_exact_stem([pair("a", "")])
    assert (score.value, score.n, score.reason) == (None, 0, "no target has a token")


def test_no_predictions_are_no_score():
    score = score_meteor_exact_stem([])
    assert (score.value, score.n, score.reason) == (None, 0, "no predictions")


def test_the_variant_says_what_was_computed():
    score = score_meteor_exact_stem([pair("a", "a")])
    expected = r", METEOR 1.0 (alpha 0.9, beta 3, gamma 0.5), exact+stem, tokens \w+|[^\w\s]"
    assert score.variant == f"nltk {nltk.__version__}{expected}"
    assert [metric.name for metric in METRICS] == ["meteor_exact_stem", "meteor_exact_stem_wordnet"]
    assert score.metric == METRICS[0].name


def test_long_words_are_their_own_stems():
    stemmer = build_stemmer()
    assert stemmer.stem("returned") == "return"
    longest = "a" * (LONGEST_STEMMED - 4) + "ings"
    assert stemmer.stem(longest) == STEMMER.stem(longest) != longest
    assert stemmer.stem("a" + longest) == "a" + longest


@pytest.mark.parametrize(
    ("completion", "target"),
    [
        ("y" * 100_000, "y" * 99_998 + "es"),
        ("x = 1 + y\n" * 10_000, "x = 2 + y\n" * 10_000),
        (" ".join(f"w{i}ings" for i in range(11_000)), " ".join(f"v{i}ing" for i in range(11_000))),
        (" ".join(f"w{i}" for i in range(15_000)), " ".join(f"w{i}" for i in range(15_000, 0, -1))),
    ],
)
def test_texts_of_100_kb_take_seconds(completion, target):
    start = time.process_time()
    assert 0 <= score_one(completion, target) < 1
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("completion", "target", "expected"),
    [
        # number and count are a seventh match: returns the number of / in the collection.
        (*NUMBER, 0.864795918367347),
        ("number", "count", 0.5),
        ("numbers", "counted", 0.5),
        ("figure", "number", 0),  # the scorer looks stems up, and WordNet has no "figur"
        ("count", "digit", 0),  # no set of synonyms has both
        ("quick", "fast", 0.5),
        ("yields", "return", 0.5),
        ("give", "return", 0),  # of "give_back" nothing matches
        ("listing", "list", 0.5),
        ("number x", "count y", 0.5 * 0.5),
        ("zebra", "horse", 0),
    ],
)
def test_with_synonyms_by_hand(wordnet_folder, completion, target, expected):
    score = score_meteor_exact_stem_wordnet([pair(completion, target)])
    assert score.value == pytest.approx(expected, abs=1e-12)
    assert (score.metric, score.reason) == ("meteor_exact_stem_wordnet", None)
    assert "exact+stem+WordNet 3.0" in score.variant


def test_random_pairs_with_synonyms_against_nltk(wordnet_folder):
    predictions = [pair(*texts) for texts in draw_pairs(2, 500)]
    with_synonyms = score_meteor_exact_stem_wordnet(predictions)
    split = re.compile(r"\w+|[^\w\s]").findall
    reader = nltk.corpus.util.LazyCorpusLoader("wordnet", nltk.corpus.reader.WordNetCorpusReader, object())
    expected = [
        single_meteor_score(split(prediction.target), split(prediction.completion), wordnet=reader)
        for prediction in predictions
    ]
    assert list(with_synonyms.per_example) == expected
    assert with_synonyms.per_example != score_meteor_exact_stem(predictions).per_example


def test_zipped_wordnet_is_found(wordnet_folder):
    shutil.make_archive(str(wordnet_folder), "zip", wordnet_folder.parent, "wordnet")
    wordnet_folder.with_suffix(".zip").chmod(0o644)
    shutil.rmtree(wordnet_folder)
    assert score_meteor_exact_stem_wordnet([pair("number", "count")]).value == 0.5


def test_without_wordnet_the_value_is_unknown_and_the_reason_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    score = score_meteor_exact_stem_wordnet([pair("number", "count")] * 3)
    assert (score.value, score.n, score.per_example) == (None, 3, None)
    assert score.reason == "NLTK's WordNet data is not installed (python -m nltk.downloader wordnet)"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "lexnames").unlink(), "lexnames"),
        (lambda folder: (folder / "index.noun").write_text("number n two\n"), "index.noun"),
        (lambda folder: (folder / "data.noun").write_text("\n" * 300), "no entry of 'number'"),
    ],
)
@pytest.mark.filterwarnings("ignore:No WordNet synset found")
def test_damaged_wordnet_is_told(wordnet_folder, damage, expected):
    damage(wordnet_folder)
    score = score_meteor_exact_stem_wordnet([pair("number", "count")])
    assert (score.value, score.n) == (None, 1)
    assert score.reason.startswith("NLTK's WordNet data is damaged, install it again: ")
    assert expected in score.reason


def test_real_wordnet(fresh_wordnet):
    if find_wordnet() is None:
        pytest.skip("NLTK's WordNet data is not installed")
    score = score_meteor_exact_stem_wordnet([pair(*NUMBER)])
    assert score.value == pytest.approx(0.864795918367347, abs=1e-12)
