"""dataset/ + base model -> adapter/ and metrics.jsonl, with checkpoints on the way."""
