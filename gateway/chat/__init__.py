"""Answers of tuned and base models in OpenAI's words: chat completions, completions and responses.

They come from the warm llama.cpp servers of this process, or from a server behind FTQ_CHAT_URL.
"""
