"""The control socket: other processes of this machine ask a running server for something."""
