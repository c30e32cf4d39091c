"""Point ids: the same forever, since redelivered work finds by them what it wrote before."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from gristmill_schemas import point_id
from gristmill_schemas.point import POINT_NAMESPACE


@given(st.text(max_size=40), st.none() | st.text(max_size=20), st.integers(0, 2000))
def test_a_point_id_is_the_uuid5_of_tenant_document_and_chunk(document_id: str, tenant: str | None, chunk: int) -> None:
    owner = tenant or ""
    expected = uuid.uuid5(POINT_NAMESPACE, f"{len(owner)}:{owner}{document_id}#{chunk}")
    assert point_id(document_id, tenant, chunk) == str(expected)
