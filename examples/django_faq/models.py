"""What is searched: an entry of a help centre."""

from typing import Any

from django.db import models
from django.db.models import F


class Entry(models.Model):
    """A question and its answer."""

    question = models.CharField(max_length=200)
    answer = models.TextField()
    language = models.CharField(max_length=8, default="en")
    #: Counted by the database under the row's lock, so that it says which of two changes was the later one. A time of the
    #: application's clock cannot: whoever computes it first may be stored last.
    revision = models.PositiveBigIntegerField(default=1, editable=False)

    def save(self, **options: Any) -> None:
        """Store it under a higher revision."""
        if not self._state.adding:
            self.revision = F("revision") + 1
            if options.get("update_fields") is not None:
                options["update_fields"] = {*options["update_fields"], "revision"}
        super().save(**options)
