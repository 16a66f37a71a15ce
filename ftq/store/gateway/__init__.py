"""What the gateway keeps: keys, files, uploads, and what jobs were asked with. Runs themselves are RunStore's."""
