"""The sockets, the connections, and the bodies that come in."""
