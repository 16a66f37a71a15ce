"""Where a long text is best cut, and what each of its parts needs so that it can be read by itself."""
