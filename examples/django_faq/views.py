"""Searching: the query's vector comes from a worker, the hits from Qdrant."""

from django.conf import settings
from django.http import HttpRequest, JsonResponse

from django_faq.indexing import client
from gristmill import InvalidInput, NoWorker, StoreUnavailable, WaitTimeout

INSTRUCTION = "preset:faq"


def search(request: HttpRequest) -> JsonResponse:
    """The entries that solve what somebody describes."""
    query, where = request.GET.get("q", ""), {"lang": lang} if (lang := request.GET.get("lang")) else None
    try:
        hits = client().search(settings.GRISTMILL_COLLECTION, query, instruction=INSTRUCTION, where=where, limit=5)
    except InvalidInput as error:
        return JsonResponse({"error": str(error)}, status=400)
    except (NoWorker, StoreUnavailable, WaitTimeout) as error:
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({"hits": [{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits]})
