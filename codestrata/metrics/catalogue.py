"""All metrics: what each of them is, and all of them over the predictions of one task.

What this does not do: compute any metric itself, or put intervals on them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from codestrata.metrics import agreement, code, codebleu, codexglue, meteor, text, trees
from codestrata.metrics.execution import describe_pass_rate, score_pass_rate
from codestrata.records import Metric, Prediction, Score
from codestrata.settings.sections import ExecutionSettings, MeasurementSettings


def list_metrics(measurement: MeasurementSettings) -> tuple[Metric, ...]:
    """Every metric of a run, in the order of its tables."""
    return (
        *(describe_pass_rate(k) for k in measurement.pass_k),
        *text.METRICS,
        *codexglue.METRICS,
        *meteor.METRICS,
        *code.METRICS,
        *codebleu.METRICS,
        *trees.METRICS,
        *agreement.METRICS,
    )


def score(
    predictions: Sequence[Prediction],
    language: str,
    execution: ExecutionSettings,
    measurement: MeasurementSettings,
) -> tuple[Score, ...]:
    """Every metric over the predictions of one task, from the predictions alone.

    pass@k takes all samples of an example; every other metric looks at the first.

    Raises: ExecutionError: the language's programs can be run, but not under these limits.
    """
    first = [prediction for prediction in predictions if prediction.sample == 0]
    # Programs run in processes of their own, while this one compares texts.
    with ThreadPoolExecutor(1) as pool:
        rates = pool.submit(score_pass_rate, predictions, language, execution, measurement.pass_k)
        by_name = {found.metric: found for found in score_texts(first, language, measurement)}
        by_name |= {found.metric: found for found in rates.result()}
    return tuple(by_name[metric.name] for metric in list_metrics(measurement))


def score_texts(
    first: Sequence[Prediction], language: str, measurement: MeasurementSettings
) -> tuple[Score, ...]:
    """Every metric that runs nothing."""
    return (
        text.score_exact_match(first),
        text.score_edit_similarity(first),
        text.score_bleu(first),
        text.score_chrf(first),
        text.score_length_ratio(first),
        codexglue.score_bleu_codexglue(first),
        meteor.score_meteor_exact_stem(first),
        meteor.score_meteor_exact_stem_wordnet(first),
        code.score_syntax_pass(first, language),
        code.score_complexity(first, language),
        *codebleu.score_codebleu(first, language),
        trees.score_ast_similarity(first, language, tree_nodes=measurement.tree_nodes),
        trees.score_ast_nodes_jaccard(first, language),
        *agreement.score_agreement(first),
    )
