"""The runtime: a sealed bundle behind a camera loop, on the board or emulated on a host."""
