"""Every limit of the contract, in one place. Bytes are UTF-8 bytes."""

from __future__ import annotations

from typing import Final

#: Longest document id or tenant, in characters. Ids are hashed into point ids, so longer ones gain nothing.
MAX_ID_CHARS: Final = 512
#: Longest text of one document: about 250,000 tokens of English, far above any model's window; chunking sees it whole.
MAX_TEXT_BYTES: Final = 1024 * 1024
#: Largest metadata of one document, as compact JSON.
MAX_METADATA_BYTES: Final = 64 * 1024
#: Deepest nesting of metadata. Qdrant's gRPC decoder gives up near 30; a clear error here beats a refused write there.
MAX_METADATA_DEPTH: Final = 16
#: Most documents in one of a job's first parcels: few enough that a short job keeps all workers busy.
FIRST_PARCEL_DOCUMENTS: Final = 64
#: Most documents in any parcel: in a long job what a parcel costs is shared by more texts, if they are short.
MAX_PARCEL_DOCUMENTS: Final = 256
#: Most bytes in one parcel, unless a single document is larger: then it travels alone.
MAX_PARCEL_BYTES: Final = 256 * 1024
#: Largest decompressed parcel a worker accepts: one maximal document and its JSON escapes, with room. Stops bombs.
MAX_PARCEL_INFLATED_BYTES: Final = 16 * 1024 * 1024
#: Longest instruction, in characters.
MAX_INSTRUCTION_CHARS: Final = 2_000
#: Highest version of an instruction: what Qdrant's JSON and everybody's integers hold.
MAX_INSTRUCTION_VERSION: Final = 2**31 - 1
#: Most registered instructions of one collection, all versions counted: every read of its description carries them.
MAX_INSTRUCTIONS: Final = 500
#: Most lenses of one collection: each is one more vector of every text, and one more pass through the model.
MAX_LENSES: Final = 16
#: Longest query, in bytes.
MAX_QUERY_BYTES: Final = 64 * 1024
#: Most texts in one query request.
MAX_QUERY_TEXTS: Final = 256
#: Most bytes of texts in one query request, templates included: one maximal document with its template fits.
MAX_REQUEST_TEXT_BYTES: Final = 2 * 1024 * 1024
#: Largest query request that a worker reads: its texts, escaped as JSON.
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
#: Most candidates of one search that are reranked: each is a pass of a cross-encoder over query and document.
MAX_RERANKED: Final = 1_000
#: Most dimensions of a vector: Qdrant takes no more.
MAX_DIMENSIONS: Final = 65_536
#: Most chunks that one document may be cut into.
MAX_CHUNKS: Final = 4096
#: Longest API key. Servers take headers of 8 KiB in all, as a rule.
MAX_KEY_CHARS: Final = 4096
