"""llama.cpp, always in a process of its own that never imports torch.

Others ask through pool.py, a bounded set of warm servers.
"""
