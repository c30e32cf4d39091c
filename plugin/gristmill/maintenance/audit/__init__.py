"""Audit: what was accepted against what Qdrant holds, document by document, in bounded memory.

    expectations                             looked up in Qdrant          explained by           else
    the caller's documents, if any     ─┐
    the ledger's roster, if it keeps one ├─► present, version, content, ─► pending parcel,  ──►  a gap: reported,
    what a scan of Qdrant itself shows  ─┘   chunks, fingerprint           dead letter,          and with repair
                                                                           tombstone             enqueued again

A document that is not as expected is looked at again after the ledger has been asked, so that work which finishes while
the audit runs is no gap. What Qdrant holds and the roster does not know is counted, and with repair put back on it
(`enlisting`): so a ledger that was lost knows again what should be there. Memory: one page of documents, 8 bytes per
document looked at, and the first 1,000 findings.
"""

from gristmill.maintenance.audit.auditor import Auditor

__all__ = ["Auditor"]
