"""The app; it listens to changes once its models are there."""

from django.apps import AppConfig


class FaqConfig(AppConfig):
    """Entries of a help centre."""

    name = "django_faq"

    def ready(self) -> None:
        """Connect the signals."""
        from django_faq import indexing

        indexing.connect()
