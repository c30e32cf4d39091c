"""Well-known families, tiny: each equals sentence-transformers, or is refused in a sentence that helps."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from families import FAMILIES, Family, built, page
from gristmill_schemas import Distance
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder import Vectors, open_encoder
from gristmill_worker.encoder.local.encoder import TransformersEncoder

from .conftest import TEXTS

pytestmark = pytest.mark.slow

RUN = [family for family in FAMILIES if family.refused is None]
INSTRUCTION = "Given a complaint, find the answer"
#: One beyond every window of a few hundred tokens.
LONG = "The old mill by the river grinds grain into flour, day after day. " * 30
INPUTS = [*(text for text in TEXTS if text), LONG]


def named(family: Family) -> str:
    return family.name


@pytest.fixture(scope="session")
def family_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@cache
def opened(family: Family, root: Path) -> tuple[TransformersEncoder, Any]:
    """Gristmill's encoder and sentence-transformers' over the same folder, which is made here."""
    from sentence_transformers import SentenceTransformer

    folder = built(family, root)
    encoder = open_encoder(str(folder), device="cpu", dtype="float32", budget_tokens=256)
    assert isinstance(encoder, TransformersEncoder)
    return encoder, _completed(SentenceTransformer(str(folder), device="cpu", local_files_only=True), family)


def _completed(peer: Any, family: Family) -> Any:
    if family.name == "E5-Mistral":
        # sentence-transformers pools from the text's last letter here; the model card's own recipe appends the token.
        from tokenizers import processors

        peer.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return peer


def equal(encoder: TransformersEncoder, inputs: list[str], expected: npt.NDArray[Any]) -> None:
    """Equal in one batch and alone, to 1e-5 in float32."""
    wanted: Vectors = np.asarray(expected, dtype=np.float32)
    together = encoder.encode(encoder.tokenize(inputs))
    alone = np.concatenate([encoder.encode(encoder.tokenize([text])) for text in inputs])
    np.testing.assert_allclose(together, wanted, atol=1e-5)
    np.testing.assert_allclose(alone, wanted, atol=1e-5)


@pytest.mark.parametrize("family", RUN, ids=named)
def test_a_family_gives_the_vectors_of_sentence_transformers(family: Family, family_root: Path) -> None:
    encoder, peer = opened(family, family_root)
    templates, options = encoder.info.templates, {"normalize_embeddings": encoder.info.normalize, "batch_size": 1}
    queries = peer.encode_query(INPUTS, prompt=family.query, **options)
    documents = peer.encode_document(INPUTS, prompt=family.document, **options)
    instructed = peer.encode(INPUTS, prompt=family.instructed.format(INSTRUCTION), **options)
    equal(encoder, [templates.for_query(text) for text in INPUTS], queries)
    equal(encoder, [templates.for_document(text) for text in INPUTS], documents)
    equal(encoder, [templates.for_query(text, INSTRUCTION) for text in INPUTS], instructed)
    assert encoder.info.dimensions == queries.shape[1]


@pytest.mark.parametrize("family", RUN, ids=named)
def test_the_page_of_models_says_how_a_family_runs(family: Family, family_root: Path) -> None:
    encoder, _ = opened(family, family_root)
    assert (encoder.packed, str(encoder.info.pooling)) == (family.packed, family.pooling)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.refused], ids=named)
def test_a_family_that_is_not_performed_is_refused_with_a_way_out(family: Family, tmp_path: Path) -> None:
    family.build(tmp_path / "m")
    with pytest.raises(ModelUnavailable) as refused:
        open_encoder(str(tmp_path / "m"), device="cpu")
    assert str(family.refused) in str(refused.value)
    assert "give its URL as the model" in str(refused.value)


def test_a_model_compared_by_dot_product_keeps_its_lengths_and_says_so(family_root: Path) -> None:
    family = next(each for each in FAMILIES if "dot" in each.name)
    encoder, _ = opened(family, family_root)
    assert (encoder.info.distance, encoder.info.normalize) == (Distance.DOT, False)


def test_the_page_of_models_is_what_their_folders_say(family_root: Path) -> None:
    kept = (Path(__file__).parents[3] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    assert kept == page(family_root), "run: make docs"
