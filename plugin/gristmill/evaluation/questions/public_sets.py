"""Public sets by name, BEIR's and MTEB's retrieval sets: where their folders are looked for, and how they are fetched.

Nothing is downloaded here: such sets have gigabytes, licences, and mirrors of their own. What is missing is an error that
says what to fetch, and where to put it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from gristmill.evaluation import sets
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import shown

#: BEIR's own names of its archives.
BEIR: Final = (
    "arguana", "climate-fever", "cqadupstack", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "msmarco", "nfcorpus", "nq",
    "quora", "scidocs", "scifact", "trec-covid", "webis-touche2020",
)  # fmt: skip
#: C-MTEB's Chinese retrieval sets: their names on the hub.
C_MTEB: Final = {
    "t2retrieval": "C-MTEB/T2Retrieval",
    "mmarcoretrieval": "C-MTEB/MMarcoRetrieval",
    "duretrieval": "C-MTEB/DuRetrieval",
    "covidretrieval": "C-MTEB/CovidRetrieval",
    "cmedqaretrieval": "C-MTEB/CmedqaRetrieval",
    "ecomretrieval": "C-MTEB/EcomRetrieval",
    "medicalretrieval": "C-MTEB/MedicalRetrieval",
    "videoretrieval": "C-MTEB/VideoRetrieval",
}
_ARCHIVE = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"


def find_public_set(name: str, place: Path | None = None) -> Path:
    """The folder of a public set, in BEIR's form.

    Args:
        name: as BEIR or MTEB has it: `scifact`, `beir/scifact`, `mteb/DuRetrieval`; case does not matter.
        place: folder that holds the sets' folders; None: the current one.

    Raises:
        InvalidInput: it is not there, and the message says how to fetch it; or it is the name of none.
    """
    word = name.lower().removeprefix("beir/").removeprefix("mteb/").removeprefix("c-mteb/")
    if word not in BEIR and word not in C_MTEB:
        raise InvalidInput(f"questions: expected a file, a folder or a set's name, got {shown(name, 200)}{_near(word)}")
    folder = (place or Path()) / word
    if folder.is_dir():
        return folder
    raise InvalidInput(f"questions: the public set {word} is not here ({folder.absolute()}): {_how(word)}")


def _near(word: str) -> str:
    close = difflib.get_close_matches(word, [*sets.LABELLED, *BEIR, *C_MTEB], n=1)
    if close:
        return f", which is not there; did you mean {close[0]!r}?"
    return (
        f", which is not there; sets that ship: {', '.join(sets.LABELLED)}; public ones: {', '.join((*BEIR, *C_MTEB))}"
    )


def _how(word: str) -> str:
    if word in BEIR:
        return (
            f"fetch {_ARCHIVE.format(name=word)} where the network is (without it: `hf download BeIR/{word} --repo-type "
            "dataset` with HF_ENDPOINT=https://hf-mirror.com, or copy the folder from another machine), unpack it here, or "
            "give its folder's path"
        )
    repository = C_MTEB[word]
    return (
        f"`hf download {repository} --repo-type dataset` and `hf download {repository}-qrels --repo-type dataset` (without "
        "the hub: HF_ENDPOINT=https://hf-mirror.com, or copy them from another machine), write them as BEIR has them "
        "(corpus.jsonl and queries.jsonl with `_id` and `text`, qrels/test.tsv with `query-id corpus-id score`), and give "
        "that folder's path"
    )
