"""The frame and the style that preview.html and report.html share: pages that need nothing beside them."""
