"""Files in, documents out: what `gristmill ingest` reads.

    suffix                    format     one document per
    ------------------------  ---------  -------------------------------------------------
    .jsonl .ndjson            jsonl      line                              `-` is standard input, in this format
    .json                     json       element of an array                lines and one object are told apart from it
    .csv .tsv                 csv        row                               numbers and dates on request: `column_types`
    .parquet                  parquet    row                               needs `gristmill[files]`
    .txt .text                text       file, or paragraph on request
    .md .markdown             markdown   section under a heading, or file  front matter needs `gristmill[files]`
    .html .htm .xhtml         html       page                              needs `gristmill[files]`
    .pdf .docx .pptx .xlsx    docs       section under a heading, or file  needs `gristmill[docs]`
    .epub

`formats` is that table. All but Parquet and the last may end in `.gz`, `.bz2`, `.xz` or `.zst` too, and be in any
encoding: `files` is the way from a path to lines of text. Folders are read recursively and sorted; what they hold
besides is counted.

Everything streams: memory holds one line, row batch or text file at a time. What cannot become a document becomes a
`Rejection` that names file, line, field, what came and what was expected, and reading goes on: an exception of one record
is that record's, one of a file is that file's.

**Ids.** A record's own id field, else one derived so that reading the same file again gives the same id, and no two
documents share one: the file's path (`files.folders`), then `#` and what it is there: the text's hash for records, the
heading for Markdown, the number for paragraphs; the second one of a kind ends in `~2`.
"""

from gristmill.readers.base import Item
from gristmill.readers.formats import Format
from gristmill.readers.frames import from_frame
from gristmill.readers.reading import Reading, read, total_bytes

__all__ = ["Format", "Item", "Reading", "from_frame", "read", "total_bytes"]
