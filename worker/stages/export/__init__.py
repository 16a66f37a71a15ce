"""adapter/ + base model -> merged/, model-<type>.gguf, Modelfile and the model card."""
