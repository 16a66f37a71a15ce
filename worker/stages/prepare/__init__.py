"""documents/ -> dataset/: examples in train and valid, their tokens, and a report on every document."""
