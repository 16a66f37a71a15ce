"""Sentences that state a figure or a place in other languages than English (figures.py), and the keywords of any
sentence (keywords.py)."""
