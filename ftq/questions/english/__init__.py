"""English sentences turned into the questions that they answer; other languages leave this out.

sentence.py takes a sentence apart. A clause is asked for as a whole, for its subject, for an amount by its verb
(amounts.py), and for a value, in the first words of the question (value.py) or where the value stands (in_place.py).
Advice is asked for as such (advice.py).
"""
