"""What a text is encoded in that is neither UTF-8 nor marked: named for whoever has to convert it, never read so."""
