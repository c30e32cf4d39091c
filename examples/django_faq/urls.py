"""One route: /search?q=…"""

from django.urls import path

from django_faq.views import search

urlpatterns = [path("search", search)]
