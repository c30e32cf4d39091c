"""What clients of an MCP server may see and do: decided by whoever starts it, and by no client."""

from __future__ import annotations

from dataclasses import dataclass

from gristmill.arguments import identifier, integer, tenant_name


@dataclass(frozen=True)
class Access:
    """The bounds of one server.

    Raises:
        InvalidInput: one of them is wrong.
    """

    #: Collections that exist for its clients; empty for all.
    collections: tuple[str, ...] = ()
    #: Whose documents are seen and stored; None for those of nobody in particular.
    tenant: str | None = None
    #: Whether there is a tool that stores.
    writes: bool = False
    #: What searches are for where a client does not say it.
    instruction: str | None = None
    #: Most hits of one search.
    most_hits: int = 20
    #: Most characters of texts and metadata in one answer: what is beyond is cut, and said to be.
    most_characters: int = 20_000
    #: Longest wait until something is stored, seconds.
    store_wait_s: float = 60.0

    def __post_init__(self) -> None:
        for each in self.collections:
            identifier("collections", each)
        tenant_name(self.tenant)
        integer("most_hits", self.most_hits, 1, 1000)
        integer("most_characters", self.most_characters, 200)
