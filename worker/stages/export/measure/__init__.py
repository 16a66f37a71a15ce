"""What is measured on a model before it is published.

measure.py goes through it step by step; the other modules each have one question, and the answers are export.json.
"""
