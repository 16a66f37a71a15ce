"""ftq's own API under /ftq/v1: what a client on another machine needs, as `ftq.client.remote` asks for it."""
