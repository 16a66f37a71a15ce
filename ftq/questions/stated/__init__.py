"""Sentences that state a figure or a place, and the questions that they answer: English ones by what stands around the
figure (measures.py) or in its place (in_place.py), those of other languages by patterns (figures.py). And the keywords
of sentences (keywords.py)."""
