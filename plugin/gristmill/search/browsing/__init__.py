"""Looking through a collection without a query: whole documents page by page, and what values a field has."""

from gristmill.search.browsing.browser import Browser

__all__ = ["Browser"]
