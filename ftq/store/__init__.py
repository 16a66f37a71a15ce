"""The truth: runs, stages, events, questions and workers. All of ftq's SQL is in this folder."""
