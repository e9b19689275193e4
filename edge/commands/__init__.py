"""Groups of commands that are too long for `edge/cli.py`: one file a group, registered there."""
