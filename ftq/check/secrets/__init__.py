"""Text that looks like a secret: a model learns it by heart and tells it to whoever asks.

Keys with a form of their own, what is said to be a password, numbers with a check digit; a part of each is shown.
"""
