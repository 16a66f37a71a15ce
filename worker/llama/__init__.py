"""llama.cpp, always in a process of its own that never imports torch.

pool.py is the face: a bounded set of warm servers that answer questions. convert.py and quantize.py write GGUF files.
"""
