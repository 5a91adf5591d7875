"""One file a part: `run(setting)` says what came out. Each runs in a process of its own."""
