"""The page at /, for people: runs as they go, submitting, asking. Server-rendered; the script only adds what moves.

A person logs in with a key and sees what the key sees. `routes` says which address is answered by whom.
"""
