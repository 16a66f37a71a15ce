"""What plain text may be: in another encoding than UTF-8, a mail with what it quotes and its signature."""
