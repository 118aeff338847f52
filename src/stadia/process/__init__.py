"""Shared parts of a process: signals, terminal, threads, memory, compiled code, and libraries that load late."""
