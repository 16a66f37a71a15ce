"""Records as other programs and collections write them, as pairs and chats."""
