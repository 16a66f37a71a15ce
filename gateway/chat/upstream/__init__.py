"""Who answers: the warm llama.cpp servers of this process, or a server behind a URL. Both stream OpenAI's chunks."""
