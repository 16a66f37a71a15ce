"""A file of any format becomes Markdown, safely: what it is, how it is decoded and converted, what is ignored.

Foreign bytes are parsed in a process of its own with limits. Whatever can't be used is named with what to do.
"""
