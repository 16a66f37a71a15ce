"""What a folder of documents teaches, before anything is trained: `ftq check`, and the page that prepare writes.

Each document, what is wrong with it and what to do, rows as the model sees them, their lengths. Without torch.
"""
