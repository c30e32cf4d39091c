"""The live page, `/live/`: what the mill does now, what is wrong with it and what to type, and a search box.

Its own JSON routes, `/live/api/…`, belong to the page: they may change with any version.
"""
