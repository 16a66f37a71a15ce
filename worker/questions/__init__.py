"""Questions that a language model writes on documents, and what is kept of them.

writer.py is the face: sections in, question-answer pairs out, each section asked once. No torch here.
"""
