"""A run as one page that a person likes to look at: report.html.

`gather` reads what the run's folder has, `page` writes it; `plot` is what both the page's charts and loss.png draw.
"""
