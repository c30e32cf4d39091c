"""Groups of documents that are alike, by a collection's stored vectors: nobody has said before what kinds there are."""

from gristmill.search.clustering.clusterer import Clusterer

__all__ = ["Clusterer"]
