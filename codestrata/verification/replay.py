"""The predictions of a run once more, from the components in its files and in the batches of the run.

A component's answers to a split are decoded once and held against every file that claims them.

What this does not do: decode in a way of its own (``experiment.cells`` does), score, or train.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Literal

from codestrata.answering import read_own_settings
from codestrata.contracts import Component
from codestrata.controls import CONTROLS, predict_control
from codestrata.errors import ComponentError, DataError, RunError, SettingsError
from codestrata.experiment.canaries import choose_canaries, keep_canaries, name_canary_folder
from codestrata.experiment.cells import answer_examples, equal_answers
from codestrata.experiment.probes import shift_seed
from codestrata.lab import Lab, list_splits
from codestrata.methods import Method, build_component
from codestrata.records import Example, Prediction, SplitName, Task
from codestrata.results.rechecks import choose_recheck
from codestrata.settings.sections import DecodingSettings
from codestrata.verification.checks import Check, find_different_answer
from codestrata.verification.claims import Case, CellClaim, Owner, find_owner
from codestrata.verification.routed import compare_routed_walk, cut_samples
from codestrata.verification.trained import find_answering_folder

Manner = Literal["plain", "row", "canaries", "shifted", "routed"]
"""How a run decoded something: ``plain`` as the base and in X; in a ``row`` of R the canaries by themselves,
and the base was asked; the ``canaries`` alone; with draws from a ``shifted`` seed for the noise floor; the
examples that were ``routed`` to a component of another task, by themselves."""
NAMES = ("stored", "decoded now")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Stored answers that a model state must give again; ``owner`` is ``None`` for the bare base.

    ``about`` says which they are; ``folder`` is where they lie, inside the run. ``positions`` are the
    examples of the split that were asked, by themselves; ``None``: all.
    """

    owner: Owner | None
    manner: Manner
    task: str
    split: SplitName
    folder: str
    about: str
    positions: tuple[int, ...] | None = None


def list_questions(case: Case) -> list[Question]:
    """All stored answers of models, those of one component together, the base's first."""
    asked = [] if case.order else [*list_base_questions(case)]
    for method in case.trained:
        for seed in case.settings.seeds:
            asked += list_walk_questions(case, method.name, seed)
    owners = list(dict.fromkeys(question.owner for question in asked))
    return sorted(asked, key=lambda question: owners.index(question.owner))


def list_base_questions(case: Case) -> Iterator[Question]:
    """What the bare base was asked: row 0, and of the noise floor what no component answered."""
    for cell in case.claims.base.cells:
        yield build_question(None, "plain", cell, "base")
    for entry in case.claims.noise_floor.entries:
        if entry.seed is None:
            yield build_question(None, "shifted", entry.second, "base, once more")


def list_walk_questions(case: Case, name: str, seed: int) -> Iterator[Question]:
    """What a method's components with a seed were asked: for R, X, as canaries, for the noise floor."""
    method = next(entry for entry in case.methods if entry.name == name)
    walk = case.walks.get((name, seed))
    if walk is None:
        return
    about = f"{name}, seed {seed}" + (f", order {case.order}" if case.order else "")
    if method.selection == "routed":
        for answers in compare_routed_walk(case, name, walk).foreign:
            asked = build_question(answers.owner, "routed", answers.cell, about)
            yield replace(asked, positions=answers.positions)
    for cell in (*walk.cells, *walk.oracle_cells):
        owner = find_owner(method, seed, cell, case.task_names)
        if owner is None:
            continue
        if cell.origin in ("decoded", "rechecked"):
            yield build_question(owner, "row", cell, about)
        elif cell.origin == "canary":
            yield Question(
                owner=owner,
                manner="canaries",
                task=cell.task,
                split=cell.split,
                folder=name_canary_folder(*owner.place, case.order),
                about=f"{about}, {cell.place}, canaries",
            )
    for cell in walk.transfer.cells:
        owner = find_owner(method, seed, cell, case.task_names, is_transfer=True)
        if owner is not None:
            yield build_question(owner, "plain", cell, f"{about}, component {owner.task}")
    for entry in () if case.order else case.claims.noise_floor.entries:
        is_own = (entry.method, entry.seed) == (name, seed) and entry.second.folder.startswith("noise/")
        owner = find_owner(method, seed, entry.second, case.task_names) if is_own else None
        if owner is not None:
            yield build_question(owner, "shifted", entry.second, f"{about}, once more")


def build_question(owner: Owner | None, manner: Manner, cell: CellClaim, about: str) -> Question:
    """The question whose answers a cell tells of."""
    return Question(
        owner=owner,
        manner=manner,
        task=cell.task,
        split=cell.split,
        folder=cell.folder,
        about=f"{about}, {cell.place}",
    )


class Respondent:
    """The base, bare or with the component that is active on it: what it answers, each split once.

    Attributes:
        done: how many predictions the watcher was told of; those of earlier respondents count.
        knows_training: whether the data are here on which the component was trained, so that it can be said
            which answers repeat them.
    """

    def __init__(
        self,
        lab: Lab,
        component: Component | None,
        *,
        has_canaries: bool,
        done: int,
        trained_on: Sequence[Task] | None = (),
    ) -> None:
        self.done = done
        self.knows_training = trained_on is not None
        self._lab, self._component, self._has_canaries = lab, component, has_canaries
        self._trained_on = trained_on or ()
        self._tasks = {task.name: task for task in lab.tasks}
        self._known: dict[tuple[Manner, str, SplitName], tuple[Prediction, ...]] = {}

    def answer(
        self, manner: Manner, task: str, split: SplitName, positions: Sequence[int] | None = None
    ) -> tuple[Prediction, ...]:
        """The predictions that the run must hold for this; as ``experiment`` keeps them, ranks included."""
        if positions is not None:
            examples = list_splits(self._tasks[task])[split]
            lab = self._lab
            return self._decode(
                self._tasks[task],
                [examples[place] for place in positions],
                lab.settings.decoding,
                compared=self._component if lab.settings.measurement.agreement else None,
                trained_on=self._trained_on,
            )
        key = (manner, task, split)
        if key not in self._known:
            self._known[key] = self._work_out(manner, self._tasks[task], split)
        return self._known[key]

    def _work_out(self, manner: Manner, task: Task, split: SplitName) -> tuple[Prediction, ...]:
        measurement, decoding = self._lab.settings.measurement, self._lab.settings.decoding
        examples = list_splits(task)[split]
        decode = partial(self._decode, task)
        if manner == "plain":
            return decode(examples, decoding)
        if manner == "row":
            apart: tuple[int, ...] = ()
            if self._has_canaries and split == "test":
                apart = choose_canaries(len(examples), measurement.canary_examples)
            compared = self._component if measurement.agreement else None
            return decode(examples, decoding, apart=apart, compared=compared, trained_on=self._trained_on)
        before = self.answer(find_first_manner(self._component is None), task.name, split)
        if manner == "shifted":
            again = decode(examples, shift_seed(decoding))
        else:
            before = keep_canaries(before, measurement.canary_examples, decoding.samples)
            chosen = choose_canaries(len(examples), measurement.canary_examples)
            again = decode([examples[place] for place in chosen], decoding)
        # As the run does: where the answers are the same, the first ones stand for both, with their ranks.
        return before if equal_answers(before, again) else again

    def _decode(
        self,
        task: Task,
        examples: Sequence[Example],
        decoding: DecodingSettings,
        *,
        apart: Sequence[int] = (),
        compared: Component | None = None,
        trained_on: Sequence[Task] = (),
    ) -> tuple[Prediction, ...]:
        found = answer_examples(
            self._lab,
            examples,
            decoding,
            task.name,
            apart=apart,
            compared=compared,
            trained_on=trained_on,
            done=self.done,
        )
        self.done += len(found)
        return found


def find_first_manner(is_bare: bool) -> Manner:
    """How a model state was first asked what it was then asked again."""
    return "plain" if is_bare else "row"


def count_decodings(lab: Lab, questions: Sequence[Question]) -> int:
    """How many predictions are decoded for these questions, each split once for a model state and manner."""
    asked = {
        (question.owner, question.manner, question.task, question.split)
        for question in questions
        if question.positions is None
    }
    asked |= {
        (owner, find_first_manner(owner is None), task, split)
        for owner, manner, task, split in asked
        if manner in ("canaries", "shifted")
    }
    sizes = {(task.name, split): len(part) for task in lab.tasks for split, part in list_splits(task).items()}
    wanted = lab.settings.measurement.canary_examples
    counts = [
        min(sizes[task, split], wanted) if manner == "canaries" else sizes[task, split]
        for _, manner, task, split in asked
    ]
    counts += [len(question.positions) for question in questions if question.positions is not None]
    return sum(counts) * lab.settings.decoding.samples


@dataclass(frozen=True)
class Group:
    """What came of the questions to one model state: stored predictions compared, what differs, and ``done``.

    ``own`` is the first difference in answers to the component's own task; ``is_own_asked``: whether there
    were such answers to compare.
    """

    compared: int
    differences: tuple[str, ...]
    done: int
    own: str | None
    is_own_asked: bool


def check_predictions(case: Case, lab: Lab, notes: Sequence[str]) -> tuple[Check, dict[Owner, str | None]]:
    """Every stored prediction against what the models answer now; and what became of each component's own.

    ``lab`` holds the tasks whose data are still the same; the others' answers are not checked. The second
    part is the first difference in a component's answers to its own task, ``None`` where there is none.
    """
    questions = list_questions(case)
    loaded = {(task.name, split) for task in lab.tasks for split in list_splits(task)}
    asked = [question for question in questions if (question.task, question.split) in loaded]
    skipped = sorted({f"{question.task}, {question.split}" for question in set(questions).difference(asked)})
    lab.progress.start("decode all predictions again", count_decodings(lab, asked))
    differences: list[str] = []
    of_owners: dict[Owner, str | None] = {}
    count = done = 0
    for owner, of_owner in groupby(asked, key=lambda question: question.owner):
        group = compare_group(case, lab, owner, list(of_owner), done)
        count, done = count + group.compared, group.done
        differences += group.differences
        if owner is not None and group.is_own_asked:
            of_owners[owner] = group.own
    compared, faults = (0, list[str]()) if case.order else compare_controls(case, lab)
    check = Check(
        subject="predictions",
        about="every stored prediction against what base, components and controls answer now",
        count=count + compared,
        differences=(*differences, *faults),
        unchecked=tuple(f"answers to {name}: its data are not here as they were" for name in skipped),
        notes=tuple(notes),
    )
    return check, of_owners


def compare_group(
    case: Case, lab: Lab, owner: Owner | None, questions: Sequence[Question], done: int
) -> Group:
    """What came of the questions to one model state; its component is loaded for them."""
    if owner is None:
        return compare_questions(case, Respondent(lab, None, has_canaries=False, done=done), questions)
    method = next(entry for entry in case.trained if entry.name == owner.method)
    try:
        folder = case.run.inside(find_answering_folder(case, method, owner))
        component = build_component(method, lab.base, read_own_settings(folder, method, lab.settings))
        component.load(owner.task, folder)
        if owner.part is not None:
            later = case.run.task_folder(owner.method, owner.seed, owner.part, case.order)
            component.load(owner.part, case.run.inside(later))
    except (ComponentError, RunError, SettingsError) as error:
        fault = f"{owner}: it cannot answer: {error}"
        return Group(0, (fault,), done, fault, is_own_asked=True)
    component.activate(owner.task)
    try:
        has_canaries = method.has_component_per_task and choose_recheck(lab.settings) == "canary"
        respondent = Respondent(
            lab,
            component,
            has_canaries=has_canaries,
            done=done,
            trained_on=find_training_tasks(case, lab, method, owner),
        )
        return compare_questions(case, respondent, questions)
    finally:
        for name in component.names:
            component.detach(name)


def find_training_tasks(case: Case, lab: Lab, method: Method, owner: Owner) -> list[Task] | None:
    """The tasks on which what answers for an owner was trained; ``None`` where data of one are not here."""
    names = list_training_names(case.task_names, method, owner)
    found = [task for task in lab.tasks if task.name in names]
    return found if len(found) == len(names) else None


def list_training_names(names: Sequence[str], method: Method, owner: Owner) -> set[str]:
    """The names of those tasks, out of all in the order they came, as ``experiment.rows`` lists them."""
    if method.has_component_per_task and method.selection != "merged" and method.schedule != "warm":
        return {owner.task, names[0]} if method.schedule == "kept" else {owner.task}
    return set(names[: 1 + names.index(owner.part or owner.task)])


def compare_questions(case: Case, respondent: Respondent, questions: Sequence[Question]) -> Group:
    """The stored predictions that questions are about, compared with what a model answers now."""
    count, faults, own = 0, list[str](), list[str | None]()
    for question in questions:
        found = respondent.answer(question.manner, question.task, question.split, question.positions)
        compared, fault = compare_stored(
            case,
            question.folder,
            question.task,
            question.split,
            found,
            question.positions,
            knows_training=respondent.knows_training,
        )
        count += compared
        said = None if fault is None else f"{question.about}: {fault}"
        if said is not None:
            faults.append(said)
        if question.owner is not None and question.task == question.owner.task:
            own.append(said)
    first = next(filter(None, own), None)
    return Group(count, tuple(faults), respondent.done, first, is_own_asked=bool(own))


def compare_stored(
    case: Case,
    folder: str,
    task: str,
    split: str,
    found: Sequence[Prediction],
    positions: Sequence[int] | None = None,
    *,
    knows_training: bool = True,
) -> tuple[int, str | None]:
    """How many stored predictions of a split were compared with what was found now; the first difference.

    Of the examples at ``positions`` alone, if they are given; but for what they repeat, where the training
    data are not here.
    """
    try:
        stored = case.read_answers(folder, task, split)
    except (DataError, RunError) as error:
        return 0, str(error)
    if positions is not None:
        samples = cut_samples(stored, case.settings.decoding.samples)
        stored = tuple(prediction for place in positions for prediction in samples[place])
    if not knows_training:
        stored, found = forget_repetition(stored), forget_repetition(found)
    return len(stored), find_different_answer(stored, found, NAMES)


def forget_repetition(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """The predictions without what they say of repeated training text."""
    return tuple(replace(entry, repeats=None, target_repeats=None) for entry in predictions)


def compare_controls(case: Case, lab: Lab) -> tuple[int, list[str]]:
    """How many answers that need no model were compared with what they are now, and what differs."""
    lab.progress.start("answers without a model", len(CONTROLS))
    count, faults = 0, []
    for number, control in enumerate(CONTROLS, start=1):
        for task in lab.tasks:
            for split, examples in list_splits(task).items():
                found = predict_control(control, task.train, examples, lab.settings.decoding.samples)
                folder = f"controls/{control.name}"
                compared, fault = compare_stored(case, folder, task.name, split, found)
                count += compared
                if fault is not None:
                    faults.append(f"control {control.name}, {task.name}, {split}: {fault}")
        lab.progress.advance(number)
    return count, faults
