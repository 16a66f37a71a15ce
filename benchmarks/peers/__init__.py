"""The trainers that ftq is measured against: same model, same rows, same effective batch, one process each."""
