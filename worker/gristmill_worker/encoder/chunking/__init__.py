"""Long texts to chunks: where to cut them, and which headings stand above each place.

text ─► splitting ─► spans                     by text: paragraphs, sentences, words
text ─► splitting ─► arranging ─► spans        by Markdown: headings, blocks, then as above
           outline: the headings of a text, with their places
"""

from gristmill_worker.encoder.chunking.outline import Heading, outline
from gristmill_worker.encoder.chunking.splitting import Spans, TokenSplitter, counted_chunks, readable

__all__ = ["Heading", "Spans", "TokenSplitter", "counted_chunks", "outline", "readable"]
