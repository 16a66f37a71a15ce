"""The truth: runs, stages, events, questions and workers. The only SQL of ftq stands in this folder."""
