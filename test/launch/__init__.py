"""The launch files, read as Python everywhere and run for real where `launch` is installed."""
