"""Entries on their way into the search, each once the transaction that changed it is in."""

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from django_faq.models import Entry
from gristmill import Client, Document, Job

#: Raise it whenever `document` makes something else of an entry: under its old version nothing is overwritten.
FORM = 1


@cache
def client() -> Client:
    """One per process, made when first needed: after gunicorn or uwsgi have forked."""
    return Client(**settings.GRISTMILL)


def document(entry: Entry) -> Document:
    """What is searched of an entry, and what filters may ask for."""
    return Document(
        id=str(entry.pk),
        text=f"{entry.question}\n\n{entry.answer}",
        metadata={"lang": entry.language},
        version=FORM << 40 | entry.revision,
    )


def hand_over(entries: Iterable[Entry], *, block: bool = False) -> Job:
    """Enqueue entries as they are now; a full queue raises `QueueFull` unless `block`."""
    return client().enqueue(settings.GRISTMILL_COLLECTION, map(document, entries), block=block)


def connect() -> None:
    """Follow whatever changes an entry through its model."""
    post_save.connect(_saved, sender=Entry)
    post_delete.connect(_deleted, sender=Entry)


def _saved(instance: Entry, **_: Any) -> None:
    # Within the transaction a worker would be faster than the commit, and a rollback would leave its text in the search.
    # Robust: where Redis is away the change is logged and stays; `index_entries` makes up for it.
    transaction.on_commit(partial(_hand_over_one, instance.pk), robust=True)


def _hand_over_one(key: int) -> None:
    hand_over(Entry.objects.filter(pk=key))  # read again: what was saved is not always what is in the row


def _deleted(instance: Entry, **_: Any) -> None:
    # Now: Django takes the key from the instance before the transaction ends.
    gone = partial(client().delete, settings.GRISTMILL_COLLECTION, str(instance.pk))
    transaction.on_commit(gone, robust=True)
