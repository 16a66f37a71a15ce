"""Sentences of other languages than English that state a figure or a place, and the questions that they answer."""
