"""Files in, documents out: what `gristmill ingest` reads.

    suffix                    format     one document per
    ------------------------  ---------  -------------------------------------------------
    .jsonl .ndjson            jsonl      line                              `-` is standard input, in this format
    .csv .tsv                 csv        row
    .parquet                  parquet    row                               needs `gristmill[files]`
    .txt .text                text       file, or paragraph on request
    .md .markdown             markdown   section under a heading, or file  front matter needs `gristmill[files]`

All but Parquet may end in `.gz` too. Folders are read recursively and sorted; hidden files are skipped.

Everything streams: memory holds one line, row batch or text file at a time. What cannot become a document becomes a
`Rejection` that names file, line, field, what came and what was expected, and reading goes on.

**Ids.** A record's own id field, else one derived so that reading the same file again gives the same id: the file's
name without suffixes and a hash of the text for records, the file's path below the given folder for text and Markdown.
"""

from gristmill.readers.base import Item
from gristmill.readers.reading import Format, read, total_bytes

__all__ = ["Format", "Item", "read", "total_bytes"]
