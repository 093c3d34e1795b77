"""Batches by client libraries that were written for other servers, unmodified, over sockets.

`service` is what they talk to, behind one endpoint for each family of clients. Python's clients run
in the tests' own process; those of npm in `node`, each in a script of its own (`*.js`).
"""

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
"""What `me/photo/$value` of the service is."""
