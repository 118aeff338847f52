"""What a process shares: signals, terminal, threads, memory, compiled code, and libraries that load late."""
