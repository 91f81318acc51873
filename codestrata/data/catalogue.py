"""The one table of the sources that tasks can be made of, and what is known about each.

What this does not do: read, fetch or check anything; a loader is imported where it is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from codestrata.errors import SettingsError, describe_unknown
from codestrata.settings.tasks import OBJECTIVES, Objective, Source, TaskSettings

TEST_ONLY: tuple[Source, ...] = ("humaneval", "humaneval-x", "humanevalpack")
"""Sources without a training part: they serve as ``test_source`` of another one."""
SIX = ("go", "java", "javascript", "php", "python", "ruby")


@dataclass(frozen=True, slots=True)
class Size:
    """How many records a data set holds, of one language in one of its own splits."""

    language: str
    split: str
    records: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HubPlace:
    """Where a data set lies on the model hub.

    ``configs`` maps a language to what the hub calls its part. Where the hub keeps the original files,
    ``file`` is the path of one, with ``{}`` for that name; else the hub's own tables are read, where
    ``folder`` says so from the folder of that name. ``revision`` is a branch or commit; ``None`` takes the
    default branch.
    """

    name: str
    configs: Mapping[str, str | None]
    file: str | None = None
    folder: bool = False
    revision: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A source of tasks, with all that a reader needs to know before taking it.

    ``license`` is an SPDX identifier, ``None`` with the reason in ``license_note``. ``sizes`` are those of
    the published data set; ``version`` is what its makers call it. ``files`` maps the names of its original
    files to their SHA-256 where they are known here, and ``files_note`` says of which they are not.
    ``languages`` is empty where any will do. ``is_executable``: its tests can be run. ``loader`` is
    ``module:function``.
    """

    name: Source
    what: str
    languages: tuple[str, ...]
    license: str | None
    license_note: str | None = None
    version: str | None = None
    sizes: tuple[Size, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    files_note: str | None = None
    url: str | None = None
    paper: str | None = None
    hub: HubPlace | None = None
    hub_note: str | None = None
    loader: str
    is_executable: bool = False
    notes: tuple[str, ...] = ()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What may be asked of its records."""
        return OBJECTIVES.get(self.name, ("generate",))

    @property
    def records(self) -> int | None:
        """How many records it holds in all; ``None`` where that depends on the user's files."""
        return sum(size.records for size in self.sizes) or None


def list_sizes(language: str, **records: int) -> tuple[Size, ...]:
    """The sizes of a language's splits."""
    return tuple(Size(language, split, count) for split, count in records.items())


NOT_HERE = "the original files were not at hand when this table was made"
CODEXGLUE = "https://github.com/microsoft/CodeXGLUE"
C_UDA = "C-UDA-1.0"

CATALOGUE: tuple[DataSet, ...] = (
    DataSet(
        name="kata",
        what="generated programming problems with tests; made on the spot, as many as are asked for",
        languages=("python", "javascript", "lua"),
        license="Apache-2.0",
        files_note="there are no files: the seed decides what is made",
        hub_note="needs no hub",
        loader="codestrata.data.kata.problems:load_kata",
        is_executable=True,
    ),
    DataSet(
        name="codesearchnet",
        what="functions of public repositories with their documentation",
        languages=SIX,
        license=None,
        license_note="every record is under the licence of its repository",
        version="1 (2019)",
        sizes=(
            *list_sizes("go", train=317832, validation=14242, test=14291),
            *list_sizes("java", train=454451, validation=15328, test=26909),
            *list_sizes("javascript", train=123889, validation=8253, test=6483),
            *list_sizes("php", train=523712, validation=26015, test=28391),
            *list_sizes("python", train=412178, validation=23107, test=22176),
            *list_sizes("ruby", train=48791, validation=2209, test=2279),
        ),
        files_note=NOT_HERE,
        url="https://github.com/github/CodeSearchNet",
        paper="Husain et al. 2019, arXiv:1909.09436",
        hub=HubPlace(
            name="code-search-net/code_search_net",
            configs={language: language for language in SIX},
        ),
        loader="codestrata.data.codesearchnet:load_functions",
    ),
    DataSet(
        name="mined",
        what="documented functions of one's own source trees, as codestrata mine finds them",
        languages=("python", "javascript", "typescript", "java", "go", "php", "ruby"),
        license=None,
        license_note="every record is under the licence of its tree, recorded where it was found",
        files_note="the files are the user's",
        hub_note="needs no hub",
        loader="codestrata.data.mined:load_mined_functions",
    ),
    DataSet(
        name="file",
        what="one's own prompts and targets, with tests where there are some",
        languages=(),
        license=None,
        license_note="the user's; a column may name it record by record",
        files_note="the files are the user's",
        hub_note="needs no hub",
        loader="codestrata.data.tables:load_table",
        is_executable=True,
    ),
    DataSet(
        name="mbpp",
        what="short Python problems in one sentence, with three assertions each",
        languages=("python",),
        license="CC-BY-4.0",
        version="2021",
        sizes=list_sizes("python", prompt=10, test=500, validation=90, train=374),
        files_note=NOT_HERE,
        url="https://github.com/google-research/google-research/tree/master/mbpp",
        paper="Austin et al. 2021, arXiv:2108.07732",
        hub=HubPlace(name="google-research-datasets/mbpp", configs={"python": "full"}),
        loader="codestrata.data.benchmarks:load_benchmark",
        is_executable=True,
        notes=(
            "sanitized-mbpp.json (427 problems) is read too",
            "the prompt is the sentence and the assertions, as in the paper: else no name is known",
        ),
    ),
    DataSet(
        name="mbxp",
        what="MBPP as heads of functions with examples in their documentation, in Python and JavaScript",
        languages=("python", "javascript"),
        license="CC-BY-4.0",
        license_note="of the data; the evaluation code beside it, and the hub's card, say Apache-2.0",
        version="mbpp_release_v1, mbjsp_release_v1.2",
        sizes=(
            *list_sizes("python", prompt=10, test=500, validation=90, train=374),
            *list_sizes("javascript", prompt=10, test=498, validation=87, train=371),
        ),
        files={
            "mbpp_release_v1.jsonl": "2ea7949f20ed5ecaacf4c9970d29430ec3f13772f4dd379665b1234f14b0ec3e",
            "mbjsp_release_v1.2.jsonl": "9e443a1911bcedd8b5193f43d3217666fbf669cd00d54265941a8eb17e396f5a",
        },
        url="https://github.com/amazon-science/mxeval/tree/main/data/mbxp",
        paper="Athiwaratkun et al. 2023, arXiv:2210.14868",
        hub=HubPlace(
            name="mxeval/mbxp",
            configs={"python": "python", "javascript": "javascript"},
            folder=True,
            revision="refs/convert/parquet",
        ),
        loader="codestrata.data.benchmarks:load_benchmark",
        is_executable=True,
        notes=("28 of the JavaScript problems have no solution: they are left out and counted",),
    ),
    DataSet(
        name="humaneval",
        what="164 heads of Python functions with documentation and tests",
        languages=("python",),
        license="MIT",
        version="2021",
        sizes=list_sizes("python", test=164),
        files_note=NOT_HERE,
        url="https://github.com/openai/human-eval",
        paper="Chen et al. 2021, arXiv:2107.03374",
        hub=HubPlace(name="openai/openai_humaneval", configs={"python": None}),
        loader="codestrata.data.benchmarks:load_benchmark",
        is_executable=True,
        notes=("has no training part: give it as test_source of another source",),
    ),
    DataSet(
        name="humaneval-x",
        what="HumanEval written again in other languages, Python and JavaScript of them here",
        languages=("python", "javascript"),
        license="Apache-2.0",
        version="2022",
        sizes=(*list_sizes("python", test=164), *list_sizes("javascript", test=164)),
        files_note=NOT_HERE,
        url="https://github.com/THUDM/CodeGeeX/tree/main/codegeex/benchmark/humaneval-x",
        paper="Zheng et al. 2023, arXiv:2303.17568",
        hub=HubPlace(
            name="THUDM/humaneval-x",
            configs={"python": "python", "javascript": "js"},
            file="data/{}/data/humaneval.jsonl",
            revision="afdb989127a0b35e178edce1770b049ff30729d6",
        ),
        loader="codestrata.data.benchmarks:load_benchmark",
        is_executable=True,
        notes=(
            "has no training part: give it as test_source of another source",
            "JavaScript/162 needs js-md5, a package that is not there: it is left out and counted",
        ),
    ),
    DataSet(
        name="humanevalpack",
        what="HumanEval with a broken version of every solution, Python and JavaScript of its languages here",
        languages=("python", "javascript"),
        license="MIT",
        version="2023",
        sizes=(*list_sizes("python", test=164), *list_sizes("javascript", test=164)),
        files_note=NOT_HERE,
        url="https://github.com/bigcode-project/octopack",
        paper="Muennighoff et al. 2023, arXiv:2308.07124",
        hub=HubPlace(
            name="bigcode/humanevalpack",
            configs={"python": "python", "javascript": "js"},
            file="data/{}/data/humanevalpack.jsonl",
            revision="7980d99405b56c9745d51040cabbd9e86a056397",
        ),
        loader="codestrata.data.benchmarks:load_benchmark",
        is_executable=True,
        notes=(
            "has no training part: give it as test_source of another source",
            "JavaScript/162 needs js-md5, a package that is not there: it is left out and counted",
        ),
    ),
    DataSet(
        name="concode",
        what="a sentence with the fields and methods around it -> a Java method; CodeTask-CL's first task",
        languages=("java",),
        license=C_UDA,
        version="CodeXGLUE, commit ac74a62",
        sizes=list_sizes("java", train=100000, validation=2000, test=2000),
        files={"dev.json": "cd4f91cfaa12a886a1d7acaf92eaf8ab066845c37a9221e56634d345958c922a"},
        files_note="of train.json and test.json they are not known here",
        url=f"{CODEXGLUE}/tree/main/Text-Code/text-to-code",
        paper="Iyer et al. 2018, arXiv:1808.09588; Lu et al. 2021, arXiv:2102.04664; Yadav et al. 2023, "
        "arXiv:2307.02435",
        hub=HubPlace(name="google/code_x_glue_tc_text_to_code", configs={"java": None}),
        loader="codestrata.data.codetask:load_codetask",
        notes=(
            "records without code, as in a test.json whose answers are held back, are left out and counted",
        ),
    ),
    DataSet(
        name="translate",
        what="a Java method -> the same in C#, or back (language = java); CodeTask-CL's second task",
        languages=("c_sharp", "java"),
        license=C_UDA,
        version="CodeXGLUE, commit ac74a62",
        sizes=list_sizes("c_sharp", train=10300, validation=500, test=1000),
        files={
            "train.java-cs.txt.java": "397c44e7a0ad250849231a3beeb255ea54078e1cb62cf13359893d474025cb90",
            "train.java-cs.txt.cs": "80013b5b5c7e973df52adec4944b895eaaee0944f09ab6179084631a15d36b7a",
            "valid.java-cs.txt.java": "5cf92447fd81e126c7d791527f71d16dbcb91d3aa4aafda5c7d9d5c30d75a204",
            "valid.java-cs.txt.cs": "513c430d61901a90895b22fb235c532dbdc26b84db9d825e1d04a5856a97aec1",
        },
        files_note="of the test files they are not known here",
        url=f"{CODEXGLUE}/tree/main/Code-Code/code-to-code-trans",
        paper="Lu et al. 2021, arXiv:2102.04664; Yadav et al. 2023, arXiv:2307.02435",
        hub=HubPlace(
            name="google/code_x_glue_cc_code_to_code_trans", configs={"c_sharp": None, "java": None}
        ),
        loader="codestrata.data.codetask:load_codetask",
        notes=("the pairs whose files are named above are 10,295 and 499: some were taken out since",),
    ),
    DataSet(
        name="refine",
        what="a Java method with a fault -> the mended method, names made plain; CodeTask-CL's fourth task",
        languages=("java",),
        license=C_UDA,
        version="CodeXGLUE, commit ac74a62",
        sizes=list_sizes("java", train=46680, validation=5835, test=5835),
        files={
            "valid.buggy-fixed.buggy": "e83a0c524cdce5a4492dfe0c9bc7d642aa5ed267ddbae5ffd1e563fe54cae6b8",
            "valid.buggy-fixed.fixed": "dc9c23594350988dcdaf456a1e8eea1dc86c81d1c0ff9985ff6d63d15196ffd2",
        },
        files_note="of the small set; of its other files, and of the medium set, they are not known here",
        url=f"{CODEXGLUE}/tree/main/Code-Code/code-refinement",
        paper="Tufano et al. 2019, arXiv:1812.08693; Lu et al. 2021, arXiv:2102.04664; Yadav et al. 2023, "
        "arXiv:2307.02435",
        hub=HubPlace(name="google/code_x_glue_cc_code_refinement", configs={"java": "small"}),
        loader="codestrata.data.codetask:load_codetask",
        notes=(
            "sizes are the small set's; the medium one (52,364, 6,546 and 6,545) is read from local files",
        ),
    ),
)


def find_data_set(name: str) -> DataSet:
    """The row of a name. Raises: SettingsError: there is none, with the nearest name."""
    for row in CATALOGUE:
        if row.name == name:
            return row
    raise SettingsError(describe_unknown("data set", name, [row.name for row in CATALOGUE]))


def refuse_training(settings: TaskSettings) -> None:
    """Refuse to train on a set that is made of tests only. Raises: SettingsError: this is one."""
    if settings.source in TEST_ONLY:
        raise SettingsError(
            f"tasks.source of task {settings.name!r} is {settings.source!r}, which has no training part. "
            f'Train on another source: source = "mined", test_source = "{settings.source}".'
        )


def resolve_loader(data_set: DataSet) -> Callable[..., Any]:
    """The function that loads a data set, imported now."""
    module, _, function = data_set.loader.partition(":")
    loader: Callable[..., Any] = getattr(import_module(module), function)
    return loader
