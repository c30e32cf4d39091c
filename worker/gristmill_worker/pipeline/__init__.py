"""One parcel's way, stage by stage; knows no Celery."""
