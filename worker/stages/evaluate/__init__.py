"""model-<type>.gguf -> eval.json: did it learn? The base model and each file answer the same questions."""
