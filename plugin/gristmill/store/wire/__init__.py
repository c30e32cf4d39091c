"""What goes to Qdrant over gRPC, past the client's own records: of vectors they cost more than all else that is done."""

from gristmill.store.wire.queries import query_message
from gristmill.store.wire.upserts import get_request, point_ids, upsert_request

__all__ = ["get_request", "point_ids", "query_message", "upsert_request"]
