"""`manage.py index_entries`: make the search what the table is. Cheap to repeat, since what is unchanged is skipped."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from django_faq.indexing import client, hand_over
from django_faq.models import Entry
from gristmill import GristmillError


class Command(BaseCommand):
    """Hand all entries over, and take out what is none any more."""

    help = "Hand every entry to Gristmill, and delete from the search what is not in the table any more."

    def handle(self, *_: Any, **__: Any) -> None:
        """Do it, and wait until it is stored."""
        name = settings.GRISTMILL_COLLECTION
        try:
            client().create_collection(name)
            job = hand_over(Entry.objects.order_by("pk").iterator(chunk_size=1000), block=True)
            gone = client().delete(name, _gone(name)).wait()
            report = job.wait()
        except GristmillError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{report.stored} stored, {report.skipped} unchanged, {gone.deleted} deleted, {report.dead} dead"
        )


def _gone(collection: str) -> Iterator[str]:
    """Ids that are found, and in no row; looked for in the table after they were found, since rows come before documents."""
    found = client().documents(collection)
    while some := [document.id for document in islice(found, 1000)]:
        there = set(Entry.objects.filter(pk__in=some).values_list("pk", flat=True))
        yield from (each for each in some if int(each) not in there)
