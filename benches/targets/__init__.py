"""One module per kind of server, each a `Target`."""
