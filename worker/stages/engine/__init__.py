"""Who computes: the model with its adapter, by Unsloth or by transformers."""
