"""The HTTP and WebSocket server of the inbox."""
