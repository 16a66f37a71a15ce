"""Files and uploads: stored below the artifacts folder, told as OpenAI's objects."""
