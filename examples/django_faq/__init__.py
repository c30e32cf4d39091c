"""A Django project whose entries are searched with Gristmill; explained in docs/howto/django.md."""
