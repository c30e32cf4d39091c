"""LlamaIndex's nodes as documents, and what was found as nodes, relationships and all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from gristmill_schemas import SearchHit, StoredDocument

#: The document that a node was cut from, by which LlamaIndex deletes.
SOURCE: Final = "ref_doc_id"
#: What LlamaIndex keeps beside the user's own metadata.
_KEPT: Final = {"_node_content", "_node_type", "document_id", "doc_id", SOURCE}


def document_of(node: BaseNode, *, embed_metadata: bool) -> dict[str, Any]:
    """A node as a document: its id, its text, and its metadata with what else it takes to make the node again."""
    mode = MetadataMode.EMBED if embed_metadata else MetadataMode.NONE
    metadata = node_to_metadata_dict(node, remove_text=not embed_metadata)
    return {"id": node.node_id, "text": node.get_content(metadata_mode=mode), "metadata": metadata}


def node_of(found: SearchHit | StoredDocument, text: str | None = None) -> BaseNode:
    """The node that was stored, with its metadata as they are now; what LlamaIndex did not write is a text node.

    Args:
        found: what was found.
        text: all of its text, where `found` has a part of it.
    """
    whole, metadata = found.text if text is None else text, found.metadata
    if "_node_content" not in metadata:
        return TextNode(id_=found.id, text=whole, metadata=dict(metadata))
    node: BaseNode = metadata_dict_to_node(dict(metadata))
    if not node.get_content(metadata_mode=MetadataMode.NONE):
        node.set_content(whole)
    node.metadata = _own(node.metadata, metadata)
    return node


def _own(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The user's metadata: as they are stored now, but for keys that LlamaIndex has taken."""
    return {key: value for key, value in then.items() if key in _KEPT} | {
        key: value for key, value in now.items() if key not in _KEPT
    }
