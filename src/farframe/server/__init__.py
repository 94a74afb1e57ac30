"""A render server process: handshake, connection, commands, inspector and the frame loop."""
