"""What stands between the command lines in `tools/` and mmengine's Runner: configs, checks, launching."""
