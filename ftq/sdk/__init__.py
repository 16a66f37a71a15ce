"""The Python SDK: `from ftq import Client, RunSpec`, over the database or through FTQ_SERVER."""
